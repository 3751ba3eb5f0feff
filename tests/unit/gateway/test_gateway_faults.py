"""The fault matrix: whatever fails, in whatever way, callers get whole frames, a tool call once, and the next tier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from gateway_fakes import Answer, FakeLlm, FakeServer, Heard, Rig, chat, task
from gateway_faults import (
    FAULTS,
    PLAY,
    break_it,
    chat_model,
    healthy,
    read_strictly,
    reset,
    tool_call_ids,
    triton_speaks,
)

from slmfleet.gateway.budget import RetryBudget

EACH = 2  # calls of each of six kinds, all at once
SHORT_SECONDS = 0.2
STATUS = {"refused": 502, "reset": 502, "hang": 504, "slow": 200, "cut": 502, "bad_json": 200, "429": 429, "5xx": 503}
CODE = {"refused": "upstream_unreachable", "reset": "upstream_broken", "hang": "upstream_timeout",
        "cut": "upstream_broken", "429": "rate_limit_exceeded", "5xx": None}  # fmt: skip


@dataclass
class Tiers:
    """The servers behind a rig, and which of them fail."""

    rig: Rig
    servers: dict[str, FakeServer]

    async def break_them(self, broken: tuple[str, ...], fault: str) -> None:
        """Only a tier that hangs (or, but for the LLM, is slow) gets a short time."""
        patience = {
            tier: SHORT_SECONDS if tier in broken and (fault == "hang" or (fault == "slow" and tier != "llm")) else 30
            for tier in ("specialist", "generalist", "llm")
        }
        content = self.rig.content | {"version": 2}
        content["llm"]["timeout_seconds"] = patience["llm"]
        content["specialists"][0]["timeout_seconds"] = patience["specialist"]
        content["pools"][0]["max_in_flight"] = 100
        if "generalist" in self.servers:
            url = self.servers["generalist"].url
            content["generalist"] = {
                "url": f"{url}/v1", "model": "small", "timeout_seconds": patience["generalist"], "escalations": True,
                "tools": True,
            }  # fmt: skip
        await self.rig.use(content)
        for tier, server in self.servers.items():
            speak = triton_speaks if tier == "specialist" else chat_model(tier)
            server.reply = healthy(speak)
            if tier in broken:
                await break_it(server, fault, speak, 0.05 if tier == "llm" else 30)

    def check_attempts(self, calls: int) -> None:
        for tier, server in self.servers.items():
            assert len(server.heard) <= 1.1 * calls, tier


@pytest.fixture(params=["two tiers", "three tiers"])
async def tiers(request: pytest.FixtureRequest, rig: Rig) -> AsyncIterator[Tiers]:
    made = Tiers(rig, {"specialist": rig.triton, "llm": rig.llm})
    generalist = FakeLlm()
    await generalist.start()
    if request.param == "three tiers":
        made.servers["generalist"] = generalist
    yield made
    await generalist.stop()


@dataclass
class Called:
    """A call of one of six kinds, and its answer."""

    owned: bool
    tools: bool
    answer: Answer

    def served_by(self, tier: str) -> None:
        """A whole answer by this tier, with every tool call once."""
        content = read_strictly(self.answer)
        assert (self.answer.status, self.answer.route["tier"], "error" in content) == (200, tier, False)
        assert len(tool_call_ids(content)) == self.tools

    def broken_off_by(self, tier: str) -> None:
        """The caller had already seen the first event."""
        content = read_strictly(self.answer)
        assert (self.answer.status, self.answer.route["tier"]) == (200, tier)
        assert (len(content["chunks"]), content["error"]["code"]) == (1, "upstream_broken")
        assert tool_call_ids(content) == []

    def failed_by_the_llm(self, fault: str) -> None:
        """What is left when the last tier fails: its own answer, or a clear error, or an error event."""
        streamed = self.answer.headers["content-type"].startswith("text/event-stream")
        if fault == "slow":
            self.served_by("llm")
        elif fault == "cut" and streamed:
            self.broken_off_by("llm")
        elif fault == "bad_json":
            assert (self.answer.status, b'{"choices": [' in self.answer.body) == (200, True)
        else:
            content = read_strictly(self.answer)
            assert (self.answer.status, content["error"]["code"]) == (STATUS[fault], CODE[fault])
        assert self.answer.route["tier"] == "llm"


async def storm(rig: Rig) -> list[Called]:
    """Calls of all kinds at once: owned by the specialist, by nobody, by nobody with tools; streamed or not."""
    kinds: list[tuple[bool, dict[str, Any]]] = []
    for number in range(EACH):
        for stream in (False, True):
            kinds.append((True, task(f"music {number}", stream=stream)))
            kinds.append((False, chat(f"hello {number}", stream=stream)))
            kinds.append((False, chat(f"hello {number}", stream=stream, tools=[PLAY])))
    answers = await asyncio.gather(*(rig.post(body) for _, body in kinds))
    return [Called(owned, "tools" in body, answer) for (owned, body), answer in zip(kinds, answers, strict=True)]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_specialist_that_fails_is_stood_in_for_by_the_next_tier(tiers: Tiers, fault: str) -> None:
    await tiers.break_them(("specialist",), fault)
    calls = await storm(tiers.rig)
    for call in calls:
        call.served_by("generalist" if "generalist" in tiers.servers else "llm")
        assert ("escalated" in call.answer.route or "spilled" in call.answer.route) == call.owned
    tiers.check_attempts(len(calls))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("tiers", ["three tiers"], indirect=True)
async def test_a_generalist_that_fails_is_stood_in_for_by_the_llm(tiers: Tiers, fault: str) -> None:
    await tiers.break_them(("generalist",), fault)
    calls = await storm(tiers.rig)
    for call in calls:
        if call.owned:
            call.served_by("specialist")
        elif fault == "cut" and call.answer.route["tier"] == "generalist":
            call.broken_off_by("generalist")
        else:
            call.served_by("llm")
            assert "generalist" in call.answer.route
    tiers.check_attempts(len(calls))


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_llm_that_fails_takes_no_other_tier_with_it(tiers: Tiers, fault: str) -> None:
    await tiers.break_them(("llm",), fault)
    calls = await storm(tiers.rig)
    for call in calls:
        if call.owned:
            call.served_by("specialist")
        elif "generalist" in tiers.servers:
            call.served_by("generalist")
        else:
            call.failed_by_the_llm(fault)
    tiers.check_attempts(len(calls))


@pytest.mark.parametrize("fault", FAULTS)
async def test_where_every_tier_fails_the_caller_is_told_so(tiers: Tiers, fault: str) -> None:
    await tiers.break_them(("specialist", "generalist", "llm"), fault)
    calls = await storm(tiers.rig)
    for call in calls:
        if fault == "cut" and call.answer.route["tier"] == "generalist":
            call.broken_off_by("generalist")
        else:
            call.failed_by_the_llm(fault)
    tiers.check_attempts(len(calls))


async def test_in_a_storm_of_5xx_a_specialist_is_left_alone(rig: Rig) -> None:
    await Tiers(rig, {"specialist": rig.triton, "llm": rig.llm}).break_them(("specialist",), "5xx")
    routes = [(await rig.post(task(str(number)))).route for number in range(30)]
    assert {route["tier"] for route in routes} == {"llm"}
    assert [route.get("escalated") for route in routes[:5]] == ["error"] * 5
    assert len(rig.triton.heard) < 12  # five in a row, then one probe after 0.5, 1, 2 … seconds
    assert routes[5]["spilled"] == "cold"


async def test_connections_that_go_stale_cost_at_most_a_tenth_more_calls(rig: Rig) -> None:
    """Every connection answers once and is reset by its second call: the worst that keep-alive can do."""
    served: set[asyncio.StreamWriter] = set()
    speak = healthy(chat_model("llm"))

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if writer in served:
            reset(writer)
            return
        served.add(writer)
        await speak(heard, writer)

    rig.llm.reply = reply
    rig.gateway.client.budget = RetryBudget(lambda: 0.0)
    calls = 200
    answers = [await rig.post(chat(str(number), tools=[PLAY])) for number in range(calls)]
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
