"""The middle tier: what goes to it, what it must prove, and who answers where it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway_fakes import SCHEMA, STREAM_HEAD, FakeLlm, Heard, Rig, chat, chunk, event, task, until, whole
from gateway_faults import PLAY, chat_model, healthy, read_strictly

from slmfleet.gateway.proof import problem_of

SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "intent", "schema": SCHEMA}}


@pytest.fixture
async def small(rig: Rig) -> AsyncIterator[FakeLlm]:
    server = FakeLlm()
    await server.start()
    server.reply = healthy(chat_model("small"))
    await use(rig, server)
    yield server
    await server.stop()


async def use(rig: Rig, server: FakeLlm, **changes: Any) -> None:
    content = json.loads(json.dumps(rig.content))
    content["version"] += 1
    content["generalist"] = {"url": f"{server.url}/v1", "model": "small", **changes}
    await rig.use(content)


def saying(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 21, "completion_tokens": 4, "total_tokens": 25}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def replying(server: FakeLlm, body: bytes) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(body))

    server.reply = reply


async def test_it_answers_what_nobody_owns_under_its_own_name_and_key(rig: Rig, small: FakeLlm) -> None:
    key = rig.folder / "small-key"
    key.write_text("own\n", encoding="utf-8")
    await use(rig, small, api_key_file=str(key))
    replying(small, saying({"content": "hello"}))
    body = json.dumps(chat("hi", x_unknown=1.5)).encode()
    answer = await rig.post(body, headers="authorization: Bearer caller\r\ncookie: c=1\r\ntraceparent: 00-1\r\n")
    assert answer.route == {"tier": "generalist", "rule": "abstain"}
    assert answer.json["choices"][0]["message"]["content"] == "hello"
    heard = small.heard[0]
    assert heard.body == body.replace(b'"big"', b'"small"')
    assert heard.header("authorization") == "Bearer own"
    assert (heard.header("cookie"), heard.header("traceparent")) == (None, "00-1")
    assert rig.llm.heard == []
    tier = rig.signals.tiers["generalist"]
    assert (tier.calls, tier.errors, tier.input_tokens, tier.output_tokens) == (1, 0, 21, 4)
    assert rig.signals.unowned_calls == 1
    [record] = await rig.records()
    assert (record["tier"], record["status"], record["specialist"]) == ("generalist", 200, None)
    assert record["response"]["choices"][0]["message"]["content"] == "hello"


async def test_without_a_key_of_its_own_it_never_sees_the_callers(rig: Rig, small: FakeLlm) -> None:
    await rig.post(chat("hi"), headers="authorization: Bearer caller\r\napi-key: caller\r\n")
    assert b"caller" not in str(small.heard[0].headers).encode()


async def test_its_answer_has_the_callers_request_id_unless_it_has_its_own(rig: Rig, small: FakeLlm) -> None:
    assert (await rig.post(chat("hi"), headers="x-request-id: mine\r\n")).headers["x-request-id"] == "mine"

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(saying({"content": "hello"}), extra="X-Request-Id: small-1\r\n"))

    small.reply = reply
    assert (await rig.post(chat("hi"), headers="x-request-id: mine\r\n")).headers["x-request-id"] == "small-1"


async def test_its_stream_is_passed_on_as_it_arrives(rig: Rig, small: FakeLlm) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        first = event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
        writer.write(STREAM_HEAD + chunk(b": ping\n\n") + chunk(first[:9]) + chunk(first[9:]))
        await go.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    small.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi", stream=True)).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    assert "tier=generalist" in (await caller.head()).headers["x-slmfleet-route"]
    assert b'"a"' in await asyncio.wait_for(caller.chunk(), 60)
    go.set()
    assert (await caller.chunk(), await caller.chunk()) == (b"data: [DONE]\n\n", b"")
    caller.close()


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ({"share_percent": 0}, chat("hi")),
        ({"max_request_bytes": 50}, chat("hi")),
        ({}, chat("hi", tools=[PLAY])),
        ({}, chat("hi", n=2)),
        ({"tools": True}, chat("hi", n=2)),
        ({"tools": True}, chat("hi", logprobs=True)),
        ({}, {"model": "big", "messages": []}),
        ({}, {"model": "intents", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "x"}}),
    ],
)
async def test_its_rule_leaves_these_calls_with_the_llm(rig: Rig, small: FakeLlm, rule: dict, body: dict) -> None:
    if body["model"] == "intents":
        await rig.change(output={"type": "label", "labels": ["a"]})
    await use(rig, small, **rule)
    assert (await rig.post(body)).route["tier"] == "llm"
    assert small.heard == []


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/responses"])
async def test_other_apis_stay_with_the_llm(rig: Rig, small: FakeLlm, path: str) -> None:
    await rig.post({"model": "big", "input": "x"}, path=path)
    assert (len(small.heard), len(rig.llm.heard)) == (0, 1)


async def test_a_conversation_stays_on_its_side_of_the_share(rig: Rig, small: FakeLlm) -> None:
    await use(rig, small, share_percent=40)
    tiers = [
        [(await rig.post(chat("hi"), headers=f"x-conversation-id: c{n}\r\n")).route["tier"] for n in range(40)]
        for _ in range(2)
    ]
    assert tiers[0] == tiers[1]
    assert set(tiers[0]) == {"generalist", "llm"}


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"content": "Sure! {}"}, {"response_format": {"type": "json_object"}}, "not JSON"),
    ({"content": '{"intent": 1}'}, {"response_format": SCHEMA_FORMAT}, "does not fit its schema"),
    ({"content": None, "tool_calls": [{"index": 0, "id": "1", "function": {"name": "fly", "arguments": "{}"}}]},
     {"tools": [PLAY]}, "calls a tool that the request does not have"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "message", "more", "reason"),
    [(False, {"content": " "}, {}, "empty"), *((stream, *row) for stream in (False, True) for row in BAD)],
)
async def test_an_answer_that_is_not_good_enough_is_answered_by_the_llm(
    rig: Rig, small: FakeLlm, message: dict, more: dict, reason: str, stream: bool
) -> None:
    await use(rig, small, tools=True)

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if not stream:
            writer.write(whole(saying(message)))
            return
        first = event({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": message}]})
        writer.write(STREAM_HEAD + chunk(first) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    small.reply = reply
    answer = await rig.post(chat("hi", stream=stream, **more))
    assert answer.route["tier"] == "llm"
    assert answer.route["generalist"] == "invalid"
    assert "error" not in read_strictly(answer)
    assert rig.signals.tiers["generalist"].errors == 1
    first, second = await rig.records()
    assert (first["tier"], second["tier"]) == ("generalist", "llm")
    assert (second["escalated_from"], second["escalation_reason"]) == (first["id"], f"invalid: {reason}")
    assert first["response"]["choices"]


async def test_what_a_specialist_could_not_answer_stays_with_the_llm_unless_the_rule_says_so(
    rig: Rig, small: FakeLlm
) -> None:
    rig.triton.text = "broken"
    assert (await rig.post(task())).route["tier"] == "llm"
    await use(rig, small, escalations=True)
    answer = await rig.post(task())
    assert (answer.route["tier"], answer.route["escalated"]) == ("generalist", "invalid")
    records = await rig.records()
    assert [record["tier"] for record in records] == ["specialist", "llm", "specialist", "generalist"]
    assert records[3]["escalated_from"] == records[2]["id"]
    assert records[3]["escalation_reason"].startswith("invalid")


async def test_one_that_is_down_is_not_asked_for_every_call(rig: Rig, small: FakeLlm) -> None:
    await small.stop()
    first, second = await rig.post(chat("a")), await rig.post(chat("b"))
    assert (first.route["generalist"], second.route["generalist"]) == ("error", "down")
    assert {first.route["tier"], second.route["tier"]} == {"llm"}


async def test_one_that_is_full_leaves_calls_to_the_llm(rig: Rig, small: FakeLlm) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(whole(saying({"content": "late"})))

    small.reply = reply
    await use(rig, small, max_in_flight=1)
    waiting = asyncio.create_task(rig.post(chat("a")))
    await until(lambda: small.heard)
    assert (await rig.post(chat("b"))).route["generalist"] == "full"
    go.set()
    assert (await waiting).route["tier"] == "generalist"


async def test_a_caller_that_leaves_cancels_it_and_is_logged(rig: Rig, small: FakeLlm) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    small.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi")).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await until(lambda: small.heard)
    caller.close()
    await until(lambda: small.closed)
    [record] = await rig.records()
    assert (record["tier"], record["status"]) == ("generalist", 499)
    assert rig.llm.heard == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"url": "nope"}, "generalist.url"), ({"api_key_file": "/nowhere"}, "generalist.api_key_file"),
     ({"model": None}, "generalist.model"), ({"share_percent": 101}, "generalist.share_percent")],
)  # fmt: skip
async def test_a_bad_generalist_is_refused_by_field(rig: Rig, small: FakeLlm, changes: dict, field: str) -> None:
    content = json.loads(json.dumps(rig.content))
    content["version"] += 1
    content["generalist"].update(changes)
    rig.write(content)
    await rig.gateway.watcher.look()
    assert (rig.signals.table_problem or "").startswith(f"{field}: ")


def answer(message: Any, finish_reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


def calling(name: Any, arguments: Any) -> dict[str, Any]:
    return answer({"content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]})


@pytest.mark.parametrize(
    ("given", "request_", "problem"),
    [
        (answer({"content": "x"}), {}, None),
        ({"choices": []}, {}, "no choices"),
        ([], {}, "no choices"),
        (answer(None), {}, "no message"),
        (answer({"content": None}), {}, "empty"),
        (answer({"content": '{"a"', "refusal": None}, "length"), {"response_format": {"type": "json_object"}},
         "cut at its token limit"),
        (answer({"content": '{"intent": "x"}'}), {"response_format": SCHEMA_FORMAT}, None),
        (answer({"content": "{}"}), {"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}}, None),
        (calling("play", '{"what": 1}'), {"tools": [PLAY]}, None),
        (calling("play", ""), {"tools": [PLAY]}, None),
        (calling("play", '{"what": "x"}'), {"tools": [PLAY]}, "does not fit its schema"),
        (calling("play", "{"), {"tools": [PLAY]}, "arguments are not JSON"),
        (calling("play", 7), {"tools": [PLAY]}, "arguments are not JSON"),
        (calling("fly", "{}"), {"tools": [PLAY, "x"]}, "calls a tool that the request does not have"),
        (answer({"tool_calls": ["x"]}), {"tools": [PLAY]}, "no function in a tool call"),
    ],
)  # fmt: skip
def test_the_form_of_an_answer_is_judged(given: Any, request_: dict[str, Any], problem: str | None) -> None:
    assert problem_of(given, request_) == problem
