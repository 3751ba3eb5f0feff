"""What a caller demands beyond a specialist's own format: its own schema, its own tools."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from gateway_fakes import SCHEMA, FakeLlm, Heard, Rig, task, whole

from slmfleet.gateway.answers import Answer, completion, events
from slmfleet.gateway.bodies import assemble
from slmfleet.gateway.demands import problem_of_calls, problem_of_object, unmet
from slmfleet.gateway.schemas import MAX_BYTES, fits
from slmfleet.wire.routes import OutputFormat
from slmfleet.wire.toolcalls import ToolCall, calls_of, text_of

JSON = OutputFormat(type="json", json_schema=SCHEMA)
TOOL = OutputFormat(type="tool")
CLOSED = {**SCHEMA, "properties": {"intent": {"enum": ["PlayMusic", "GetWeather"]}}}
PLAY = {
    "type": "function",
    "function": {
        "name": "play",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    },
}
STOP = {"type": "function", "function": {"name": "stop"}}
CALL = '{"name": "play", "arguments": {"what": "jazz"}}'


def own(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


# --- the caller's own schema ---


@pytest.mark.parametrize(
    ("schema", "tier"),
    [(SCHEMA, "specialist"), (CLOSED, "specialist"), ({**SCHEMA, "required": ["intent", "slot"]}, "llm")],
)
async def test_an_answer_must_fit_the_callers_schema_too(rig: Rig, schema: dict[str, Any], tier: str) -> None:
    answer = await rig.post(task(**own(schema)))
    assert (answer.status, answer.route["tier"]) == (200, tier)
    assert answer.route.get("escalated") == ("invalid" if tier == "llm" else None)
    assert len(rig.triton.heard) == 1


async def test_why_it_did_not_fit_is_in_the_log(rig: Rig) -> None:
    rig.triton.text = '{"intent": "Other"}'
    assert (await rig.post(task(**own(CLOSED)))).route["escalated"] == "invalid"
    first, second = await rig.records()
    assert (first["tier"], second["escalation_reason"]) == ("specialist", "invalid: does not fit the caller's schema")


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {**SCHEMA, "properties": {"intent": {"type": "string", "pattern": "(a+)+$"}}}]
)
async def test_a_schema_that_cannot_be_judged_stays_with_the_llm(rig: Rig, schema: dict[str, Any]) -> None:
    answer = await rig.post(task(**own(schema)))
    assert answer.route == {"tier": "llm", "rule": "unsupported", "detail": "response_format"}


def test_schemas_of_callers_are_bounded() -> None:
    with pytest.raises(ValueError, match="bytes"):
        fits({"enum": ["x" * MAX_BYTES]})
    with pytest.raises(ValueError, match="not a JSON schema"):
        fits([])
    assert fits({"enum": ["x" * 10_000]})("x" * 10_000), "longer than what is kept, and judged all the same"
    remote = fits({"$ref": "http://127.0.0.1:1/schema.json"})
    assert not remote({}), "references are never fetched"


@pytest.mark.parametrize(
    ("output", "request_", "found"),
    [
        (JSON, {}, None),
        (JSON, {"response_format": {"type": "text"}}, None),
        (JSON, {"response_format": {"type": "json_object"}}, None),
        (JSON, own(SCHEMA), None),
        (JSON, {"response_format": {"type": "json_schema", "json_schema": "x"}}, None),
        (OutputFormat(type="text"), {"response_format": {"type": "json_object"}}, "response_format"),
        (OutputFormat(type="label", labels=["a"]), own(SCHEMA), "response_format"),
        (JSON, {"tools": [PLAY]}, "tools"),
        (TOOL, {}, "tools"),
        (TOOL, {"tools": []}, "tools"),
        (TOOL, {"tools": [PLAY], "tool_choice": "none"}, "tool_choice"),
        (TOOL, {"tools": [PLAY], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        (TOOL, {"tools": [PLAY], "tool_choice": {"type": "function", "function": {"name": "gone"}}}, "tool_choice"),
        (TOOL, {"tools": [PLAY], "tool_choice": {"type": "function", "function": {"name": "play"}}}, None),
        (TOOL, {"tools": [PLAY, STOP], "tool_choice": "required"}, None),
        (TOOL, {"tools": [PLAY], "response_format": {"type": "json_object"}}, "response_format"),
        (TOOL, {"tools": [PLAY, {"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        (TOOL, {"tools": "x"}, "tools"),
        (TOOL, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]}, "tools"),
    ],
)
def test_what_a_specialist_cannot_meet(output: OutputFormat, request_: dict[str, Any], found: str | None) -> None:
    assert unmet(request_, output) == found


def test_an_object_is_judged_by_a_schema_only_where_it_is_another() -> None:
    assert problem_of_object("{}", own(SCHEMA), JSON) is None, "its own check has judged that"
    assert problem_of_object("{}", own(CLOSED), JSON) == "does not fit the caller's schema"


# --- the strict text of tool calls ---


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (CALL, [("play", {"what": "jazz"})]),
        (f"  {CALL}\n", [("play", {"what": "jazz"})]),
        (f'[{CALL}, {{"name": "stop", "arguments": {{}}}}]', [("play", {"what": "jazz"}), ("stop", {})]),
        (f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{CALL}</tool_call>", [("play", {"what": "jazz"})] * 2),
    ],
)
def test_tool_calls_are_read_from_their_strict_text(text: str, calls: list[tuple[str, Any]]) -> None:
    assert calls_of(text) == [ToolCall(*call) for call in calls]
    assert calls_of(text_of(calls_of(text))) == calls_of(text)


@pytest.mark.parametrize(
    "text",
    ["", "I will play jazz", "[]", "{}", '{"name": "play"}', '{"name": 1, "arguments": {}}', f"Sure! {CALL}",
     '{"name": "play", "arguments": "{}"}', '{"name": "play", "arguments": {}, "id": 1}', f"<tool_call>{CALL}",
     f"<tool_call>{CALL}</tool_call> and more", '{"name": "play", "arguments": {"what": NaN}}',
     '{"name": "play", "arguments": {"what": "\\ud800"}}', "[" * 5000],
)  # fmt: skip
def test_what_is_not_strictly_a_tool_call_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        calls_of(text)


@pytest.mark.parametrize(
    ("calls", "request_", "words"),
    [
        ([("play", {"what": "jazz"})], {}, None),
        ([("play", {"what": "jazz"}), ("stop", {})], {}, None),
        ([("play", {"what": "jazz"}), ("stop", {})], {"parallel_tool_calls": False}, "takes one"),
        ([("play", {"what": 1})], {}, "do not fit"),
        ([("play", {})], {}, "do not fit"),
        ([("pause", {})], {}, "does not have"),
        ([("stop", {})], {"tool_choice": {"type": "function", "function": {"name": "play"}}}, "demands"),
    ],
)
def test_calls_must_fit_the_tools_of_the_request(calls: list[Any], request_: dict[str, Any], words: str | None) -> None:
    found = problem_of_calls([ToolCall(*call) for call in calls], {"tools": [PLAY, STOP], **request_})
    assert found is None if words is None else words in str(found)


def test_a_streamed_tool_call_is_the_same_as_a_whole_one() -> None:
    answer = Answer("", "stop", 1, 2, (ToolCall("play", {"what": "jazz"}), ToolCall("stop", {"n": 2**70})))
    told = {"call_id": "gw-1", "created": 1, "model": "big"}
    alone = orjson.loads(completion(answer, **told))  # type: ignore[arg-type]
    together = assemble(events(answer, include_usage=True, **told), "chat.completions")  # type: ignore[arg-type]
    message = alone["choices"][0]["message"]
    assert message["content"] is None
    assert together["choices"][0]["message"] == {
        "role": "assistant", "content": None, "tool_calls": message["tool_calls"],
    }  # fmt: skip
    assert together["choices"][0]["finish_reason"] == alone["choices"][0]["finish_reason"] == "tool_calls"
    ids = [call["id"] for call in message["tool_calls"]]
    assert len(set(ids)) == 2
    assert all(len(name) <= 40 for name in ids)
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ['{"what":"jazz"}', f'{{"n":{2**70}}}']


# --- through the gateway ---


@pytest.fixture
async def caller(rig: Rig) -> Rig:
    """A rig whose specialist answers by tool calls."""
    rig.triton.text = CALL
    await rig.change(output={"type": "tool"})
    return rig


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_with_tools_is_answered_by_a_specialist_that_calls_them(caller: Rig, stream: bool) -> None:
    answer = await caller.post(task(tools=[PLAY, STOP], stream=stream))
    assert (answer.route["tier"], answer.route["rule"]) == ("specialist", "fingerprint")
    found = assemble(answer.body, "chat.completions") if stream else answer.json
    [call] = found["choices"][0]["message"]["tool_calls"]
    assert (call["type"], call["function"]) == ("function", {"name": "play", "arguments": '{"what":"jazz"}'})
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    assert "tools" not in caller.triton.heard[0].json["text_input"], "the prompt is as in training"
    [record] = await caller.records()
    assert record["response"]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "play"


@pytest.mark.parametrize(
    "text", ["I'd play jazz", '{"name": "pause", "arguments": {}}', '{"name": "play", "arguments": {"what": 1}}']
)
async def test_a_call_that_does_not_fit_escalates_and_the_caller_sees_one_answer(caller: Rig, text: str) -> None:
    caller.triton.text = text
    answer = await caller.post(task(tools=[PLAY]))
    assert (answer.route["tier"], answer.route["escalated"]) == ("llm", "invalid")
    assert answer.json["id"] == "chatcmpl-1"
    assert caller.signals.specialists["intents"].arms["rev1"].invalid == 1


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({}, "tools"),
        ({"tools": [PLAY], "tool_choice": "none"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
async def test_what_does_not_want_tool_calls_stays_with_the_llm(caller: Rig, more: dict[str, Any], detail: str) -> None:
    answer = await caller.post(task(**more))
    assert answer.route == {"tier": "llm", "rule": "unsupported", "detail": detail}
    assert caller.triton.heard == []


async def test_a_tool_loop_that_has_begun_stays_with_the_llm(caller: Rig) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "play", "arguments": "{}"}}]
    turns = [{"role": "assistant", "content": None, "tool_calls": calls}]
    turns.append({"role": "tool", "tool_call_id": "c1", "content": "ok"})
    begun = task(tools=[PLAY])
    answer = await caller.post({**begun, "messages": [*begun["messages"], *turns]})
    assert answer.route == {"tier": "llm", "rule": "unsupported", "detail": "tool_messages"}


async def test_tools_that_nobody_owns_are_not_for_a_generalist_without_them(caller: Rig) -> None:
    generalist = FakeLlm()
    await generalist.start()
    content = json.loads(json.dumps(caller.content)) | {"version": 3}
    content["generalist"] = {"url": f"{generalist.url}/v1", "model": "small", "escalations": True}
    await caller.use(content)
    other = {"model": "big", "messages": [{"role": "user", "content": "hello"}], "tools": [PLAY]}
    assert (await caller.post(other)).route["tier"] == "llm"
    caller.triton.text = "no call"
    assert (await caller.post(task(tools=[PLAY]))).route["tier"] == "llm"
    assert generalist.heard == []
    await generalist.stop()


async def test_a_shadow_compares_tool_calls(caller: Rig) -> None:
    message = {
        "role": "assistant", "content": None,
        "tool_calls": [{"id": "x", "type": "function", "function": {"name": "play", "arguments": '{"what": "jazz"}'}}],
    }  # fmt: skip
    body = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(json.dumps(body).encode()))

    caller.llm.reply = reply
    candidate = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
    await caller.change(stable=None, candidate=candidate, shadow_percent=100, weight_percent=0)
    assert (await caller.post(task(tools=[PLAY]))).route["arm"] == "llm"
    shadows = caller.gateway.counters.shadow("intents", "rev2")
    async with asyncio.timeout(30):
        while not (shadows.agreed or shadows.disagreed or shadows.failed or shadows.skipped):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert (shadows.agreed, shadows.disagreed, shadows.failed, shadows.skipped) == (1, 0, 0, 0)
