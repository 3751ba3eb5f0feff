"""Work that no call may wait for: a bounded queue and one thread. What does not fit is dropped and counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from slmfleet.gateway.log import log

T = TypeVar("T")


class Background(Generic[T]):
    """Hands batches to `work` in a thread of its own, every `seconds` or as soon as a batch is full.

    `offer` is called from the event loop and never waits. `work` may raise: the batch is counted as dropped.
    """

    def __init__(
        self, name: str, work: Callable[[list[T]], None], *, size: int, batch: int, seconds: float, idle: bool = False
    ) -> None:
        """`size`: items kept at most. `idle`: call `work` with an empty batch too, when there was nothing."""
        self.dropped = 0
        self._work, self._size, self._batch, self._seconds, self._idle = work, size, batch, seconds, idle
        self._items: deque[T] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Once, and in the process that offers."""
        self._thread.start()

    def offer(self, item: T) -> None:
        """Take an item, or drop it where there is no room."""
        waiting = len(self._items)
        if waiting >= self._size:
            self.dropped += 1
            return
        self._items.append(item)
        if waiting + 1 >= self._batch:
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Work off what is there, for at most this long."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._seconds)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while True:
            batch = [self._items.popleft() for _ in range(min(self._batch, len(self._items)))]
            if batch or self._idle:
                self._try(batch)
            if len(self._items) < self._batch and not (self._closing and self._items):
                return

    def _try(self, batch: list[T]) -> None:
        try:
            self._work(batch)
        except Exception as error:
            self.dropped += len(batch)
            log("error", "BackgroundFailed", thread=self._thread.name, error=f"{type(error).__name__}: {error}"[:300])
