"""Calls that stay with the LLM: what goes in comes out, byte for byte and piece by piece."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import STREAM_HEAD, Heard, Rig, chat, chat_events, chunk, event, until, whole

ODD = b'{ "model" : "big",\n\t"messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9"}] , "x_unknown": 1.50e+3 }\n'


async def test_a_call_nobody_owns_reaches_the_llm_byte_for_byte(rig: Rig) -> None:
    answer = await rig.post(ODD, headers="X-Odd:  two  words \r\nAuthorization: Bearer caller\r\n")
    heard = rig.llm.heard[0]
    assert heard.body == ODD
    assert heard.target == "/v1/chat/completions"
    assert heard.header("authorization") == "Bearer caller"
    assert heard.header("x-odd") == "two  words"
    assert heard.header("host") == rig.llm.url.removeprefix("http://")
    assert (answer.status, answer.headers["x-request-id"]) == (200, "req-1")
    assert answer.route == {"tier": "llm", "rule": "abstain"}


async def test_the_answer_comes_back_byte_for_byte(rig: Rig) -> None:
    body = b'{"odd" :  [1.0,2e5 ], "\\u0041":null}\n\n'

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(body, extra="X-Ratelimit-Remaining-Requests: 9\r\nconnection: keep-alive\r\n"))

    rig.llm.reply = reply
    answer = await rig.post(chat("hi"))
    assert answer.body == body
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert "connection" not in answer.headers


async def test_an_error_of_the_llm_is_passed_on_as_it_is(rig: Rig) -> None:
    body = b'{"error":{"message":"slow down","type":"rate_limit","param":null,"code":"rate_limit_exceeded"}}'

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(body, status="429 Too Many Requests", extra="retry-after: 3\r\n"))

    rig.llm.reply = reply
    answer = await rig.post(chat("hi"))
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, body, "3")


async def test_the_routers_own_key_and_model_replace_the_callers(rig: Rig) -> None:
    key = rig.folder / "key"
    key.write_text("secret\n", encoding="utf-8")
    content = rig.content
    content["llm"] |= {"api_key_file": str(key), "model": "gpt-large"}
    await rig.use({**content, "version": 2})
    body = b'{"tools": [{"model": "inner"}],  "model" :"big", "messages": [ ]}'
    await rig.post(body, headers="authorization: Bearer caller\r\n")
    heard = rig.llm.heard[0]
    assert heard.header("authorization") == "Bearer secret"
    assert heard.body == body.replace(b'"big"', b'"gpt-large"')


async def test_a_stream_is_passed_on_chunk_by_chunk_as_it_arrives(rig: Rig) -> None:
    go = asyncio.Event()
    events = chat_events("ab")

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(events[0]))
        await go.wait()
        writer.write(b"".join(chunk(data) for data in events[1:]) + b"0\r\n\r\n")

    rig.llm.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi", stream=True)).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    assert (await caller.head()).headers["content-type"] == "text/event-stream"
    assert await asyncio.wait_for(caller.chunk(), 60) == events[0]
    go.set()
    rest = b""
    while piece := await caller.chunk():
        rest += piece
    assert rest == b"".join(events[1:])
    caller.close()


async def test_an_llm_that_dies_in_mid_stream_ends_in_an_error_event(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event({"choices": []})))
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    answer = await rig.post(chat("hi", stream=True))
    last = json.loads(answer.body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "upstream_broken"
    assert b"[DONE]" not in answer.body
    [record] = await rig.records()
    assert (record["status"], record["tier"]) == (502, "llm")


async def test_an_llm_that_dies_inside_a_held_answer_is_a_clean_502(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    answer = await rig.post(chat("hi"))
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_broken")


async def test_an_llm_that_is_down_is_a_502_that_says_what_to_do(rig: Rig) -> None:
    await rig.llm.stop()
    answer = await rig.post(chat("hi"))
    error = answer.json["error"]
    assert answer.status == 502
    assert set(error) == {"message", "type", "param", "code"}
    assert rig.llm.url in error["message"]
    assert "spec.llm.url" in error["message"]
    assert rig.signals.client_errors == 1
    assert rig.signals.tiers["llm"].errors == 1


async def test_an_llm_that_is_too_slow_is_a_504(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rig.llm.reply = reply
    content = rig.content
    content["llm"]["timeout_seconds"] = 0.2
    await rig.use({**content, "version": 2})
    answer = await rig.post(chat("hi"))
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")


async def test_a_caller_that_leaves_in_mid_stream_cancels_the_llm(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(b"data: {}\n\n"))
        await asyncio.Event().wait()

    rig.llm.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi", stream=True)).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await caller.head()
    await caller.chunk()
    caller.close()
    await until(lambda: rig.llm.closed)
    assert rig.gateway.public.in_flight == 0


async def test_a_stale_connection_to_the_llm_is_replaced_without_the_caller_knowing(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await rig.llm.default(heard, writer)
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    for _ in range(5):
        assert (await rig.post(chat("hi"))).status == 200


async def test_connections_to_the_llm_are_kept(rig: Rig) -> None:
    for _ in range(5):
        await rig.post(chat("hi"))
    assert rig.llm.connections == 1


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/audio/speech?x=1"])
async def test_every_other_path_under_v1_is_passed_on(rig: Rig, path: str) -> None:
    answer = await rig.post({"model": "big", "input": "x"}, path=path)
    assert answer.status == 200
    assert rig.llm.heard[0].target == path


async def test_models_lists_the_llms_and_the_specialists(rig: Rig) -> None:
    listed = (await rig.get("/v1/models")).json["data"]
    assert [model["id"] for model in listed] == ["big", "intents"]
    assert (await rig.get("/v1/models/intents")).json["owned_by"] == "slmfleet"


@pytest.mark.parametrize("path", ["/", "/v2/x", "/v1/../admin", "/v1/%2e%2E/admin", "/v1/a%2f..%2fb", "/v1"])
async def test_paths_outside_v1_are_refused(rig: Rig, path: str) -> None:
    answer = await rig.get(path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "unknown_url")
    assert rig.llm.heard == []


async def test_an_interim_answer_of_the_llm_is_skipped(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + whole(b"{}"))

    rig.llm.reply = reply
    answer = await rig.post(chat("hi"))
    assert (answer.status, answer.body) == (200, b"{}")
    assert "link" not in answer.headers


async def test_a_slow_reader_holds_the_llm_back(rig: Rig) -> None:
    size, sent = 64 << 20, 0

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(b"GET /v1/files/x/content HTTP/1.1\r\nhost: g\r\n\r\n")
    await caller.head()
    await asyncio.sleep(0.3)
    assert sent < size
    assert len(await caller.reader.readexactly(size)) == size
    caller.close()
