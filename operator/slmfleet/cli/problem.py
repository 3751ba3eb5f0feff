"""How a command fails: one line on stderr that says what, where and what to do."""

from __future__ import annotations

from typing import NoReturn

import typer


def fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"slmfleet: {message}", err=True)
    raise typer.Exit(code)
