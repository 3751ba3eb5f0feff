"""HTTP done right: what a server meets, and refuses in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import COMPLETION, Heard, Rig, chat, task, until, whole

BODY = json.dumps(chat("hi")).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"


def post(body: bytes = BODY, extra: bytes = b"") -> bytes:
    return POST + extra + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
        POST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"content-length: +2\r\n\r\n{}",
        POST + b"content-length: 2,2\r\n\r\n{}",
        POST + b"content-length: 0x2\r\n\r\n{}",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"x: a\nb\rc: d\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"transfer-encoding: chunked\r\n\r\n5;\nGET /\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
        POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"content-length : 2\r\n\r\n{}",
        POST + b"content-length: 2 2\r\n\r\n{}",
        POST + b"content-length:\r\n 2\r\n\r\n{}",
        POST + b"content-length: \r\n\r\n{}",
        POST + b"content-length: 99999999999999999999\r\n\r\n{}",
        POST + b"x\x00y: a\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"x: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"x y: a\r\ncontent-length: 2\r\n\r\n{}",
        POST + b": a\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"x: a\rb: c\r\ncontent-length: 2\r\n\r\n{}",
        POST.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\n host: g\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/x y HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"host: other\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST http://x/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /v1/x HTTP/9.9\r\nhost: x\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_differently_is_refused(rig: Rig, request_bytes: bytes) -> None:
    answer = await rig.raw(request_bytes + post())
    assert answer.status == 400
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["connection"] == "close"
    assert rig.llm.heard == []


async def test_huge_headers_are_a_431(rig: Rig) -> None:
    one = await rig.raw(POST + b"x: " + b"a" * 20_000 + b"\r\n\r\n")
    many = await rig.raw(POST + b"x: a\r\n" * 300 + b"\r\n")
    endless = await rig.raw(POST + b"x: " + b"a" * 20_000)
    assert [one.status, many.status, endless.status] == [431, 431, 431]


async def test_a_huge_body_is_a_413_whether_announced_or_not(rig: Rig) -> None:
    announced = await rig.raw(POST + b"content-length: 99999999\r\n\r\n")
    chunked = await rig.raw(POST + b"transfer-encoding: chunked\r\n\r\n200000\r\n" + b"a" * 0x200000)
    assert [announced.status, chunked.status] == [413, 413]
    assert announced.json["error"]["code"] == "body_too_large"


async def test_a_chunked_body_arrives_whole(rig: Rig) -> None:
    pieces = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in BODY) + b"0\r\nx-trailer: 1\r\n\r\n"
    assert (await rig.raw(POST + b"transfer-encoding: chunked\r\n\r\n" + pieces)).status == 200
    assert rig.llm.heard[0].body == BODY
    assert rig.llm.heard[0].header("transfer-encoding") is None


async def test_100_continue_is_sent_before_the_body_is_read(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(BODY))
    assert await asyncio.wait_for(caller.reader.readuntil(b"\r\n\r\n"), 60) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.send(BODY)
    assert (await caller.answer()).status == 200
    assert rig.llm.heard[0].header("expect") is None
    caller.close()
    assert (await rig.raw(POST + b"expect: a-pony\r\ncontent-length: 2\r\n\r\n{}")).status == 417


async def test_pipelined_calls_are_answered_in_order(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        number = heard.json["messages"][0]["content"]
        await asyncio.sleep(0.05 if number == "0" else 0)
        writer.write(whole(number.encode()))

    rig.llm.reply = reply
    caller = await rig.connect()
    caller.send(b"".join(post(json.dumps(chat(str(n))).encode()) for n in range(20)))
    assert [(await caller.answer()).body for _ in range(20)] == [str(n).encode() for n in range(20)]
    caller.send(post(json.dumps(chat("21")).encode()))
    assert (await caller.answer()).body == b"21"
    caller.close()


async def test_garbage_after_a_good_call_is_refused_after_its_answer(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(post() + b"GARBAGE\r\n\r\n")
    assert (await caller.answer()).status == 200
    assert (await caller.answer()).status == 400
    assert await caller.reader.read() == b""
    caller.close()


async def test_bytes_may_come_one_by_one(rig: Rig) -> None:
    caller = await rig.connect()
    for byte in post():
        caller.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await caller.answer()).status == 200
    caller.close()


async def test_http_1_0_gets_its_answer_and_the_end(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(post(json.dumps(chat("x", stream=True)).encode()).replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await caller.answer()
    assert answer.headers["connection"] == "close"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    caller.close()


async def test_head_and_upgrade_do_not_confuse_anybody(rig: Rig) -> None:
    caller = await rig.connect()
    caller.send(b"HEAD /v1/models/x HTTP/1.1\r\nhost: g\r\n\r\n" + post())
    assert (await caller.head()).status == 200
    assert (await caller.answer()).json == COMPLETION
    caller.close()
    upgrade = b"GET /v1/x HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    answer = await rig.raw(upgrade)
    assert answer.headers["connection"] == "close"
    assert rig.llm.heard[-1].header("upgrade") is None


async def test_a_body_that_is_no_json_is_the_llms_to_judge(rig: Rig) -> None:
    await rig.post(b"{nope")
    assert rig.llm.heard[0].body == b"{nope"
    [record] = await rig.records()
    assert record["request"] == "{nope"


async def test_a_drain_finishes_what_is_in_flight_and_what_still_comes(rig: Rig) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await rig.llm.default(heard, writer)

    rig.llm.reply = reply
    host, _, port = rig.gateway.address.rpartition(":")
    idle = await rig.connect()
    waiting = asyncio.create_task(rig.post(chat("first")))
    await until(lambda: rig.llm.heard)
    rig.stopped = True
    draining = asyncio.create_task(rig.gateway.drain())
    await asyncio.sleep(0.05)
    assert (await rig.get("/healthz", admin=True)).status == 503
    assert (await rig.get("/readyz", admin=True)).status == 503
    idle.send(post(json.dumps(task()).encode()))
    late = await idle.answer()
    idle.close()
    assert (late.status, late.headers["connection"]) == (200, "close")
    go.set()
    assert (await waiting).status == 200
    await draining
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(host, int(port))
    assert rig.gateway.counters.capture.records == 2


async def test_a_drain_that_runs_out_of_time_tells_the_caller(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    rig.llm.reply = reply
    waiting = asyncio.create_task(rig.post(chat("first")))
    await until(lambda: rig.llm.heard)
    rig.stopped = True
    await rig.gateway.stop()
    answer = await waiting
    assert (answer.status, answer.json["error"]["code"]) == (503, "shutting_down")


async def test_the_admin_port_tells_health_signals_metrics_and_table(rig: Rig) -> None:
    await rig.post(task())
    await rig.post(chat("hi"))
    pages = {
        page: await rig.get(page, admin=True) for page in ("/healthz", "/readyz", "/signals", "/metrics", "/table")
    }
    assert {page: answer.status for page, answer in pages.items()} == dict.fromkeys(pages, 200)
    signals = pages["/signals"].json
    assert signals["tiers"]["llm"]["calls"] == signals["tiers"]["specialist"]["calls"] == 1
    assert signals["tiers"]["llm"]["input_tokens"] == 11
    assert signals["specialists"]["intents"]["arms"]["rev1"]["latency_seconds"]["+Inf"] == 1
    assert pages["/table"].json["version"] == 1
    assert b'slmfleet_gateway_calls_total{tier="llm"} 1.0' in pages["/metrics"].body
    assert (await rig.get("/v1/models", admin=True)).status == 404
    assert (await rig.get("/signals")).status == 404
