"""How a command fails: one line on stderr that says what, where and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import typer


def read(option: str, path: Path) -> str:
    """The text of a file that an option names; what cannot be read ends the command."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{option}{path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{option}{path}: not UTF-8 text")


def fail(message: str, code: int = 2) -> NoReturn:
    """End the command. What a library says over several lines comes as one, and without its link to a manual."""
    said = re.sub(r"\s*For further information visit \S+", "", message)
    typer.echo(f"slmfleet: {' '.join(said.split())}", err=True)
    raise typer.Exit(code)
