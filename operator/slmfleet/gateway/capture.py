"""The log (S1): calls in, sealed segments on stable storage out, in one thread beside the event loop.

`add` appends and returns: it never blocks and never fails, and a call that does not fit the buffer is counted as
dropped. A batch is sealed after segment_records, segment_seconds or SEGMENT_BYTES, whichever comes first, and waits
sealed (spool.py) until the store has it. A record counts as captured when its segment has been written, synced and
renamed; until then it is unacknowledged, and the signals say how many are and since when. On `close` everything left
is written.

What this does not cover: a killed process loses its unacknowledged records: those of the last segment_seconds while
the store answers, and what waited for the store (at most the buffer) while it does not.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from slmfleet.gateway import records
from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.log import log
from slmfleet.gateway.records import Logged
from slmfleet.gateway.spool import Sealed, Spool
from slmfleet.store.segments import SUFFIX, seal
from slmfleet.wire.routes import Capture as CaptureSpec

SEGMENT_BYTES = 8 << 20
SLICE_SECONDS = 0.0005
STEP_SECONDS = 0.1


class Capture:
    """The log's writer. Its integers have one writing thread each, so they need no lock."""

    def __init__(
        self,
        store: Path | None,
        instance: str,
        origin_key: bytes,
        buffer_bytes: int | None,
        counter: CaptureCounter,
        clock: Callable[[], float] = time.monotonic,
        processes: int = 1,
    ) -> None:
        """`buffer_bytes` goes before the table's, if given; `processes` share it. `clock` is monotonic seconds."""
        self.counter = counter
        self.enabled = False
        self._store = store
        self._instance = instance
        self._key = origin_key
        self._own_buffer_bytes = buffer_bytes
        self._processes = processes
        self._clock = clock
        self._spec = CaptureSpec(enabled=False)
        self._router = "default"
        self._pending: deque[Logged] = deque()
        self._sealing: float | None = None  # when the oldest record under way was noted
        self._noted_bytes = 0  # event loop
        self._taken_bytes = 0  # thread: no longer pending
        self._sealed_bytes = 0  # thread: no longer held as they were noted
        self._spool = Spool(counter, clock)
        self._sequence = 0
        self._wake = threading.Event()
        self._closing = False
        self._deadline = 0.0
        counter.backlog = self._backlog
        self._buffer_bytes = self._bound()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    @property
    def body_limit(self) -> int:
        return self._spec.body_limit_bytes

    def configure(self, spec: CaptureSpec, router: str) -> None:
        """Follow the table. Calls noted before are sealed to the recipients of the moment of sealing."""
        if spec.enabled and self._store is None:
            self.counter.failing = "capture is on, but this gateway runs without --store"
        elif self._store is None:
            self.counter.failing = None
        self.enabled = spec.enabled and self._store is not None
        if spec.recipients:
            self._spec = spec
        self._router = router.rpartition("/")[2]
        self._buffer_bytes = self._bound()
        self._wake.set()

    def add(self, logged: Logged) -> None:
        """Note a call. Called from the event loop only; returns at once."""
        size = logged.cut_to(self._spec.body_limit_bytes)
        held = self._noted_bytes - self._sealed_bytes + self._spool.bytes
        if held + size > self._buffer_bytes or self._closing:
            self.counter.refused += 1
            return
        logged.noted = self._clock()
        self._noted_bytes += size
        self.counter.noted += 1
        self._pending.append(logged)
        waiting = len(self._pending)
        full = waiting == self._spec.segment_records or self._noted_bytes - self._taken_bytes >= SEGMENT_BYTES
        if (waiting == 1 or full) and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_seconds: float) -> None:
        """Write everything that is left, then stop; what cannot be written in time is counted as dropped."""
        self._deadline = self._clock() + timeout_seconds
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_seconds + 5)
        if self._thread.is_alive():  # in a write that does not return
            lost = self.counter.noted - self.counter.records - self.counter.lost
            self.counter.refused += lost
            log("error", "CaptureDropped", records=lost, reason="shutting down and the store does not answer")

    def _bound(self) -> int:
        bound = max(1, (self._own_buffer_bytes or self._spec.buffer_bytes) // self._processes)
        self.counter.segment_records = self._spec.segment_records
        self.counter.segment_seconds = self._spec.segment_seconds
        self.counter.buffer_bytes = bound
        return bound

    def _backlog(self) -> tuple[int, float | None]:
        """Bytes held, and when the oldest record that is not yet in the store was noted."""
        held = self._noted_bytes - self._sealed_bytes + self._spool.bytes
        for oldest in (self._spool.oldest, self._sealing, self._first()):
            if oldest is not None:
                return held, oldest
        return held, None

    def _first(self) -> float | None:
        try:
            return self._pending[0].noted
        except IndexError:
            return None

    # --- in the thread ---

    def _run(self) -> None:
        while True:
            self._wake.wait(self._pause())
            self._wake.clear()
            try:
                while self._due():
                    self._seal(self._take())
                self._spool.write(now=self._closing)
            except Exception as error:  # a log that stops unseen would be worse than one that tries again
                self.counter.failing = f"{type(error).__name__} in the log's own thread: {error}"
                log("error", "CaptureFailing", reason=self.counter.failing, action="report this; calls are kept")
                time.sleep(STEP_SECONDS)
            if self._closing and self._finished():
                break
        self._spool.abandon("shutting down and the store is not writable")

    def _finished(self) -> bool:
        """Whether nothing is left, or no time."""
        return not (self._pending or self._spool) or self._clock() >= self._deadline

    def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until somebody calls."""
        if self._closing:
            return STEP_SECONDS if self._spool else 0.0
        first = self._first()
        times = [self._spool.pause()]
        if first is not None:
            times.append(max(0.0, first + self._spec.segment_seconds - self._clock()))
        return min((seconds for seconds in times if seconds is not None), default=None)

    def _due(self) -> bool:
        first = self._first()
        if first is None:
            return False
        full = len(self._pending) >= self._spec.segment_records
        full = full or self._noted_bytes - self._taken_bytes >= SEGMENT_BYTES
        return full or self._closing or self._clock() - first >= self._spec.segment_seconds

    def _take(self) -> list[Logged]:
        taken: list[Logged] = []
        size = 0
        self._sealing = self._first()
        while self._pending and len(taken) < self._spec.segment_records and size < SEGMENT_BYTES:
            logged = self._pending.popleft()
            size += logged.size
            taken.append(logged)
        self._taken_bytes += size
        return taken

    def _seal(self, taken: list[Logged]) -> None:
        """Put a batch into the spool. Its raw size is held until then, its sealed size after."""
        spec, lines = self._spec, self._lines(taken)
        try:
            if lines:
                self._spool.put(self._segment(lines, spec, taken[0].noted))
        except Exception as error:
            self._lose(len(lines), error)
        self._sealed_bytes += sum(logged.size for logged in taken)
        self._sealing = None

    def _lines(self, taken: list[Logged]) -> list[bytes]:
        """The records' JSON. Lets the event loop in after every slice: it needs the same interpreter."""
        lines: list[bytes] = []
        origins: records.Origins = {}
        begun = self._clock()
        for logged in taken:
            try:
                lines.append(records.to_record(logged, self._key, self._spec.body_limit_bytes, origins))
            except Exception as error:
                self._lose(1, error)
            if self._clock() - begun >= SLICE_SECONDS:
                time.sleep(0)
                begun = self._clock()
        return lines

    def _segment(self, lines: list[bytes], spec: CaptureSpec, noted: float) -> Sealed:
        assert self._store is not None
        now = datetime.now(UTC)
        meta = {"router": self._router, "instance": self._instance, "time": now.isoformat(timespec="seconds")}
        data = seal(lines, spec.recipients, meta=meta)
        self._sequence += 1
        folder = self._store / "usage" / self._router / f"{now:%Y-%m-%d}"
        return Sealed(folder / f"{self._instance}-{self._sequence:08d}{SUFFIX}", data, len(lines), noted)

    def _lose(self, count: int, error: Exception) -> None:
        self.counter.lost += count
        log("error", "CaptureDropped", records=count, reason=f"{type(error).__name__} while sealing")
