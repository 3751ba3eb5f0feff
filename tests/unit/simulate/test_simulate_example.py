"""examples/simulate: columns of the Azure traces become a trace that the example's fleet can be simulated on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from slmfleet.simulate.fleetfile import read_fleet
from slmfleet.simulate.simulation import simulate
from slmfleet.simulate.systems import BY_NAME, OURS
from slmfleet.simulate.trace import read_trace

EXAMPLE = Path(__file__).parents[3] / "examples" / "simulate"


def test_azures_columns_become_a_trace_with_a_zipf_law_of_tasks(tmp_path: Path) -> None:
    source, out = tmp_path / "azure.csv", tmp_path / "calls.jsonl.gz"
    rows = [f"2023-11-16 18:{n // 60 % 60:02d}:{n % 60:02d}.9799600,{100 + n % 7},{n % 50}" for n in range(1500)]
    source.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    command = [sys.executable, EXAMPLE / "azure_trace.py", source, "--specialists", "10", "--seed", "3", "--out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    first = out.read_bytes()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert out.read_bytes() == first
    calls = read_trace(out)
    assert (len(calls.times), calls.seconds) == (1500, 1499.0)
    counts = [count for _, count in Counter(calls.specialist).most_common()]
    assert len(counts) == 10
    assert 7 < counts[0] / counts[-1] < 15
    found = simulate(calls, read_fleet(EXAMPLE / "fleet.yaml"), 0, [BY_NAME[OURS]]).systems[0]
    assert found.figures.served == 1500
