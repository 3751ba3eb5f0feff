"""The page that maps the paper to code names only what exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")


def test_every_step_has_its_row() -> None:
    assert re.findall(r"^\| (S\d) ", PAGE, re.MULTILINE) == ["S1", "S2", "S3", "S4", "S5", "S6"]


def test_every_path_exists() -> None:
    named = re.findall(r"`((?:slmfleet|trainers|charts)/[\w./]+)`", PAGE)
    assert named
    assert [path for path in named if not any((ROOT / base / path).exists() for base in ("", "operator"))] == []


def test_every_command_exists() -> None:
    from slmfleet.cli.main import COMMANDS

    assert [name for name in re.findall(r"`slmfleet ([a-z-]+)", PAGE) if name not in COMMANDS] == []
