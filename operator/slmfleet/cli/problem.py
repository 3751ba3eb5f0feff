"""How a command fails: one line on stderr that says what, where and what to do."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NoReturn

import typer


def read(option: str, path: Path) -> str:
    """The text of a file that an option names; what cannot be read ends the command."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        fail(f"{option}{path}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{option}{path}: not UTF-8 text")


def ready_folder(path: Path) -> None:
    """Make the folder, or raise OSError: found out before the work, not after it."""
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def ready_file(path: Path) -> None:
    """The same for a file."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    ready_folder(path.parent)


def fail(message: str, code: int = 2) -> NoReturn:
    """End the command. What a library says over several lines comes as one, and without its link to a manual."""
    said = re.sub(r"\s*For further information visit \S+", "", message)
    typer.echo(f"slmfleet: {' '.join(said.split())}", err=True)
    raise typer.Exit(code)
