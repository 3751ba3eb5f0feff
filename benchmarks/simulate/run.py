"""Our planner and choice of a server beside others, simulated on production arrivals.

    python benchmarks/simulate/run.py [--data DIR] [--seeds 3] [--out benchmarks/simulate/results.md]

Arrivals and lengths are Azure's conversation and code traces (CC BY 4.0), each call given to one of 20 or 100
specialists by a Zipf law; the fleet is examples/simulate/fleet.yaml. A seed draws both the specialists and the choices.
Every system sees the same arrivals of a seed. Nothing was tuned on the results but what the page says.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "operator")]

from slmfleet.simulate.fleetfile import Fleet, read_fleet  # noqa: E402
from slmfleet.simulate.results import SystemFigures  # noqa: E402
from slmfleet.simulate.simulation import run_system, simulate  # noqa: E402
from slmfleet.simulate.systems import BY_NAME, OURS, SYSTEMS  # noqa: E402
from slmfleet.simulate.trace import Trace, read_trace  # noqa: E402


@dataclass(frozen=True)
class Setting:
    """`slots`: adapters a server holds. `load_seconds`: to load one."""

    trace: str
    specialists: int
    slots: int = 16
    load_seconds: float = 0.2

    @property
    def title(self) -> str:
        return (f"{self.trace}, {self.specialists} specialists, {self.slots} slots a server, "
                f"{self.load_seconds:g} s to load an adapter")


SETTINGS = (Setting("conv", 20), Setting("conv", 100), Setting("code", 20), Setting("code", 100),
            Setting("conv", 100, load_seconds=3.0), Setting("code", 100, load_seconds=3.0),
            Setting("conv", 100, slots=128), Setting("code", 100, slots=128))


def main() -> None:
    options = _options()
    if not options.data.is_dir():
        sys.exit(f"benchmarks/simulate: {options.data} is no folder; name one with --data or SLMFLEET_DATA")
    parts = [_head(options.seeds), _speed(options.calls)]
    with tempfile.TemporaryDirectory() as name:
        for setting in SETTINGS:
            print(setting.title, file=sys.stderr, flush=True)
            runs = [_run(setting, options.data, Path(name), seed) for seed in range(options.seeds)]
            parts.append(f"## {setting.title[0].upper()}{setting.title[1:]}\n\n{_table(runs)}")
    page = "\n\n".join(parts) + "\n\n" + (HERE / "reading.md").read_text(encoding="utf-8")
    if options.out:
        options.out.write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("SLMFLEET_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data / "traffic", help="folder of the two CSV files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the run that is timed; 0: none")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _run(setting: Setting, data: Path, work: Path, seed: int) -> list[SystemFigures]:
    calls = work / "calls.jsonl"
    subprocess.run([sys.executable, ROOT / "examples/simulate/azure_trace.py",
                    data / f"AzureLLMInferenceTrace_{setting.trace}.csv", "--specialists", str(setting.specialists),
                    "--seed", str(seed), "--out", calls], check=True, capture_output=True)
    return simulate(read_trace(calls), _fleet(setting), seed).systems


def _fleet(setting: Setting) -> Fleet:
    fleet = read_fleet(ROOT / "examples/simulate/fleet.yaml")
    only = fleet.pools[0]
    changed = only.model_copy(update={
        "pool": only.pool.model_copy(update={"adapter_slots": setting.slots}),
        "service": only.service.model_copy(update={"adapter_load_seconds": setting.load_seconds})})
    return fleet.model_copy(update={"pools": [changed]})


def _table(runs: list[list[SystemFigures]]) -> str:
    head = ("| system | turned away (least to most) | latency p50 | p95 | p99 | first token p95 | server-hours | loads "
            "| cost |\n|---|---|---|---|---|---|---|---|---|\n")
    return head + "\n".join(_row([run[number] for run in runs]) for number in range(len(SYSTEMS)))


def _row(found: list[SystemFigures]) -> str:
    def over(read: Any) -> float:
        return mean(read(system) for system in found)

    away = [system.figures.turned_away_share for system in found]
    cells = (f"**{OURS}**" if found[0].name == OURS else found[0].name,
             f"{mean(away):.2%} ({min(away):.2%} to {max(away):.2%})",
             *(f"{over(lambda s, q=q: getattr(s.figures.latency_seconds, q)):.2f} s" for q in ("p50", "p95", "p99")),
             f"{over(lambda s: s.figures.time_to_first_token_seconds.p95):.2f} s",
             f"{over(lambda s: s.replica_seconds) / 3600:.2f}", f"{over(lambda s: s.figures.adapter_loads):,.0f}",
             f"{over(lambda s: s.cost.total):.2f}")
    return "| " + " | ".join(cells) + " |"


def _head(seeds: int) -> str:
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    runs = "One seed" if seeds == 1 else f"Means of {seeds} seeds"
    return f"""# A fleet on production arrivals

Simulated ([what is not covered](../../docs/simulate.md#what-it-does-not-cover)): the engine's speed is that of
[examples/simulate/fleet.yaml](../../examples/simulate/fleet.yaml), a round guess and no measurement. So compare rows,
and take no row for a promise. {runs}; `make bench-simulate` on {time.strftime("%Y-%m-%d")}, commit
{commit}, Python {platform.python_version()}, {os.cpu_count()} shared cores. Traces: Azure's LLM inference traces of
2023 (CC BY 4.0), 19,366 calls of conversations and 8,819 of code in just under an hour each. What was turned away
went to the LLM, and is in latency and cost as such."""


def _speed(calls: int) -> str:
    if not calls:
        return "Speed was not measured in this run."
    trace, fleet = _poisson(calls), _fleet(Setting("", 20, slots=32))
    begun = time.process_time()
    run_system(BY_NAME[OURS], trace, fleet, 0, lambda system, done: None)
    took = time.process_time() - begun
    return (f"Speed: {calls:,} Poisson arrivals of 20 specialists take {took:.0f} CPU seconds a system "
            f"({took / calls * 1e6:.0f} microseconds a call), reading the file not included.")


def _poisson(calls: int) -> Trace:
    rng, now = random.Random(0), 0.0

    def times() -> Iterator[float]:
        nonlocal now
        for _ in range(calls):
            now += rng.expovariate(40)
            yield now

    return Trace(tuple(f"task-{n:03d}" for n in range(20)), list(times()), rng.choices(range(20), k=calls),
                 [1 + int(rng.expovariate(1 / 500)) for _ in range(calls)],
                 [1 + int(rng.expovariate(1 / 60)) for _ in range(calls)], "")


if __name__ == "__main__":
    main()
