"""One loop an object: never over itself, woken by a bell, alive after any error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from slmfleet.controllers import loops as module
from slmfleet.controllers.loops import Gone, Loops
from slmfleet.kube.client import ApiError, Conflict, NotFound


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)


async def settled(met: Callable[[], bool]) -> None:
    for _ in range(200):
        if met():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


def loops_of(reconcile: Callable[[str], Awaitable[float | None]], resync: float = 999.0) -> Loops:
    return Loops({"Router": reconcile}, resync)


async def test_a_loop_never_runs_over_itself_and_bells_meanwhile_are_one_more_look() -> None:
    running, most, looks, gate = 0, 0, 0, asyncio.Event()

    async def reconcile(name: str) -> None:
        nonlocal running, most, looks
        running, looks = running + 1, looks + 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    loops = loops_of(reconcile)
    for _ in range(5):
        loops.ring("Router", "one")
        await asyncio.sleep(0)
    gate.set()
    await settled(lambda: looks == 2)
    await asyncio.sleep(0.02)
    assert (most, looks) == (1, 2)
    await loops.stop()


async def test_two_objects_do_not_wait_for_each_other() -> None:
    started: set[str] = set()

    async def reconcile(name: str) -> None:
        started.add(name)
        await asyncio.Event().wait()

    loops = loops_of(reconcile)
    loops.ring("Router", "one")
    loops.ring("Router", "two")
    await settled(lambda: started == {"one", "two"})
    await loops.stop()


@pytest.mark.parametrize("error", [Conflict(409, "x"), NotFound(404, "x"), ApiError(500, "x"), KeyError("bug")])
async def test_an_error_ends_no_loop(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    looks = 0

    async def reconcile(name: str) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise error

    loops = loops_of(reconcile)
    loops.ring("Router", "one")
    await settled(lambda: looks == 1)
    loops.ring("Router", "one")
    await settled(lambda: looks == 2)
    await loops.stop()


async def test_an_object_that_is_gone_ends_its_loop_and_may_come_back() -> None:
    looks = 0

    async def reconcile(name: str) -> None:
        nonlocal looks
        looks += 1
        raise Gone(name)

    loops = loops_of(reconcile)
    for expected in (1, 2):
        loops.ring("Router", "one")
        await settled(lambda n=expected: looks == n)
        await asyncio.sleep(0.01)
    await loops.stop()


async def test_a_loop_looks_again_when_its_plan_asks_for_it_or_at_the_resync() -> None:
    looks = 0

    async def soon(name: str) -> float:
        nonlocal looks
        looks += 1
        return 0.0

    loops = loops_of(soon)
    loops.ring("Router", "one")
    await settled(lambda: looks >= 3)
    await loops.stop()
    looks = 0

    async def whenever(name: str) -> None:
        nonlocal looks
        looks += 1

    loops = loops_of(whenever, resync=0.01)
    loops.ring("Router", "one")
    await settled(lambda: looks >= 3)
    await loops.stop()
