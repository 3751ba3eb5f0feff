"""Slots that are short: shares between specialists, a bounded wait, and the caller's own deadline."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_fakes import Answer, Heard, Rig, task, until
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.gateway.deadline import of_a_try, of_the_last, patience_seconds
from slmfleet.gateway.slots import Slots


def test_a_specialist_alone_may_take_all() -> None:
    slots = Slots()
    for _ in range(8):
        assert slots.admits("a", 8, 0.0)
        slots.take("a")


def test_one_that_holds_its_share_makes_room_for_one_that_was_refused() -> None:
    slots = Slots()
    for _ in range(8):
        slots.take("a")
    slots.refused("b", 0.0)
    slots.give_back("a")
    assert not slots.admits("a", 8, 0.5)
    assert slots.admits("b", 8, 0.5)
    slots.take("b")
    assert slots.admits("a", 8, 0.5), "nobody else asks"


def test_a_refusal_is_forgotten_after_a_second() -> None:
    slots = Slots()
    for _ in range(8):
        slots.take("a")
    slots.refused("b", 0.0)
    slots.give_back("a")
    assert slots.admits("a", 8, 1.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=300))
def test_nobody_starves_while_others_hold_more_than_their_share(asked: list[tuple[str, int]]) -> None:
    """Calls as they come, each for as many steps as the second number; whoever was refused gets the next slot."""
    slots, total, now = Slots(), 4, 0.0
    running: list[tuple[int, str]] = []
    for step, (name, length) in enumerate(asked):
        now += 0.001
        for entry in [entry for entry in running if entry[0] <= step]:
            running.remove(entry)
            slots.give_back(entry[1])
        if len(running) < total and slots.admits(name, total, now):
            slots.take(name)
            running.append((step + length, name))
        else:
            slots.refused(name, now)
        free = total - len(running)
        if free and name not in slots.taken:
            assert slots.admits(name, total, now), "a free slot, and it holds none"
    assert sum(slots.taken.values()) == len(running)


async def test_a_freed_slot_goes_to_the_one_that_holds_least() -> None:
    slots = Slots()
    for name in "aab":
        slots.take(name)
    order: list[str] = []

    async def wait(name: str) -> None:
        assert await slots.wait(name, 30)
        order.append(name)

    waiting = [asyncio.create_task(wait(name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    assert slots.waiting == 3
    for name in "aab":
        slots.give_back(name)
    await asyncio.gather(*waiting)
    assert order[0] == "c"
    assert slots.waiting == 0


async def test_a_turn_is_not_lost_when_the_one_that_waits_leaves() -> None:
    slots = Slots()
    slots.take("a")
    first, second = (asyncio.create_task(slots.wait(name, 30)) for name in ("b", "c"))
    await asyncio.sleep(0)
    slots.give_back("a")
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not await slots.wait("d", 0.001)
    assert slots.waiting == 0


async def test_a_slot_that_nobody_can_use_is_offered_to_each_specialist_once() -> None:
    """Two that wait for other servers must not hand it to each other for as long as they wait."""
    slots, asked = Slots(), []

    async def wait_for_another_server(name: str) -> None:
        while await slots.wait(name, 0.05):
            asked.append(name)
            slots.pass_on(name)

    slots.take("a")
    slots.take("a")
    waiting = [asyncio.create_task(wait_for_another_server(name)) for name in ("b", "c")]
    await asyncio.sleep(0)
    slots.give_back("a")
    await asyncio.sleep(0.01)
    assert asked == ["b", "c"]
    slots.give_back("a")
    await asyncio.gather(*waiting)
    assert asked == ["b", "c", "b", "c"], "the next freed slot is another chance"


async def use(rig: Rig, **pool: Any) -> None:
    content = json.loads(json.dumps(rig.content))
    content["version"] += 1
    content["pools"][0] |= pool
    other = {**content["specialists"][0], "name": "other", "cluster": "other", "fingerprints": ["frame:Other."]}
    content["specialists"] = [content["specialists"][0], other]
    for specialist in content["specialists"]:
        specialist["timeout_seconds"] = 30
    await rig.use(content)


def other() -> dict[str, Any]:
    return {**task(), "messages": [{"role": "system", "content": "Other."}, {"role": "user", "content": "x"}]}


class Gate:
    """Triton answers as often as it was let."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._turns = asyncio.Semaphore(0)
        rig.triton.reply = self._reply

    async def _reply(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        await self._turns.acquire()
        await self._rig.triton.default(heard, writer)

    def let(self, count: int) -> None:
        for _ in range(count):
            self._turns.release()

    async def held(self, count: int) -> None:
        await until(lambda: self._rig.gateway.counters.pool("tiny").in_flight == count)


async def test_one_specialist_cannot_keep_the_others_out(rig: Rig) -> None:
    await use(rig, max_in_flight=2)
    gate = Gate(rig)
    greedy = [asyncio.create_task(rig.post(task())) for _ in range(2)]
    await gate.held(2)
    assert (await rig.post(other())).route["spilled"] == "full"
    gate.let(1)
    await gate.held(1)
    assert (await rig.post(task())).route["spilled"] == "share"
    served = asyncio.create_task(rig.post(other()))
    await gate.held(2)
    gate.let(2)
    assert (await served).route["specialist"] == "other"
    assert {(await call).route["tier"] for call in [*greedy, served]} == {"specialist"}


async def test_a_call_waits_for_a_slot_where_the_pool_has_a_queue(rig: Rig) -> None:
    await use(rig, max_in_flight=2, queue_seconds=30)
    gate = Gate(rig)
    calls = [asyncio.create_task(rig.post(task(str(n)))) for n in range(4)]
    slots = rig.gateway.app.specialists._slots
    await until(lambda: slots and slots["tiny"].waiting == 2)
    assert (await rig.post(task())).route["spilled"] == "full", "as many wait as the pool has slots"
    gate.let(4)
    assert [(await call).route["tier"] for call in calls] == ["specialist"] * 4
    assert slots["tiny"].taken == {}
    assert (rig.signals.pools["tiny"].arrivals, rig.signals.pools["tiny"].spilled) == (5, 1)


async def test_a_wait_ends_in_the_next_tier(rig: Rig) -> None:
    await use(rig, max_in_flight=1, queue_seconds=0.05)
    gate = Gate(rig)
    first = asyncio.create_task(rig.post(task()))
    await gate.held(1)
    assert (await rig.post(task())).route["spilled"] == "full"
    gate.let(1)
    assert (await first).route["tier"] == "specialist"


async def test_a_caller_that_leaves_the_queue_leaves_nothing_behind(rig: Rig) -> None:
    await use(rig, max_in_flight=1, queue_seconds=30)
    gate = Gate(rig)
    first = asyncio.create_task(rig.post(task()))
    await gate.held(1)
    slots = rig.gateway.app.specialists._slots["tiny"]
    body = json.dumps(task()).encode()
    caller = await rig.connect()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await until(lambda: slots.waiting == 1)
    caller.close()
    await until(lambda: slots.waiting == 0)
    gate.let(2)
    assert (await first).route["tier"] == "specialist"
    assert (await rig.post(task())).route["tier"] == "specialist"


@pytest.mark.parametrize("header", ["x-request-timeout", "X-Stainless-Read-Timeout", "x-stainless-timeout"])
async def test_a_try_leaves_the_next_tier_half_of_the_callers_patience(rig: Rig, header: str) -> None:
    await use(rig)
    Gate(rig)
    answer: Answer = await rig.post(task(), headers=f"{header}: 1.6\r\n")
    assert (answer.route["tier"], answer.route["escalated"]) == ("llm", "timeout")
    assert rig.llm.heard[0].header(header.lower()) == "1.6", "passed on as it came"
    assert rig.gateway.watcher.servers[rig.triton.url].failures == 0, "a hurried caller proves nothing of the server"


async def test_a_pool_that_is_slower_than_the_caller_is_patient_is_not_tried(rig: Rig) -> None:
    await use(rig)
    assert (await rig.post(task())).route["tier"] == "specialist"
    server, now = rig.gateway.watcher.servers[rig.triton.url], asyncio.get_running_loop().time()
    server.observe(20.0, now, "another-adapter")
    assert (await rig.post(task(), headers="x-request-timeout: 5\r\n")).route["tier"] == "specialist"
    server.observe(20.0, now, next(name for name in server.by_adapter if name != "another-adapter"))
    hurried = await rig.post(task(), headers="x-request-timeout: 5\r\n")
    assert (hurried.route["tier"], hurried.route["spilled"]) == ("llm", "deadline")
    assert (await rig.post(task(), headers="x-request-timeout: 600\r\n")).route["tier"] == "specialist"


async def test_the_llm_has_what_is_left_and_the_caller_is_told(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rig.llm.reply = reply
    answer = await rig.post({"model": "big", "messages": []}, headers="x-request-timeout: 0.2\r\n")
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"x-request-timeout": b"2.5"}, 2.5),
        ({b"x-request-timeout": b"30s", b"x-stainless-timeout": b"9"}, 9.0),
        ({b"x-request-timeout": b"-1"}, None),
        ({b"x-request-timeout": b"nan"}, None),
        ({b"x-request-timeout": b"inf"}, None),
        ({b"x-request-timeout": b"3", b"x-stainless-read-timeout": b"600"}, 3.0),
    ],
)
def test_patience_is_read_from_what_callers_send(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert patience_seconds(headers) == seconds


def test_a_tier_has_its_limit_or_its_part_of_what_is_left() -> None:
    assert [of_a_try(10, deadline, 100.0) for deadline in (None, 200.0, 104.0, 90.0)] == [10, 10, 2, 0]
    assert [of_the_last(10, deadline, 100.0) for deadline in (None, 200.0, 104.0, 90.0)] == [10, 10, 4, 0.001]
