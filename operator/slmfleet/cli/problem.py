"""How a command fails: one line on stderr that says what, where and what to do."""

from __future__ import annotations

import re
from typing import NoReturn

import typer


def fail(message: str, code: int = 2) -> NoReturn:
    """End the command. What a library says over several lines comes as one, and without its link to a manual."""
    said = re.sub(r"\s*For further information visit \S+", "", message)
    typer.echo(f"slmfleet: {' '.join(said.split())}", err=True)
    raise typer.Exit(code)
