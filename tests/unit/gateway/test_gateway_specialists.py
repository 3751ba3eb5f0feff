"""Calls that a specialist owns: who answers, what the caller sees, what is counted and logged."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from gateway_fakes import SCHEMA, Heard, Rig, chat, task, until, whole

GOOD = '{"intent":"PlayMusic"}'


async def test_a_fingerprint_brings_the_call_to_its_specialist(rig: Rig) -> None:
    answer = await rig.post(task(max_tokens=5, stop=["\n"]))
    content = answer.json
    assert content["object"] == "chat.completion"
    assert content["model"] == "big"
    assert content["choices"][0]["message"]["content"] == GOOD
    assert content["choices"][0]["finish_reason"] == "stop"
    assert content["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert answer.route == {
        "tier": "specialist", "specialist": "intents", "rule": "fingerprint", "arm": "stable", "revision": "rev1",
    }  # fmt: skip
    sent = rig.triton.heard[0]
    assert sent.target == "/v2/models/slm/generate"
    assert sent.json["text_input"] == "<s><|system|>Name the intent.\n<|user|>play some music\n<|assistant|>"
    sampling = json.loads(sent.json["sampling_parameters"])
    assert sampling == {"lora_name": "intents-1", "max_tokens": 5, "temperature": 0, "stop": ["\n"]}
    assert rig.llm.heard == []


async def test_the_classifier_and_the_name_bring_it_there_too(rig: Rig) -> None:
    classifier = rig.content | {"version": 2, "classifier": {"digest": "sha256:" + "0" * 64, "path": "c"}}
    (rig.folder / "store").mkdir(exist_ok=True)
    (rig.folder / "store" / "c").write_bytes(b"x")
    await rig.use(classifier)
    by_class = (await rig.post(chat("some music please"))).route
    assert (by_class["rule"], by_class["score"], by_class["tier"]) == ("classifier", "0.900", "specialist")
    by_name = (await rig.post(chat("anything") | {"model": "intents"})).route
    assert (by_name["rule"], by_name["tier"]) == ("explicit", "specialist")
    neither = (await rig.post(chat("anything"))).route
    assert (neither["rule"], neither["tier"], neither["score"]) == ("abstain", "llm", "0.100")


async def test_a_classifier_that_is_missing_lets_the_table_through_and_calls_stay_with_the_llm(rig: Rig) -> None:
    content = {**rig.content, "version": 2, "classifier": {"digest": "sha256:" + "0" * 64, "path": "gone"}}
    await rig.use(content)
    assert (await rig.post(chat("some music please"))).route["tier"] == "llm"
    assert "gone" in (rig.signals.table_problem or "")
    assert (await rig.post(task())).route["tier"] == "specialist"


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "content"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "tool_messages"),
    ],
)
async def test_what_a_specialist_cannot_give_stays_with_the_llm(rig: Rig, more: dict, detail: str) -> None:
    answer = await rig.post(task(**more))
    assert answer.route == {"tier": "llm", "rule": "unsupported", "detail": detail}
    assert rig.signals.unowned_calls == 1


async def test_a_streamed_answer_is_checked_first_and_then_streamed(rig: Rig) -> None:
    answer = await rig.post(task(stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix(b"data: ") for line in answer.body.strip().split(b"\n\n")]
    assert lines[-1] == b"[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[1]["choices"][0]["delta"] == {"content": GOOD}
    assert chunks[2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[3]["choices"] == []
    assert chunks[3]["usage"]["total_tokens"] == 13
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize("text", ["not json", '{"intent": 1}', '{"other": "x"}', '["PlayMusic"]', ""])
async def test_a_broken_answer_escalates_within_the_same_request(rig: Rig, text: str) -> None:
    rig.triton.text = text
    answer = await rig.post(task(), headers="x-conversation-id: c1\r\n")
    assert answer.status == 200
    assert answer.json["id"] == "chatcmpl-1"
    assert answer.route["escalated"] == "invalid"
    arm = rig.signals.specialists["intents"].arms["rev1"]
    assert (arm.assigned, arm.served, arm.invalid) == (1, 0, 1)
    assert (arm.conversations, arm.conversations_failed) == (1, 1)
    first, second = await rig.records()
    assert (first["tier"], first["revision"], first["conversation"]) == ("specialist", "rev1", "c1")
    assert first["response"]["choices"][0]["message"]["content"] == text
    assert (second["tier"], second["escalated_from"], second["conversation"]) == ("llm", first["id"], "c1")
    assert second["escalation_reason"].startswith("invalid")


@pytest.mark.parametrize(
    ("output", "tier"),
    [
        ({"type": "json", "json_schema": SCHEMA}, "llm"),
        ({"type": "json"}, "llm"),
        ({"type": "label", "labels": ["PlayMusic"]}, "llm"),
        ({"type": "text"}, "specialist"),
    ],
)
async def test_a_refusal_escalates_wherever_it_is_no_answer_of_the_declared_form(
    rig: Rig, output: dict, tier: str
) -> None:
    """In a task whose answers are text it may be the right answer; nothing guesses at its meaning."""
    await rig.change(output=output)
    rig.triton.text = "I'm sorry, but I cannot help with that."
    assert (await rig.post(task())).route["tier"] == tier


async def test_a_specialist_that_is_too_slow_escalates(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    rig.triton.reply = reply
    await rig.change(timeout_seconds=0.1)
    answer = await rig.post(task())
    assert (answer.status, answer.route["escalated"], answer.route["tier"]) == (200, "timeout", "llm")
    assert rig.signals.specialists["intents"].arms["rev1"].errors == 1
    pool = rig.signals.pools["tiny"]
    assert (pool.in_flight, pool.arrivals, pool.spilled) == (0, 1, 0)
    assert pool.in_flight_seconds > 0.05


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
async def test_an_error_of_triton_escalates(rig: Rig, status: str) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(b'{"error":"boom"}', status=status))

    rig.triton.reply = reply
    assert (await rig.post(task())).route["escalated"] == "error"


async def test_a_pool_that_is_gone_escalates_and_is_left_alone_for_a_while(rig: Rig) -> None:
    await rig.triton.stop()
    assert (await rig.post(task())).route["escalated"] == "error"
    assert (await rig.post(task())).route["spilled"] == "cold"


@pytest.mark.parametrize(
    ("scores", "tier"),
    [
        ({"mean_logprob": -0.1}, "specialist"),
        ({"mean_logprob": -2.0}, "llm"),
        ({"cumulative_logprob": -8.0}, "llm"),
        ({}, "specialist"),
    ],
)
async def test_an_unsure_answer_escalates_where_a_floor_is_set(rig: Rig, scores: dict, tier: str) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        content = {"text_output": GOOD, "finish_reason": "stop", "num_input_tokens": 9, "num_output_tokens": 4}
        writer.write(whole(json.dumps({**content, **scores}).encode()))

    rig.triton.reply = reply
    await rig.change(min_logprob=-1.0)
    answer = await rig.post(task())
    assert answer.route["tier"] == tier
    assert rig.triton.heard[0].json["return_cumulative_logprob"] is True
    assert rig.signals.specialists["intents"].arms["rev1"].low_confidence == (tier == "llm")


async def test_an_adapter_that_vanished_spills_and_blames_nobody(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(b'{"error":"AdapterNotLoaded: intents-1"}', status="400 Bad Request"))

    rig.triton.reply = reply
    assert (await rig.post(task())).route["spilled"] == "cold"
    arm = rig.signals.specialists["intents"].arms["rev1"]
    assert (arm.errors, arm.spilled, arm.conversations) == (0, 1, 0)


async def test_a_cold_pool_spills_at_once_and_is_counted_as_wanted(rig: Rig) -> None:
    content = json.loads(json.dumps(rig.content))
    content["version"], content["pools"][0]["endpoints"] = 2, []
    await rig.use(content)
    answer = await rig.post(task())
    assert (answer.status, answer.route["spilled"], answer.route["tier"]) == (200, "cold", "llm")
    pool = rig.signals.pools["tiny"]
    assert (pool.arrivals, pool.spilled) == (1, 1)


async def test_a_full_pool_spills_at_once(rig: Rig) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await rig.triton.default(heard, writer)

    rig.triton.reply = reply
    waiting = [asyncio.create_task(rig.post(task())) for _ in range(2)]
    await until(lambda: rig.gateway.counters.pool("tiny").in_flight == 2)
    assert (await rig.post(task())).route["spilled"] == "full"
    go.set()
    assert [(await call).route["tier"] for call in waiting] == ["specialist", "specialist"]


async def test_a_call_that_demands_json_does_not_go_to_a_label_specialist(rig: Rig) -> None:
    await rig.change(output={"type": "label", "labels": ["PlayMusic"]})
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert (await rig.post(task(response_format=schema))).route["detail"] == "response_format"
    rig.triton.text = " PlayMusic\n"
    assert (await rig.post(task())).json["choices"][0]["message"]["content"] == "PlayMusic"


async def test_the_shares_of_a_canary_follow_its_weight_and_conversations_stay(rig: Rig) -> None:
    candidate = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
    await rig.change(stable=None, candidate=candidate, weight_percent=30)
    calls = 200
    arms = [(await rig.post(task(), headers=f"x-conversation-id: c{n}\r\n")).route["arm"] for n in range(calls)]
    again = [(await rig.post(task(), headers=f"x-conversation-id: c{n}\r\n")).route["arm"] for n in range(20)]
    assert again == arms[:20]
    taken = arms.count("candidate")
    assert 40 <= taken <= 80
    counted = rig.signals.specialists["intents"].arms
    assert counted["rev2"].assigned + counted["llm"].assigned == calls + 20
    assert counted["rev2"].conversations == taken


async def test_shadow_replays_the_llms_calls_and_compares_the_objects(rig: Rig) -> None:
    candidate = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
    await rig.change(stable=None, candidate=candidate, weight_percent=0, shadow_percent=100)
    for text in (GOOD, '{"intent":"GetWeather"}', "broken"):
        rig.triton.text = text
        answer = await rig.post(task())
        assert answer.route["tier"] == "llm"
        await until(lambda: len(rig.triton.heard) == len(rig.llm.heard))
        await asyncio.sleep(0.02)
    shadow = rig.signals.specialists["intents"].shadow["rev2"]
    assert (shadow.agreed, shadow.disagreed, shadow.failed, shadow.skipped) == (1, 1, 1, 0)


async def test_an_invalid_llm_answer_judges_no_candidate(rig: Rig) -> None:
    candidate = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
    await rig.change(stable=None, candidate=candidate, shadow_percent=100)
    await rig.post(task(stream=True))
    await until(lambda: rig.signals.specialists["intents"].shadow)
    assert rig.signals.specialists["intents"].shadow["rev2"].skipped == 1
    assert rig.triton.heard == []


async def held_back(rig: Rig, call: dict[str, Any]) -> dict[str, str]:
    """Send calls of new conversations until one is held back; its route."""
    for number in range(100):
        route = (await rig.post(call, headers=f"x-conversation-id: h{number}\r\n")).route
        if route["tier"] == "llm":
            return route
    raise AssertionError("half of the conversations should be held back")


async def test_what_is_held_back_goes_on_to_judge_the_stable_revision(rig: Rig) -> None:
    await rig.change(holdback_percent=50)
    for text, name in ((GOOD, "agreed"), ('{"intent":"GetWeather"}', "disagreed")):
        rig.triton.text = text
        assert (await held_back(rig, task()))["arm"] == "llm"
        await until(lambda n=name: getattr(rig.signals.specialists["intents"].shadow.get("rev1"), n, 0))


async def test_an_answer_that_outgrew_the_format_is_a_miss_of_the_stable_revision(rig: Rig) -> None:
    await rig.change(holdback_percent=50)
    await held_back(rig, task(stream=True))  # the fake LLM streams free text
    await until(lambda: rig.signals.specialists["intents"].shadow)
    shadow = rig.signals.specialists["intents"].shadow["rev1"]
    assert (shadow.disagreed, shadow.skipped) == (1, 0)


async def test_a_stop_during_weight_changes_fails_no_call(rig: Rig) -> None:
    async def change() -> None:
        for weight in range(0, 100, 5):
            await rig.change(weight_percent=weight, candidate={"name": "r2", "adapter": "intents-2", "pool": "tiny"})

    changing = asyncio.create_task(change())
    statuses = {(await rig.post(task(str(n)))).status for n in range(150)}
    await changing
    assert statuses == {200}
    assert rig.signals.table_version == 21
