"""Removes folders of the store that were named to it: all of each, or nothing outside it.

A folder is renamed before its files go, so that no reader finds half of it. Links are not followed. May be killed
anywhere: run again, it goes on. What may go is decided elsewhere.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from slmfleet.wire.jobs import FOLDER

_GOING = ".removed-"


@dataclass(frozen=True)
class Removed:
    """One folder: its files and bytes. `found` is False where there was none."""

    path: str
    found: bool
    files: int = 0
    bytes: int = 0


def remove(store: Path, path: str, *, dry_run: bool = False) -> Removed:
    """Remove one folder, or only say what would go. ValueError where the name is none that the operator gives; OSError
    where the store refuses."""
    if not FOLDER.fullmatch(path):
        raise ValueError(f"{path!r} is no folder of the operator: KIND/NAME-DIGEST")
    folder = store / path
    going = folder.with_name(_GOING + folder.name)
    present = [each for each in (folder, going) if each.is_dir() and not each.is_symlink()]
    sizes = [file.lstat().st_size for each in present for file in each.rglob("*") if not file.is_dir()]
    if not dry_run:
        if going in present:
            shutil.rmtree(going)
        if folder in present:
            folder.rename(going)
            shutil.rmtree(going)
    return Removed(path, bool(present), len(sizes), sum(sizes))
