"""Parts of records that wait for each other, on disk: a span may stand in another file than its events.

SQLite in a temporary file, so that memory does not grow with the log.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import TracebackType

import orjson

from slmfleet.curation.normal import Json, Kind, Part

_BATCH = 500


class Parts:
    """Add them all, then iterate `together`: (kind, key, where of the first, bytes, bodies) in the order of keys."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="slmfleet-")
        self._base: sqlite3.Connection | None = None
        self._waiting: list[tuple[str, str, str, bytes]] = []

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._base is not None:
            self._base.close()
        self._folder.cleanup()

    def add(self, part: Part, where: str) -> None:
        self._waiting.append((part.kind, part.key, where, orjson.dumps(part.body)))
        if len(self._waiting) >= _BATCH:
            self._write()

    def together(self) -> Iterator[tuple[Kind, str, str, int, list[Json]]]:
        """Every record's parts, in the order they were read."""
        if self._base is None and not self._waiting:
            return
        self._write()
        assert self._base is not None
        rows = self._base.execute("SELECT kind, key, place, body FROM part ORDER BY kind, key, rowid")
        for (kind, key), group in groupby(rows, key=lambda row: (row[0], row[1])):
            parts = list(group)
            size = sum(len(part[3]) for part in parts)
            yield kind, key, parts[0][2], size, [orjson.loads(p[3]) for p in parts]

    def _write(self) -> None:
        if self._base is None:
            self._base = sqlite3.connect(Path(self._folder.name) / "parts")
            self._base.execute("PRAGMA journal_mode=OFF")
            self._base.execute("PRAGMA synchronous=OFF")
            self._base.execute("CREATE TABLE part (kind TEXT, key TEXT, place TEXT, body BLOB)")
        self._base.executemany("INSERT INTO part VALUES (?, ?, ?, ?)", self._waiting)
        self._waiting.clear()
