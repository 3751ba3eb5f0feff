"""Windows that the workers of one gateway count in together: a file that all of them map into their memory.

A fixed table of records (key's digest, end of its window, count); a key has a few places where it may stand, and one
that is over may be taken by another key. Keys that find no place share one record. A lock of the file guards a change;
it goes with a process that dies. Who does not get it at once counts without: a count may be lost then, never a call
held up. Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

from limits.storage import Storage

PLACES = 16_384
PROBES = 8
TRIES = 100
_RECORD = struct.Struct("<16sdq")
_EMPTY = b"\0" * 16


def make(path: Path) -> None:
    """A new, empty file of windows. Raises OSError."""
    with path.open("xb") as file:
        file.truncate((PLACES + 1) * _RECORD.size)


class SharedWindows(Storage):
    """Counts by key for as long as their window is open, seen by every process that opened the file."""

    STORAGE_SCHEME = None

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Raises OSError."""
        super().__init__()
        self._clock = clock
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), (PLACES + 1) * _RECORD.size)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        digest, now = _digest(key), self._clock()
        with self._locked():
            place, ends, used = self._find(digest, now)
            if ends <= now:
                ends, used = now + expiry, 0
            used += amount
            _RECORD.pack_into(self._memory, place * _RECORD.size, digest, ends, used)
        return used

    def get(self, key: str) -> int:
        _, ends, used = self._find(_digest(key), now := self._clock())
        return used if ends > now else 0

    def get_expiry(self, key: str) -> float:
        """When the key's window ends; now, where it has none."""
        _, ends, _ = self._find(_digest(key), now := self._clock())
        return max(ends, now)

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        self._memory[:] = bytes(len(self._memory))
        return PLACES

    def clear(self, key: str) -> None:
        place, _, _ = self._find(_digest(key), self._clock())
        _RECORD.pack_into(self._memory, place * _RECORD.size, _EMPTY, 0.0, 0)

    def _find(self, digest: bytes, now: float) -> tuple[int, float, int]:
        """Where the key stands, or may; the end of the window there and its count (0, 0 for a place that is free)."""
        first, free = int.from_bytes(digest[:4]), -1
        for step in range(PROBES):
            place = (first + step) % PLACES
            known, ends, used = _RECORD.unpack_from(self._memory, place * _RECORD.size)
            if known == digest:
                return place, ends, used
            if free < 0 and ends <= now:
                free = place
        if free >= 0:
            return free, 0.0, 0
        _, ends, used = _RECORD.unpack_from(self._memory, PLACES * _RECORD.size)
        return PLACES, ends, used

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        held = any(self._try_lock() for _ in range(TRIES))
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=16).digest()
