"""Deletes the days of a log that are older than it is kept: whole folders `<log>/YYYY-MM-DD`, never anything else.

A day is past when all of it is older than the days asked for, by the UTC date of `today`; so a segment lives that many
days, and at most one more. In such a folder only what a log's writer makes is deleted (segments, and temporary files
that a kill left behind); whatever else lies there stays, and its folder with it. Links are not followed.

May run beside writers, readers and itself, and may be killed anywhere: the next run goes on.

What this does not cover: a clock that is ahead deletes too early. Copies and snapshots of the store are their owner's.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from slmfleet.store.segments import SUFFIX

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_OURS = (SUFFIX, ".tmp")


@dataclass(frozen=True, slots=True)
class Expired:
    """What a run deleted: folders of a day, and segments in all of them."""

    days: int = 0
    segments: int = 0


def expire(log: Path, keep_days: int, today: date) -> Expired:
    """Delete the past days of one log. Raises OSError where the store refuses."""
    days = segments = 0
    try:
        root = os.open(log, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Expired()
    try:
        for name in _names(root):
            if _is_past(name, keep_days, today):
                gone, deleted = _delete(root, name)
                days += gone
                segments += deleted
    finally:
        os.close(root)
    return Expired(days, segments)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _is_past(name: str, keep_days: int, today: date) -> bool:
    if not _DAY.fullmatch(name):
        return False
    try:
        return (today - date.fromisoformat(name)).days > keep_days
    except ValueError:
        return False


def _delete(root: int, name: str) -> tuple[bool, int]:
    """Whether the folder is gone, and how many segments went."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):  # another run was faster; a file or a link of that name
        return False, 0
    try:
        segments = sum(_unlink(folder, entry) for entry in _names(folder) if entry.endswith(_OURS))
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):  # not empty: something else lies there
        os.rmdir(name, dir_fd=root)
        return True, segments
    return False, segments


def _unlink(folder: int, name: str) -> bool:
    """Whether this deleted a segment."""
    try:
        os.unlink(name, dir_fd=folder)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return name.endswith(SUFFIX)
