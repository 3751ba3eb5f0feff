"""Sealed segments on their way to the store: kept in order while it is away, written oldest first when it is back.

Apart, because it is all that the log knows of a store that fails. It holds no more than its user puts in: the bound on
memory is capture.py's, which counts what waits here by its sealed size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.log import log
from slmfleet.store.files import atomic_write

BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Sealed:
    """A segment and what it holds. `noted`: when its oldest record was noted, monotonic seconds."""

    path: Path
    data: bytes
    records: int
    noted: float


class Spool:
    """Sealed segments, oldest first. `bytes`: what they take. `clock` is monotonic seconds."""

    def __init__(self, counter: CaptureCounter, clock: Callable[[], float]) -> None:
        self.bytes = 0
        self._counter = counter
        self._clock = clock
        self._waiting: deque[Sealed] = deque()
        self._backoff = BACKOFF_SECONDS
        self._retry = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest(self) -> float | None:
        """When the oldest record that waits here was noted."""
        try:
            return self._waiting[0].noted
        except IndexError:
            return None

    def put(self, sealed: Sealed) -> None:
        """Queue a segment behind the others."""
        self._waiting.append(sealed)
        self.bytes += len(sealed.data)

    def pause(self) -> float | None:
        """Seconds until the store is tried again; None where nothing waits."""
        return max(0.0, self._retry - self._clock()) if self._waiting else None

    def write(self, *, now: bool = False) -> None:
        """Write what waits until nothing does or the store refuses. Within the back-off only with `now`."""
        while self._waiting and (now or self._clock() >= self._retry):
            try:
                atomic_write(self._waiting[0].path, self._waiting[0].data)
            except OSError as error:
                self._refused(error)
                return
            self._written()

    def abandon(self, why: str) -> None:
        """Give up what still waits, and count it."""
        lost = sum(sealed.records for sealed in self._waiting)
        self._waiting.clear()
        self.bytes = 0
        if lost:
            self._counter.lost += lost
            log("error", "CaptureDropped", records=lost, reason=why)

    def _written(self) -> None:
        sealed = self._waiting.popleft()
        self.bytes -= len(sealed.data)
        self._backoff, self._retry = BACKOFF_SECONDS, 0.0
        recovered, self._counter.failing = self._counter.failing is not None, None
        self._counter.segments += 1
        self._counter.records += sealed.records  # last: the event loop reads these, and a new record means no failure
        if recovered:
            log("info", "CaptureRecovered", segment=sealed.path.name, waiting=len(self._waiting))

    def _refused(self, error: OSError) -> None:
        problem = f"{self._waiting[0].path.parent}: {error.strerror or error}"
        if self._counter.failing != problem:
            log("error", "CaptureFailing", reason=problem, action="free the store or make it writable; calls are kept")
        self._counter.failing = problem
        self._retry = self._clock() + self._backoff
        self._backoff = min(2 * self._backoff, BACKOFF_SECONDS_MAX)
