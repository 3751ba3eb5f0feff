"""Self-consistency: what most samples agree on is the answer; without a majority the next tier answers."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_fakes import Heard, Rig, task, whole

A, B, C = ('{"intent": "PlayMusic"}', '{"intent": "GetWeather"}', '{"intent": "BookTable"}')


def answering(rig: Rig, texts: list[str | None]) -> None:
    """By seed; None is an error."""

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        text = texts[json.loads(heard.json["sampling_parameters"]).get("seed", 0)]
        if text is None:
            writer.write(whole(b'{"error":"boom"}', status="503 Service Unavailable"))
            return
        content = {"text_output": text, "finish_reason": "stop", "num_input_tokens": 9, "num_output_tokens": 4}
        writer.write(whole(json.dumps(content).encode()))

    rig.triton.reply = reply


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        ([A, A, A], A),
        ([B, A, '{ "intent":"PlayMusic" }'], A),
        ([A, None, A], A),
        (["broken", A, A], A),
        ([A, B, C], None),
        ([A, None, None], None),
        ([A, "broken", B], None),
    ],
)
async def test_most_samples_must_agree(rig: Rig, texts: list[str | None], answer: str | None) -> None:
    await rig.change(samples=3, timeout_seconds=30)
    answering(rig, texts)
    got = await rig.post(task())
    assert len(rig.triton.heard) == 3
    if answer is None:
        assert (got.route["tier"], got.route["escalated"]) == ("llm", "low_confidence")
        assert rig.signals.specialists["intents"].arms["rev1"].low_confidence == 1
        return
    assert got.route["tier"] == "specialist"
    assert json.loads(got.json["choices"][0]["message"]["content"]) == json.loads(answer)
    assert got.json["usage"]["completion_tokens"] == 4 * sum(text is not None for text in texts)
    assert rig.signals.pools["tiny"].in_flight == 0


@pytest.mark.parametrize(
    ("texts", "result"), [([None, None, None], "error"), (["broken", "broken", "broken"], "invalid")]
)
async def test_where_no_sample_is_good_the_first_says_why(rig: Rig, texts: list[str | None], result: str) -> None:
    await rig.change(samples=3, timeout_seconds=30)
    answering(rig, texts)
    assert (await rig.post(task())).route["escalated"] == result


async def test_samples_differ_and_are_the_same_every_time(rig: Rig) -> None:
    await rig.change(samples=3, timeout_seconds=30)
    answering(rig, [A, A, A])
    for _ in range(2):
        await rig.post(task())
    sampling = [json.loads(heard.json["sampling_parameters"]) for heard in rig.triton.heard]
    assert {one["temperature"] for one in sampling} == {0.7}
    assert sorted(one["seed"] for one in sampling) == [0, 0, 1, 1, 2, 2]
