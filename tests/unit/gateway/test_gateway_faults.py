"""The fault matrix: whatever fails, in whatever way, callers get whole frames, a tool call once, and the next tier."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gateway_fakes import Answer, FakeServer, Heard, Rig, chat, task
from gateway_faults import (
    FAULTS,
    break_it,
    healthy,
    read_strictly,
    reset,
    tool_call_ids,
    tool_caller,
    triton_speaks,
)

from slmfleet.gateway.budget import RetryBudget

EACH = 3  # calls of each of the four kinds (owned by the specialist or not, streamed or not), all at once
SHORT_SECONDS = 0.2
STATUS = {"refused": 502, "reset": 502, "hang": 504, "slow": 200, "cut": 502, "bad_json": 200, "429": 429, "5xx": 503}
CODE = {"refused": "upstream_unreachable", "reset": "upstream_broken", "hang": "upstream_timeout",
        "cut": "upstream_broken", "429": "rate_limit_exceeded", "5xx": None}  # fmt: skip


async def prepare(rig: Rig, broken: tuple[str, ...], fault: str) -> dict[str, FakeServer]:
    """Break these tiers. Only a tier that hangs (or, but for the LLM, is slow) gets a short time."""
    tiers: dict[str, FakeServer] = {"specialist": rig.triton, "llm": rig.llm}
    speaks = {"specialist": triton_speaks, "llm": tool_caller("llm")}
    patience = {
        tier: SHORT_SECONDS if tier in broken and (fault == "hang" or (fault == "slow" and tier != "llm")) else 30
        for tier in tiers
    }
    content = rig.content | {"version": 2, "llm": {**rig.content["llm"], "timeout_seconds": patience["llm"]}}
    content["specialists"][0]["timeout_seconds"] = patience["specialist"]
    content["pools"][0]["max_in_flight"] = 100
    await rig.use(content)
    for tier, server in tiers.items():
        server.reply = healthy(speaks[tier])
        if tier in broken:
            await break_it(server, fault, speaks[tier], 0.05 if tier == "llm" else 30)
    return tiers


async def storm(rig: Rig) -> list[tuple[bool, Answer]]:
    """Calls of all kinds at once: whether the specialist owns it, and its answer."""
    calls: list[tuple[bool, Any]] = []
    for number in range(EACH):
        for stream in (False, True):
            calls.append((True, task(f"music {number}", stream=stream)))
            calls.append((False, chat(f"hello {number}", stream=stream)))
    answers = await asyncio.gather(*(rig.post(body) for _, body in calls))
    return [(owned, answer) for (owned, _), answer in zip(calls, answers, strict=True)]


def check_llm_failure(answer: Answer, fault: str) -> None:
    """What is left when the last tier fails: its own answer, or a clear error, or an error event."""
    assert answer.route["tier"] == "llm"
    if fault == "bad_json":
        assert (answer.status, b'{"choices": [' in answer.body) == (200, True)
        return
    content = read_strictly(answer)
    if fault == "slow":
        assert (answer.status, len(tool_call_ids(content))) == (200, 1)
        return
    if fault == "cut" and "chunks" in content:
        assert (answer.status, len(content["chunks"]), tool_call_ids(content)) == (200, 1, [])
        assert content["error"]["code"] == "upstream_broken"
        return
    assert (answer.status, content["error"]["code"]) == (STATUS[fault], CODE[fault])


def check_served(answer: Answer, tier: str) -> None:
    """A whole answer by this tier, with every tool call once."""
    content = read_strictly(answer)
    assert (answer.status, answer.route["tier"], "error" in content) == (200, tier, False)
    ids = tool_call_ids(content)
    assert len(ids) == (tier != "specialist")


def check_attempts(tiers: dict[str, FakeServer], calls: int) -> None:
    for tier, server in tiers.items():
        assert len(server.heard) <= 1.1 * calls, tier


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_specialist_that_fails_is_stood_in_for_by_the_llm(rig: Rig, fault: str) -> None:
    tiers = await prepare(rig, ("specialist",), fault)
    answers = await storm(rig)
    for owned, answer in answers:
        check_served(answer, "llm")
        assert ("escalated" in answer.route or "spilled" in answer.route) == owned
    check_attempts(tiers, len(answers))


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_llm_that_fails_takes_no_specialist_with_it(rig: Rig, fault: str) -> None:
    tiers = await prepare(rig, ("llm",), fault)
    answers = await storm(rig)
    for owned, answer in answers:
        if owned:
            check_served(answer, "specialist")
        else:
            check_llm_failure(answer, fault)
    check_attempts(tiers, len(answers))


@pytest.mark.parametrize("fault", FAULTS)
async def test_where_every_tier_fails_the_caller_is_told_so(rig: Rig, fault: str) -> None:
    tiers = await prepare(rig, ("specialist", "llm"), fault)
    answers = await storm(rig)
    for _, answer in answers:
        check_llm_failure(answer, fault)
    check_attempts(tiers, len(answers))


async def test_in_a_storm_of_5xx_a_specialist_is_left_alone(rig: Rig) -> None:
    await prepare(rig, ("specialist",), "5xx")
    routes = [(await rig.post(task(str(number)))).route for number in range(30)]
    assert {route["tier"] for route in routes} == {"llm"}
    assert [route.get("escalated") for route in routes[:5]] == ["error"] * 5
    assert len(rig.triton.heard) < 12  # five in a row, then one probe after 0.5, 1, 2 … seconds
    assert routes[5]["spilled"] == "cold"


async def test_connections_that_go_stale_cost_at_most_a_tenth_more_calls(rig: Rig) -> None:
    """Every connection answers once and is reset by its second call: the worst that keep-alive can do."""
    served: set[asyncio.StreamWriter] = set()
    speak = healthy(tool_caller("llm"))

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if writer in served:
            reset(writer)
            return
        served.add(writer)
        await speak(heard, writer)

    rig.llm.reply = reply
    rig.gateway.client.budget = RetryBudget(lambda: 0.0)
    calls = 200
    answers = [await rig.post(chat(str(number))) for number in range(calls)]
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 502}
    assert statuses[:4] == [200] * 4
    assert calls < len(rig.llm.heard) <= 1.1 * calls
    assert all(len(tool_call_ids(answer.json)) == 1 for answer in answers if answer.status == 200)


async def test_a_call_is_never_sent_twice_once_its_answer_began(rig: Rig) -> None:
    await rig.post(chat("warms the connection"))

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
        await writer.drain()
        reset(writer)

    rig.llm.reply = reply
    assert (await rig.post(chat("x"))).status == 502
    assert len(rig.llm.heard) == 2


async def test_a_stream_that_ends_by_closing_needs_its_done(rig: Rig) -> None:
    events = [b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"]
    sent = 1

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(events[:sent]))
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    cut = await rig.post(chat("x", stream=True))
    assert read_strictly(cut)["error"]["code"] == "upstream_broken"
    sent = 2
    assert (await rig.post(chat("x", stream=True))).body == b"".join(events)


async def test_an_encoded_stream_that_breaks_off_is_cut_and_not_garbled(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n4\r\n\x1f\x8b\x08\x00\r\n")
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\n{}")
    assert await caller.head()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        while await caller.chunk():
            pass
    caller.close()
