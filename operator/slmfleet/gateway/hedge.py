"""A second request for an answer that is late: to another server of the pool; the first valid answer wins.

Late means: later than all but the last few percent of this specialist's recent answers. The same few percent are the
budget, so a pool that is slow as a whole is not asked twice, and each second request also counts against the retry
budget. Method: Dean and Barroso, The Tail at Scale, 2013 (hedged requests).

It does not cover streams (a specialist's answer is whole before it is checked), samples that vote, or replays.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from slmfleet.gateway.attempts import Attempt

WINDOW = 64
FEWEST = 20
BURST = 3.0
ADAPTERS = 5_000
Second = Callable[[], Coroutine[Any, Any, Attempt] | None]
"""What asks the second server, or None where that would not pay now."""


class Recent:
    """Quantiles of the last WINDOW values."""

    __slots__ = ("_at", "_ranked", "_ring")

    def __init__(self) -> None:
        self._ring = array("d")
        self._ranked = array("d")
        self._at = 0

    def add(self, value: float) -> None:
        """Take a value in; beyond WINDOW the oldest goes."""
        if len(self._ring) < WINDOW:
            self._ring.append(value)
        else:
            del self._ranked[bisect_left(self._ranked, self._ring[self._at])]
            self._ring[self._at] = value
            self._at = (self._at + 1) % WINDOW
        insort(self._ranked, value)

    def quantile(self, share: float) -> float | None:
        """The value that this share of them does not exceed; None while there are fewer than FEWEST."""
        count = len(self._ranked)
        return None if count < FEWEST else self._ranked[min(int(count * share), count - 1)]


class Hedges:
    """When a second request may be sent, by specialist; one budget for all. `percent` is of calls."""

    def __init__(self) -> None:
        self._recent: dict[str, Recent] = {}
        self._earned = 0.0

    def delay(self, adapter: str, percent: float) -> float | None:
        """Count a call, and say after how many seconds it is late; None while too little is known."""
        self._earned = min(self._earned + percent / 100, BURST)
        recent = self._recent.get(adapter)
        return None if recent is None else recent.quantile(1 - percent / 100)

    def spend(self) -> bool:
        """Whether one more second request is within the budget; it then counts."""
        if self._earned < 1:
            return False
        self._earned -= 1
        return True

    def took(self, adapter: str, seconds: float) -> None:
        """How long a call waited for its first server: to its answer, or until it was given up (it was longer then)."""
        recent = self._recent.get(adapter)
        if recent is None:
            recent = self._recent[adapter] = Recent()
            if len(self._recent) > ADAPTERS:
                del self._recent[next(iter(self._recent))]
        recent.add(seconds)


class Race:
    """One call's first request and, once it is late, a second one. The loser's connection is closed.

    Where a second request would not pay when the call has become late, that is looked at again after twice the time.
    """

    def __init__(self, second: Second, clock: Callable[[], float]) -> None:
        self._begin_second = second
        self._clock = clock
        self._delay = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Attempt] | None = None
        self._scope = asyncio.timeout(None)
        self._first_runs = True

    async def run(self, first: Awaitable[Attempt], delay: float) -> Attempt:
        """The first answer that serves; where none does, how the first request went. `hedge` says who won, if raced."""
        begun = self._clock()
        self._look_in(delay)
        try:
            attempt = await self._either(first)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._task is not None and not self._task.done():
                self._task.cancel()
        return attempt if attempt.hedge != "won" else replace(attempt, latency_seconds=self._clock() - begun)

    async def _either(self, first: Awaitable[Attempt]) -> Attempt:
        try:
            async with self._scope:
                attempt = await first
                self._first_runs = False
        except TimeoutError:
            assert self._task is not None
            return replace(self._task.result(), hedge="won")
        if self._task is None:
            return attempt
        if attempt.result != "served":
            second = await self._task
            if second.result == "served":
                return replace(second, hedge="won")
        return replace(attempt, hedge="lost")

    def _look_in(self, seconds: float) -> None:
        self._delay = seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def _late(self) -> None:
        second = self._begin_second()
        if second is None:
            self._look_in(2 * self._delay)
            return
        self._task = asyncio.get_running_loop().create_task(self._run_second(second))

    async def _run_second(self, second: Coroutine[Any, Any, Attempt]) -> Attempt:
        attempt = await second
        if attempt.result == "served" and self._first_runs:
            self._scope.reschedule(asyncio.get_running_loop().time())
        return attempt
