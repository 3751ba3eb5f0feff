"""A second request for an answer that is late: to another server of the pool; the first valid answer wins.

Late means: later than all but the last few percent of this specialist's recent answers. The same few percent are the
budget, so a pool that is slow as a whole is not asked twice, and each second request also counts against the retry
budget. Method: Dean and Barroso, The Tail at Scale, 2013 (hedged requests).

It does not cover streams (a specialist's answer is whole before it is checked), samples that vote, or replays.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
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


class Lookout:
    """Tells races that they have become late: one timer for all, since nearly every call is answered before."""

    def __init__(self) -> None:
        self._watched: list[tuple[float, int, Race]] = []  # a heap, by loop time; races that are over stay until then
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def watch(self, race: Race, seconds: float) -> None:
        """Call `race.late` after so many seconds, if it is not over by then."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        heappush(self._watched, (when, next(self._numbers), race))
        if when < self._timer_at:
            self._wake_at(when, loop)

    def _wake_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_at(when, self._look, loop), when

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        watched, now = self._watched, loop.time()
        while watched and (watched[0][2].is_over or watched[0][0] <= now):
            race = heappop(watched)[2]
            if not race.is_over:
                loop.call_soon(race.late)
        self._timer, self._timer_at = None, math.inf
        if watched:
            self._wake_at(watched[0][0], loop)


class Race:
    """One call's first request and, once it is late, a second one. The loser's connection is closed.

    Where a second request would not pay when the call has become late, that is looked at again after twice the time.
    """

    __slots__ = ("_begin_second", "_caller", "_clock", "_delay", "_first_runs", "_lookout", "_task", "_winner")

    def __init__(self, second: Second, clock: Callable[[], float], lookout: Lookout) -> None:
        self._begin_second: Second | None = second
        self._clock = clock
        self._lookout = lookout
        self._delay = 0.0
        self._task: asyncio.Task[Attempt] | None = None
        self._caller: asyncio.Task[Any] | None = None
        self._winner: Attempt | None = None
        self._first_runs = True

    @property
    def is_over(self) -> bool:
        """Whether the call has its answer; nothing of the call is kept from then on."""
        return self._begin_second is None

    async def run(self, first: Awaitable[Attempt], delay: float) -> Attempt:
        """The first answer that serves; where none does, how the first request went. `hedge` says who won, if raced."""
        begun = self._clock()
        self._look_in(delay)
        try:
            attempt = await self._either(first)
        finally:
            self._begin_second = self._caller = None
            if self._task is not None and not self._task.done():
                self._task.cancel()
        return attempt if attempt.hedge != "won" else replace(attempt, latency_seconds=self._clock() - begun)

    async def _either(self, first: Awaitable[Attempt]) -> Attempt:
        caller = self._caller = asyncio.current_task()
        assert caller is not None
        cancelled_before = caller.cancelling()
        try:
            attempt = await first
            self._first_runs = False
        except asyncio.CancelledError:
            if self._winner is None or caller.uncancel() > cancelled_before:
                raise
            return replace(self._winner, hedge="won")
        if self._task is None:
            return attempt
        if attempt.result != "served":
            second = await self._task
            if second.result == "served":
                return replace(second, hedge="won")
        return replace(attempt, hedge="lost")

    def _look_in(self, seconds: float) -> None:
        self._delay = seconds
        self._lookout.watch(self, seconds)

    def late(self) -> None:
        """Ask the second server now, if that pays and the call is not over."""
        if self._begin_second is None:
            return
        second = self._begin_second()
        if second is None:
            self._look_in(2 * self._delay)
            return
        self._task = asyncio.get_running_loop().create_task(self._run_second(second))

    async def _run_second(self, second: Coroutine[Any, Any, Attempt]) -> Attempt:
        attempt = await second
        if attempt.result == "served" and self._first_runs and self._caller is not None:
            self._winner = attempt
            self._caller.cancel()  # as asyncio.timeout does; that takes a microsecond of every call, late or not
        return attempt
