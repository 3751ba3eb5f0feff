"""The log (S1): calls in, sealed segments on stable storage out, in one thread beside the event loop.

`add` never blocks and never fails: a call that does not fit the buffer is counted as dropped. A record counts as
captured when its segment has been written, synced and renamed. When the store cannot be written, the batch is kept and
tried again with back-off, and `counter.failing` says why. On `close` everything left is written.

What this does not cover: a killed process loses what was not yet in a segment (at most segment_seconds of calls).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from slmfleet.gateway import records
from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.log import log
from slmfleet.gateway.records import Logged
from slmfleet.store.files import atomic_write
from slmfleet.store.segments import SUFFIX, seal
from slmfleet.wire.routes import Capture as CaptureSpec

SEGMENT_BYTES = 8 << 20
TICK_SECONDS = 0.2
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A segment that waits to be written, and what it holds."""

    path: Path
    data: bytes
    records: int
    bytes: int


class Capture:
    """The log's writer."""

    def __init__(
        self, store: Path | None, instance: str, origin_key: bytes, buffer_bytes: int, counter: CaptureCounter
    ) -> None:
        self.counter = counter
        self.enabled = False
        self._store = store
        self._instance = instance
        self._key = origin_key
        self._buffer_bytes = buffer_bytes
        self._spec = CaptureSpec(enabled=False)
        self._router = "default"
        self._pending: deque[Logged] = deque()
        self._bytes = 0
        self._oldest = 0.0
        self._sequence = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._deadline = 0.0
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
        self._router = router.rpartition("/")[2] or "default"

    def add(self, logged: Logged) -> None:
        """Note a call. Called from the event loop; returns at once."""
        size = logged.size
        with self._lock:
            if self._bytes + size > self._buffer_bytes or self._closing:
                self.counter.dropped += 1
                return
            if not self._pending:
                self._oldest = time.monotonic()
            self._bytes += size
            self._pending.append(logged)
            due = len(self._pending) >= self._spec.segment_records
        if due and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_seconds: float) -> None:
        """Write everything that is left, then stop; what cannot be written in time is counted as dropped."""
        self._deadline = time.monotonic() + timeout_seconds
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_seconds + 5)

    # --- in the thread ---

    def _run(self) -> None:
        while not (self._closing and not self._pending):
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
            while self._due():
                batch = self._seal(self._take())
                if batch is not None:
                    self._write(batch)

    def _due(self) -> bool:
        with self._lock:
            if not self._pending:
                return False
            full = len(self._pending) >= self._spec.segment_records or self._bytes >= SEGMENT_BYTES
            return full or self._closing or time.monotonic() - self._oldest >= self._spec.segment_seconds

    def _take(self) -> list[Logged]:
        taken: list[Logged] = []
        size = 0
        with self._lock:
            while self._pending and len(taken) < self._spec.segment_records and size < SEGMENT_BYTES:
                logged = self._pending.popleft()
                size += logged.size
                taken.append(logged)
            self._oldest = time.monotonic()
        return taken

    def _seal(self, taken: list[Logged]) -> Batch | None:
        size = sum(logged.size for logged in taken)
        try:
            lines = [records.to_record(logged, self._key, self._spec.body_limit_bytes) for logged in taken]
            now = datetime.now(UTC)
            meta = {"router": self._router, "instance": self._instance, "time": now.isoformat(timespec="seconds")}
            data = seal(lines, self._spec.recipients, meta=meta)
        except Exception as error:
            self._lose(len(taken), size, f"{type(error).__name__} while sealing")
            return None
        self._sequence += 1
        assert self._store is not None
        folder = self._store / "usage" / self._router / f"{now:%Y-%m-%d}"
        return Batch(folder / f"{self._instance}-{self._sequence:08d}{SUFFIX}", data, len(taken), size)

    def _write(self, batch: Batch) -> None:
        wait = BACKOFF_SECONDS
        while True:
            try:
                atomic_write(batch.path, batch.data)
            except OSError as error:
                self._report(f"{batch.path.parent}: {error.strerror or error}")
            else:
                self._written(batch)
                return
            if self._closing and time.monotonic() + 0.1 >= self._deadline:
                self._lose(batch.records, batch.bytes, "shutting down and the store is not writable")
                return
            self._sleep(min(wait, BACKOFF_SECONDS_MAX))
            wait *= 2

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._closing:
            time.sleep(min(TICK_SECONDS, seconds))
        if self._closing:
            time.sleep(0.1)

    def _written(self, batch: Batch) -> None:
        self.counter.records += batch.records
        self.counter.segments += 1
        if self.counter.failing is not None:
            log("info", "CaptureRecovered", segment=batch.path.name)
        self.counter.failing = None
        self._free(batch.bytes)

    def _lose(self, count: int, size: int, why: str) -> None:
        self.counter.dropped += count
        log("error", "CaptureDropped", records=count, reason=why)
        self._free(size)

    def _report(self, problem: str) -> None:
        if self.counter.failing != problem:
            log("error", "CaptureFailing", reason=problem, action="free the store or make it writable; calls are kept")
        self.counter.failing = problem

    def _free(self, size: int) -> None:
        with self._lock:
            self._bytes -= size
