"""What clients rely on beside the answer: ids, methods, lists of models, keys in the header that the API wants."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from gateway_fakes import STREAM_HEAD, Answer, Heard, Rig, chat, chunk, event, task, whole

from slmfleet.gateway.arms import conversation_of
from slmfleet.gateway.bodies import assemble
from slmfleet.gateway.errors import (
    ApiError,
    bad_request,
    body_too_large,
    llm_broken,
    llm_timeout,
    llm_unreachable,
    no_table,
)


def answer_with(rig: Rig, data: bytes) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    rig.llm.reply = reply


async def request(rig: Rig, line: str, headers: str = "") -> Answer:
    caller = await rig.connect()
    caller.send(f"{line} HTTP/1.1\r\nhost: g\r\n{headers}\r\n".encode())
    answer = await caller.head()
    if not line.startswith("HEAD"):
        answer.body = await caller.reader.readexactly(int(answer.headers.get("content-length", 0)))
    caller.close()
    return answer


# --- ids ---


@pytest.mark.parametrize("given", ["", "x-request-id: mine-7\r\n"])
async def test_the_llms_request_id_is_the_callers_answer(rig: Rig, given: str) -> None:
    answer_with(rig, whole(b"{}", extra="X-Request-Id: req-1\r\n"))
    assert (await rig.post(chat("hi"), headers=given)).headers["x-request-id"] == "req-1"
    assert rig.llm.heard[0].header("x-request-id") == ("mine-7" if given else None)


async def test_without_one_it_is_the_callers_own_and_else_ours(rig: Rig) -> None:
    answer_with(rig, whole(b"{}"))
    for body in (chat("hi"), task()):
        assert (await rig.post(body, headers="x-request-id: mine-7\r\n")).headers["x-request-id"] == "mine-7"
        ours = [(await rig.post(body)).headers["x-request-id"] for _ in range(2)]
        assert len(set(ours)) == 2
    too_long = await rig.post(chat("hi"), headers=f"x-request-id: {'a' * 500}\r\n")
    assert len(too_long.headers["x-request-id"]) < 200


async def test_errors_of_our_own_have_an_id_too(rig: Rig) -> None:
    unknown = await rig.get("/nothing")
    await rig.llm.stop()
    unreachable = await rig.post(chat("hi"), headers="x-request-id: mine-7\r\n")
    assert unknown.headers["x-request-id"]
    assert unreachable.headers["x-request-id"] == "mine-7"
    assert unreachable.route["tier"] == "llm"


async def test_a_route_that_the_llm_claims_is_not_believed(rig: Rig) -> None:
    answer_with(rig, whole(b"{}", extra="X-Slmfleet-Route: tier=specialist\r\n"))
    assert (await rig.post(chat("hi"))).route["tier"] == "llm"


# --- methods ---


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_under_v1_are_the_llms_to_answer(rig: Rig, method: str) -> None:
    answer_with(rig, whole(b'{"heard":true}', extra="access-control-allow-origin: *\r\n"))
    answer = await request(rig, f"{method} /v1/chat/completions")
    assert (answer.status, answer.body) == (200, b'{"heard":true}')
    assert answer.headers["access-control-allow-origin"] == "*"
    assert rig.llm.heard[0].method == method


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE"])
async def test_a_method_that_could_show_the_routers_key_is_a_405(rig: Rig, method: str) -> None:
    answer = await request(rig, f"{method} /v1/models")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]
    assert rig.llm.heard == []


async def test_a_method_that_is_none_is_a_400(rig: Rig) -> None:
    assert (await request(rig, "BREW /v1/models")).status == 400


# --- models ---


async def test_a_specialist_is_found_by_its_name_alone(rig: Rig) -> None:
    assert (await request(rig, "GET /v1/models/intent%73")).status == 200
    head = await request(rig, "HEAD /v1/models/intents")
    assert (head.status, rig.llm.heard) == (200, [])
    answer_with(rig, whole(b'{"error":{}}', status="404 Not Found"))
    assert (await request(rig, "GET /v1/modelsintents")).status == 404
    assert (await request(rig, "GET /v1/models/other")).status == 404
    assert (await request(rig, "DELETE /v1/models/intents")).status == 404


async def test_the_list_is_read_whatever_the_caller_accepts(rig: Rig) -> None:
    packed = gzip.compress(b'{"data":[{"id":"big"},{"id":"intents"}]}')
    answer_with(rig, whole(packed, extra='content-encoding: gzip\r\netag: "1"\r\n'))
    answer = await request(rig, "GET /v1/models", "accept-encoding: br, zstd\r\nif-none-match: x\r\n")
    assert [model["id"] for model in json.loads(answer.body)["data"]] == ["big", "intents"]
    assert not {"content-encoding", "etag"} & answer.headers.keys()
    assert rig.llm.heard[0].header("accept-encoding") is None
    assert rig.llm.heard[0].header("if-none-match") is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"type":"model","id":"claude"}],"has_more":false,"first_id":"claude","last_id":"claude"}',
        b'{"models":["llama"]}',
        b"[1]",
        b"not json",
    ],
)
async def test_a_list_of_another_shape_is_passed_on_as_it_is(rig: Rig, body: bytes) -> None:
    answer_with(rig, whole(body, extra='etag: "1"\r\n'))
    answer = await rig.get("/v1/models")
    assert (answer.body, answer.headers["etag"]) == (body, '"1"')


async def test_an_endless_list_is_refused_rather_than_cut(rig: Rig) -> None:
    answer_with(rig, whole(b" " * (9 << 20)))
    assert (await rig.get("/v1/models")).json["error"]["code"] == "upstream_too_large"


# --- Anthropic's messages ---

MESSAGE = {
    "model": "claude",
    "max_tokens": 9,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "hi"}],
    "metadata": {"user_id": "alice"},
}


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/v1/messages", "x-api-key: mine\r\n", {"x-api-key": "secret", "authorization": None}),
        ("/v1/messages", "authorization: Bearer mine\r\n", {"x-api-key": None, "authorization": "Bearer secret"}),
        ("/v1/messages/count_tokens", "", {"x-api-key": "secret", "authorization": None}),
        ("/v1/chat/completions", "api-key: mine\r\n", {"api-key": "secret", "authorization": None}),
        ("/v1/chat/completions", "", {"x-api-key": None, "authorization": "Bearer secret"}),
        (
            "/v1/chat/completions",
            "x-api-key: mine\r\nauthorization: Bearer mine\r\n",
            {"x-api-key": None, "authorization": "Bearer secret"},
        ),
    ],
)
async def test_the_routers_key_goes_where_the_callers_was(rig: Rig, path: str, sent: str, expected: dict) -> None:
    key = rig.folder / "key"
    key.write_text("secret\n", encoding="utf-8")
    rig.content["llm"]["api_key_file"] = str(key)
    await rig.use({**rig.content, "version": 2})
    await rig.post(MESSAGE, path=path, headers=sent)
    heard = rig.llm.heard[0]
    assert {name: heard.header(name) for name in expected} == expected
    assert "mine" not in str(heard.headers)


async def test_messages_are_passed_on_as_they_are_and_logged(rig: Rig) -> None:
    rig.content["llm"]["model"] = "gpt-large"
    await rig.use({**rig.content, "version": 2})
    answer = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "hi"}]}
    answer_with(rig, whole(json.dumps(answer).encode(), extra="request-id: req_1\r\n"))
    body = json.dumps(MESSAGE).encode()
    given = await rig.post(body, path="/v1/messages?beta=true", headers="x-api-key: k\r\nanthropic-version: 1\r\n")
    assert (given.headers["request-id"], given.json) == ("req_1", answer)
    heard = rig.llm.heard[0]
    assert (heard.target, heard.body) == ("/v1/messages?beta=true", body)
    assert (heard.header("x-api-key"), heard.header("anthropic-version")) == ("k", "1")
    [record] = await rig.records()
    assert (record["api"], record["response"]) == ("messages", answer)
    user = record["request"].pop("metadata")["user_id"]
    assert record["request"] == {name: value for name, value in MESSAGE.items() if name != "metadata"}
    assert user != "alice"


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {content['type']}\n".encode() + event(content) for content in events)


def test_a_streamed_message_becomes_what_a_call_without_streaming_returns() -> None:
    start = {"id": "m", "type": "message", "content": [], "stop_reason": None, "usage": {"input_tokens": 3}}
    tool = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    deltas = [
        (0, {"type": "thinking_delta", "thinking": "Hm"}),
        (0, {"type": "thinking_delta", "thinking": "m."}),
        (0, {"type": "signature_delta", "signature": "s"}),
        (1, {"type": "text_delta", "text": "Let me"}),
        (1, {"type": "text_delta", "text": " look."}),
        (1, {"type": "citations_delta", "citation": {"url": "u"}}),
        (2, {"type": "input_json_delta", "partial_json": ""}),
        (2, {"type": "input_json_delta", "partial_json": '{"city":'}),
        (2, {"type": "input_json_delta", "partial_json": ' "Rome"}'}),
    ]
    blocks = [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": ""}, tool]
    stream = sse(
        {"type": "message_start", "message": start},
        *({"type": "content_block_start", "index": i, "content_block": block} for i, block in enumerate(blocks)),
        {"type": "ping"},
        *({"type": "content_block_delta", "index": i, "delta": delta} for i, delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    )
    assert assemble(stream, "messages") == {
        "id": "m",
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "Hmm.", "signature": "s"},
            {"type": "text", "text": "Let me look.", "citations": [{"url": "u"}]},
            {**tool, "input": {"city": "Rome"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 8},
    }
    cut = stream[: stream.index(b' \\"Rome')]
    assert assemble(cut, "messages")["content"][2]["input"] == '{"city":'
    failed = {"type": "error", "error": {"type": "overloaded_error"}}
    assert assemble(sse(failed), "messages") == failed
    assert assemble(b": nothing\n\n", "messages") is None


def test_a_conversation_keeps_its_id_in_every_api() -> None:
    turn, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}
    for one, two in (("system", "messages"), ("instructions", "input")):
        first = conversation_of(None, {one: "Be brief.", two: [turn]})
        assert conversation_of(None, {one: "Be brief.", two: [turn, answer, turn]}) == first
        assert conversation_of(None, {one: "Be long.", two: [turn]}) != first
    assert conversation_of(None, {"input": ["a"]}) != conversation_of(None, {"input": ["b"]})


# --- errors in a stream that has begun ---


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/responses", b"error"), ("/v1/messages", b"error"), ("/v1/chat/completions", None)]
)
async def test_a_stream_that_breaks_ends_as_its_api_ends_them(rig: Rig, path: str, name: bytes | None) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event({"type": "x", "sequence_number": 4})))
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    answer = await rig.post(chat("hi", stream=True), path=path)
    last = answer.body.strip().split(b"\n\n")[-1]
    kind, _, data = last.rpartition(b"data: ")
    content = json.loads(data)
    assert kind == (b"event: " + name + b"\n" if name else b"")
    if path == "/v1/messages":
        assert content == {"type": "error", "error": {"type": "api_error", "message": content["error"]["message"]}}
        assert "broke off" in content["error"]["message"]
        return
    assert content["error"]["code"] == "upstream_broken"
    if path == "/v1/responses":
        assert (content["type"], content["code"], content["sequence_number"]) == ("error", "upstream_broken", 5)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (bad_request("x"), "invalid_request_error"),
        (body_too_large(1), "request_too_large"),
        (no_table(), "overloaded_error"),
        (llm_unreachable("http://x", "y"), "api_error"),
        (llm_timeout("http://x", "y"), "timeout_error"),
    ],
)
def test_anthropics_clients_get_errors_in_anthropics_shape(error: ApiError, kind: str) -> None:
    for path in (b"/v1/messages", b"/v1/messages/count_tokens"):
        assert json.loads(error.body(path)) == {"type": "error", "error": {"type": kind, "message": error.message}}
    assert json.loads(error.body(b"/v1/chat/completions"))["error"]["code"] == error.code


async def test_a_message_that_cannot_be_sent_is_told_in_anthropics_shape(rig: Rig) -> None:
    await rig.llm.stop()
    answer = await rig.post(chat("hi"), path="/v1/messages")
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (502, "error", "api_error")
    [record] = await rig.records()
    assert record["response"] == answer.json


def test_an_error_event_is_one_event() -> None:
    for path in (b"/v1/responses", b"/v1/messages", b"/v1/chat/completions"):
        data = llm_broken("http://x", "a\n\nb").event(path)
        assert data.count(b"\n\n") == 1
