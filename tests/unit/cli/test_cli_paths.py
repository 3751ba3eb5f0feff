"""No command lays an output on what it reads, on another output, or where the next run takes it for log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slmfleet.cli.main import app

LINE = b'{"id": "1", "text": "Write to anna.meier@example.org"}\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one of everything that commands read, and other names for the log."""
    monkeypatch.chdir(tmp_path)
    for name in ("log.jsonl", "logs/day.jsonl", "logs/notes.txt", "deny.txt", "ours.yaml", "key.txt", "trace.jsonl",
                 "fleet.yaml"):  # fmt: skip
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(LINE)
    for name in ("clusters.json", "assignments.jsonl", "centroids.json"):
        Path("found").mkdir(exist_ok=True)
        Path("found", name).write_bytes(LINE)
    Path("symbolic.jsonl").symlink_to("log.jsonl")
    Path("hard.jsonl").hardlink_to("log.jsonl")
    Path("again").symlink_to("logs")
    return tmp_path


def slmfleet(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), prog_name="slmfleet")


DISCOVER = "discover --out f --records"
CURATE = "curate --clusters found --cluster a --out d --records"
REDACT = "redact --records log.jsonl"


@pytest.mark.parametrize(
    ("command", "output", "other"),
    [
        (f"{DISCOVER} log.jsonl --rejected log.jsonl", "--rejected log.jsonl", "--records"),
        (f"{DISCOVER} log.jsonl --rejected ./logs/../log.jsonl", "--rejected logs/../log.jsonl", "--records"),
        (f"{DISCOVER} log.jsonl --rejected symbolic.jsonl", "--rejected symbolic.jsonl", "--records"),
        (f"{DISCOVER} log.jsonl --rejected hard.jsonl", "--rejected hard.jsonl", "--records"),
        (f"{DISCOVER} *.jsonl --rejected log.jsonl", "--rejected log.jsonl", "--records"),
        (f"{DISCOVER} *.jsonl --rejected new.jsonl", "--rejected new.jsonl", "--records *.jsonl"),
        (f"{DISCOVER} logs/**/*.jsonl --rejected logs/new.jsonl", "--rejected logs/new.jsonl", "--records logs/**"),
        (f"{DISCOVER} logs --rejected logs/day.jsonl", "--rejected logs/day.jsonl", "--records"),
        (f"{DISCOVER} logs --rejected again/day.jsonl", "--rejected again/day.jsonl", "--records"),
        (f"{DISCOVER} logs --rejected logs/new.jsonl", "--rejected logs/new.jsonl", "--records logs"),
        (f"{DISCOVER} logs --rejected again/new.jsonl.gz", "--rejected again/new.jsonl.gz", "--records logs"),
        (f"{DISCOVER} log.jsonl --rejected key.txt --identity key.txt", "--rejected key.txt", "--identity"),
        (f"{DISCOVER} log.jsonl --rejected ours.yaml --patterns ours.yaml", "--rejected ours.yaml", "--patterns"),
        (f"{DISCOVER} log.jsonl --rejected deny.txt --deny x --deny deny.txt", "--rejected deny.txt", "--deny"),
        (f"{DISCOVER} log.jsonl --rejected f/result.json", "--rejected f/result.json", "--out"),
        (f"{DISCOVER} log.jsonl --rejected f", "--rejected f", "--out"),
        (f"{DISCOVER} log.jsonl --rejected p --publish p", "--rejected p", "--publish"),
        (f"{DISCOVER} log.jsonl --rejected found/centroids.json --previous found", "--rejected", "--previous"),
        (f"{DISCOVER} log.jsonl --rejected found/clusters.json --trained a=found", "--rejected", "--trained"),
        (f"{DISCOVER} log.jsonl --rejected key.txt --in-use key.txt", "--rejected key.txt", "--in-use"),
        ("discover --records log.jsonl --out log.jsonl", "--out log.jsonl", "--records"),
        ("discover --records logs --out logs", "--out logs", "--records logs"),
        ("discover --records logs --out logs/found", "--out logs/found", "--records logs"),
        ("discover --records found/assignments.jsonl --out found", "--out found/assignments.jsonl", "--records"),
        (f"{CURATE} log.jsonl --rejected log.jsonl", "--rejected log.jsonl", "--records"),
        (f"{CURATE} logs --rejected logs/new.ndjson", "--rejected logs/new.ndjson", "--records logs"),
        (f"{CURATE} log.jsonl --rejected found/clusters.json", "--rejected found/clusters.json", "--clusters"),
        (f"{CURATE} log.jsonl --rejected d/train.jsonl", "--rejected d/train.jsonl", "--out"),
        ("curate --clusters found --cluster a --out logs/d --records logs", "--out logs/d", "--records logs"),
        (f"{REDACT} --out log.jsonl --report r", "--out log.jsonl", "--records"),
        (f"{REDACT} --out hard.jsonl --report r", "--out hard.jsonl", "--records"),
        (f"{REDACT} --out o --report symbolic.jsonl", "--report symbolic.jsonl", "--records"),
        (f"{REDACT} --out o --report ./o", "--report o", "--out"),
        (f"{REDACT} --out deny.txt --report r --deny deny.txt", "--out deny.txt", "--deny"),
        (f"{REDACT} --out o --report ours.yaml --patterns ours.yaml", "--report ours.yaml", "--patterns"),
        ("simulate --trace trace.jsonl --fleet fleet.yaml --out trace.jsonl", "--out trace.jsonl", "--trace"),
        ("simulate --trace trace.jsonl --fleet fleet.yaml --out fleet.yaml", "--out fleet.yaml", "--fleet"),
        ("crds --out crds --chart ./crds", "--chart crds/", "--out"),
    ],
)
def test_an_output_is_never_laid_on_an_input_or_on_another_output(
    place: Path, command: str, output: str, other: str
) -> None:
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    done = slmfleet(*command.split())
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "") and line.startswith(f"slmfleet: {output}")
    assert other in line.removeprefix(f"slmfleet: {output}")
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "command",
    [
        "discover --records log.jsonl --out f --rejected f/rejected.jsonl",
        "discover --records logs --out f --rejected logs/rejected.txt",
        "discover --records *.jsonl --out f --rejected f/rejected.jsonl",
        "discover --records log.jsonl --out f --rejected /dev/null",
        "redact --records log.jsonl --out o.jsonl --report r.json --model none",
    ],
)
def test_outputs_beside_the_inputs_are_written(place: Path, command: str) -> None:
    done = slmfleet(*command.split())
    assert done.exit_code == 0, done.output
    assert Path("log.jsonl").read_bytes() == LINE and Path("logs/day.jsonl").read_bytes() == LINE


def test_a_run_may_take_the_place_of_the_one_before(place: Path) -> None:
    assert slmfleet("discover", "--records", "log.jsonl", "--out", "f").exit_code == 0
    again = slmfleet("discover", "--records", "log.jsonl", "--out", "f", "--previous", "f")
    assert again.exit_code == 0, again.output
    assert json.loads(Path("f/result.json").read_text())
