"""Callers as they come: slow, idle, not reading, half closed, too many. Time is passed to the sweep, not waited for."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from gateway_fakes import STREAM_HEAD, Caller, Heard, Rig, chat, chunk, task, until

BODY = json.dumps(chat("hi")).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(BODY)


async def held(rig: Rig, count: int = 1) -> None:
    await until(lambda: len(rig.gateway.public.connections) == count)


def later(rig: Rig, seconds: float) -> None:
    """Sweep as if this time had passed."""
    now = asyncio.get_running_loop().time()
    for connection in list(rig.gateway.public.connections):
        connection.sweep(now + seconds)


@pytest.mark.parametrize("sent", [b"P", HEAD[:40], HEAD, HEAD + BODY[:-1]])
async def test_a_request_that_does_not_arrive_in_time_is_a_408(rig: Rig, sent: bytes) -> None:
    caller = await rig.connect()
    caller.send(sent)
    await until(lambda: any(connection._reading for connection in rig.gateway.public.connections))
    later(rig, 59)
    later(rig, 61)
    later(rig, 62)
    answer = await caller.answer()
    assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")
    assert await caller.reader.read() == b""
    assert rig.llm.heard == []
    caller.close()


async def test_a_body_that_does_not_follow_100_continue_is_a_408(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(HEAD.replace(b"host", b"expect: 100-continue\r\nhost"))
    assert (await caller.head()).status == 100
    later(rig, 61)
    assert (await caller.answer()).status == 408
    caller.close()


async def test_an_idle_connection_is_closed_without_a_word(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(HEAD + BODY)
    assert (await caller.answer()).status == 200
    later(rig, 119)
    caller.send(HEAD + BODY)
    assert (await caller.answer()).status == 200
    later(rig, 121)
    assert await caller.reader.read() == b""
    caller.close()


async def test_a_long_answer_is_no_idle_connection(rig: Rig) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await rig.llm.default(heard, writer)

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(HEAD + BODY)
    await until(lambda: rig.llm.heard)
    later(rig, 10_000)
    go.set()
    assert (await caller.answer()).status == 200
    caller.close()


async def test_a_caller_that_does_not_read_is_cut_and_its_call_cancelled(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while True:
            writer.write(chunk(b"data: " + b"x" * 65_536 + b"\n\n"))
            await writer.drain()

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(HEAD + BODY)
    await until(lambda: any(c._stalled_since is not None for c in rig.gateway.public.connections))
    later(rig, 121)
    await until(lambda: rig.llm.closed)
    await until(lambda: rig.gateway.public.in_flight == 0)
    caller.close()


async def test_a_caller_that_half_closes_counts_as_gone(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(HEAD + BODY)
    await until(lambda: rig.llm.heard)
    caller.writer.write_eof()
    await until(lambda: rig.llm.closed)
    assert await caller.reader.read() == b""
    caller.close()


async def test_a_caller_that_leaves_during_a_specialists_try_never_reaches_the_llm(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rig.triton.reply = reply
    data = json.dumps(task()).encode()
    caller = await rig.connect()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await until(lambda: rig.triton.heard)
    caller.close()
    await until(lambda: rig.triton.closed)
    await until(lambda: rig.gateway.public.in_flight == 0)
    assert rig.llm.heard == []
    assert rig.signals.pools["tiny"].in_flight == 0


async def test_connections_above_the_bound_are_told_and_closed(rig: Rig) -> None:
    rig.gateway.public.limits = dataclasses.replace(rig.gateway.public.limits, connections=2)
    first, second = await rig.connect(), await rig.connect()
    await held(rig, 2)
    third = await rig.connect()
    answer = await third.answer()
    assert (answer.status, answer.json["error"]["code"]) == (503, "too_many_connections")
    assert await third.reader.read() == b""
    await held(rig, 2)
    for caller in (first, second):
        caller.send(HEAD + BODY)
        assert (await caller.answer()).status == 200
    for caller in (first, second, third):
        caller.close()


async def test_a_pipelining_caller_cannot_make_the_gateway_read_ahead_without_bound(rig: Rig) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await rig.llm.default(heard, writer)

    rig.llm.reply = reply
    caller: Caller = await rig.connect()
    caller.send(HEAD + BODY)
    await until(lambda: rig.llm.heard)
    [connection] = rig.gateway.public.connections
    calls = 20_000
    caller.send((HEAD + BODY) * calls)
    await until(lambda: connection._queue)
    assert len(connection._queue) < calls / 4
    caller.writer.transport.abort()
    go.set()
    await held(rig, 0)
