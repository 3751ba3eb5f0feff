"""Rotation of the log's keys: gives the data key of every segment to other recipients, content untouched.

A segment is replaced as a whole or not at all, so a kill leaves each readable by its old or by its new recipients, and
the next run goes on where this one ended. What cannot be opened is named and left as it is.

What this does not cover: a recipient that is left out may have kept data keys or copies; what it could read once must
count as read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slmfleet.store.files import atomic_write
from slmfleet.store.segments import SUFFIX, SegmentError, rewrap


@dataclass
class Rotated:
    """How many segments were seen, were wrapped anew, and were for these recipients already; what could not be done."""

    segments: int = 0
    rewrapped: int = 0
    already: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


def rewrap_directory(folder: Path, identities: Sequence[str], recipients: Sequence[str]) -> Rotated:
    """Make every segment under `folder` readable by exactly `recipients`. Raises ValueError for a bad key."""
    result = Rotated()
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        result.segments += 1
        try:
            data = rewrap(path.read_bytes(), identities, recipients)
            if data is not None:
                atomic_write(path, data, mode=path.stat().st_mode & 0o777)
        except SegmentError as error:
            result.failed.append((path, str(error)))
        except OSError as error:
            result.failed.append((path, f"Unreadable: {error.strerror or error}"))
        else:
            result.rewrapped += data is not None
            result.already += data is None
    return result
