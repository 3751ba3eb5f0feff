"""Limits per API key: who is refused, how it is told, and what is kept of whom."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from gateway_fakes import Rig, chat, task

from slmfleet.gateway.ratelimit import RateLimits, Windows
from slmfleet.wire.routes import Limits

ALICE, BOB = {b"authorization": b"Bearer alice"}, {b"authorization": b"Bearer bob"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, **spec: Any) -> RateLimits:
    made = RateLimits(clock)
    made.configure(Limits(**spec))
    return made


def test_without_limits_nothing_is_counted() -> None:
    made = RateLimits(Clock())
    made.configure(None)
    assert not made.on
    made.configure(Limits())
    assert not made.on


def test_a_key_that_called_too_often_waits_for_the_next_minute_and_others_do_not() -> None:
    clock = Clock()
    made = limits(clock, requests_per_minute=2)
    assert [made.refusal(ALICE) for _ in range(2)] == [None, None]
    clock.now += 12.8
    refused = made.refusal(ALICE)
    assert refused is not None and refused.what == "requests"
    assert dict(refused.headers) == {
        b"retry-after": b"48", b"x-ratelimit-limit-requests": b"2", b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"47.2s",
    }  # fmt: skip
    assert made.refusal(BOB) is None
    clock.now += 47.2
    assert made.refusal(ALICE) is None


def test_tokens_are_counted_when_the_answer_is_known() -> None:
    clock = Clock()
    made = limits(clock, tokens_per_minute=100)
    assert made.refusal(ALICE) is None
    made.spent(ALICE, 99, 0)
    assert made.refusal(ALICE) is None, "one token is left"
    made.spent(ALICE, 0, 4000)
    refused = made.refusal(ALICE)
    assert refused is not None and refused.error.kind == refused.what == "tokens"
    assert dict(refused.headers)[b"x-ratelimit-remaining-tokens"] == b"0"
    assert dict(refused.headers)[b"x-ratelimit-reset-tokens"] == b"1m0s"
    clock.now += 60
    assert made.refusal(ALICE) is None


def test_a_changed_limit_holds_at_once() -> None:
    made = limits(Clock(), requests_per_minute=1)
    assert [made.refusal(ALICE) is None for _ in range(2)] == [True, False]
    made.configure(Limits(requests_per_minute=2))
    assert [made.refusal(ALICE) is None for _ in range(3)] == [True, True, False]


def test_keys_beyond_the_bound_share_one_window_and_windows_that_ended_make_room() -> None:
    clock = Clock()
    windows = Windows(clock, keys=3)
    assert [windows.incr(key, 60) for key in ("a", "b", "c", "d", "e", "a")] == [1, 1, 1, 1, 2, 2]
    assert len(windows) == 4, "three keys and what the others share"
    assert windows.get("f") == 2
    clock.now += 60
    assert windows.get("f") == 0
    assert windows.incr("f", 60) == 1
    assert len(windows) == 1


def test_no_key_is_kept() -> None:
    made = limits(Clock(), requests_per_minute=1)
    made.refusal(ALICE)
    assert "alice" not in repr(vars(made._limiter.storage))


async def test_a_caller_over_its_limit_gets_openais_429(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "limits": {"requests_per_minute": 2}})
    key = "Authorization: Bearer alice\r\n"
    assert [(await rig.post(body, headers=key)).status for body in (chat("x"), task())] == [200, 200]
    answer = await rig.post(chat("x"), headers=key)
    assert answer.status == 429
    assert answer.json["error"] | {"message": ""} == {
        "message": "", "type": "requests", "param": None, "code": "rate_limit_exceeded"}  # fmt: skip
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert (await rig.post(chat("x"), headers="Authorization: Bearer bob\r\n")).status == 200
    assert (await rig.get("/v1/models")).status == 200, "only calls to a model count"
    assert b'slmfleet_gateway_rate_limited_total{limit="requests"} 1.0' in (await rig.get("/metrics", admin=True)).body
    assert len(rig.llm.heard) == 3


async def test_the_tokens_of_every_tier_count(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "limits": {"tokens_per_minute": 29}})
    assert (await rig.post(chat("x"))).status == 200  # 16 tokens, as the LLM says
    assert (await rig.post(task())).status == 200  # 13 tokens, as the specialist says
    assert (await rig.post(chat("x"))).json["error"]["type"] == "tokens"


async def test_the_openai_client_understands_it(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "limits": {"requests_per_minute": 1}})
    client = openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key="k", max_retries=0)
    call: Any = client.chat.completions.create
    await call(model="big", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.RateLimitError) as refused:
        await call(model="big", messages=[{"role": "user", "content": "x"}])
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.type == "requests"
    await client.close()
