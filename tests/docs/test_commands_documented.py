"""docs/commands.md has every command, and every option of those that have no page of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from slmfleet.cli.main import COMMANDS, app

PAGE = (Path(__file__).resolve().parents[2] / "docs/commands.md").read_text("utf-8")
IN_A_POD = {"operator", "follow-routes", "uninstall"}


def options(command: str) -> set[str]:
    group = typer.main.get_command(app)
    context = group.make_context("slmfleet", ["crds"], resilient_parsing=True)
    _, found, _ = group.resolve_command(context, [command])  # type: ignore[attr-defined]
    subcommands = getattr(found, "commands", {}).values()
    given = [o for c in (found, *subcommands) for p in c.params for o in p.opts]
    return {o for o in given if o.startswith("--")} - {"--help"}


def test_every_command_for_people_is_on_the_page() -> None:
    assert not {name for name in COMMANDS if f"`{name}`" not in PAGE} - IN_A_POD


@pytest.mark.parametrize("command", ["select", "verdict", "keys", "crds", "clean", "status"])
def test_every_option_is_documented(command: str) -> None:
    heading = next(h for h in PAGE.split("\n## ") if f"`slmfleet {command}`" in h.splitlines()[0])
    assert not sorted(o for o in options(command) if not re.search(rf"{re.escape(o)}\b", heading))
