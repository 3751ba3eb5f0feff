"""`slmfleet simulate` as people and programs call it, against golden files; and its page."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from slmfleet.cli.main import app
from slmfleet.simulate.fleetfile import Adapter, Fleet, NextTier, PoolFile, Service
from slmfleet.simulate.outcomes import REASONS
from slmfleet.simulate.results import Result as Simulated
from slmfleet.simulate.systems import SYSTEMS

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/simulate"
PAGE = (ROOT / "docs/simulate.md").read_text(encoding="utf-8")
FILES = ("--trace", GOLDEN / "trace.jsonl", "--fleet", GOLDEN / "fleet.yaml")


def call(*args: object) -> Result:
    done = CliRunner().invoke(app, ["simulate", *map(str, args)], prog_name="slmfleet")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_the_result_and_the_table_are_the_golden_ones(tmp_path: Path) -> None:
    shown = call(*FILES, "--out", tmp_path / "result.json")
    assert shown.exit_code == 0, shown.stderr
    found = {"result.json": (tmp_path / "result.json").read_text(), "table.txt": shown.stdout}
    for name, text in found.items():
        if os.environ.get("SLMFLEET_GOLDEN") == "write":
            (GOLDEN / name).write_text(text)
        assert text == (GOLDEN / name).read_text(), "run again with SLMFLEET_GOLDEN=write and read the difference"


def test_json_goes_to_a_program_and_progress_to_stderr() -> None:
    done = call(*FILES, "--json", "--system", "HPA", "--system", "slmfleet")
    assert [system["name"] for system in json.loads(done.stdout)["systems"]] == ["hpa", "slmfleet"]
    assert done.stderr.splitlines() == ["simulate: hpa", "simulate: slmfleet"]


REFUSED: list[tuple[tuple[object, ...], str]] = [
    (("--trace", "gone.jsonl", *FILES[2:]), "gone.jsonl: No such file"),
    ((*FILES[:2], "--fleet", ROOT), f"{ROOT}: Is a directory"),
    ((*FILES[:2], "--fleet", GOLDEN / "trace.jsonl"), "not YAML"),
    ((*FILES, "--out", "/gone/result.json"), "/gone/result.json: No such file"),
    ((*FILES, "--system", "magic"), "--system magic: not one of slmfleet, round-robin"),
]


@pytest.mark.parametrize("args, said", REFUSED, ids=[row[1][-20:] for row in REFUSED])
def test_what_cannot_be_simulated_is_one_line_on_stderr(args: tuple[object, ...], said: str) -> None:
    done = call(*args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def keys(model: type[BaseModel]) -> set[str]:
    """Every key of a result, at every depth."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= keys(part)
    return found


def test_every_key_option_system_and_reason_is_on_the_page() -> None:
    wanted: set[Any] = keys(Simulated) | {system.name for system in SYSTEMS} | set(REASONS)
    for model in (Fleet, PoolFile, Service, Adapter, NextTier):
        wanted |= {field.alias or name for name, field in model.model_fields.items()}
    wanted |= {"--trace", "--fleet", "--out", "--system", "--worst", "--seed", "--json"}
    assert {word for word in wanted if f"`{word}`" not in PAGE} == set()


def test_the_pages_example_is_the_golden_fleet_and_its_table() -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL)
    assert (GOLDEN / "fleet.yaml").read_text() in blocks
    assert any(block.endswith((GOLDEN / "table.txt").read_text()) for block in blocks)
