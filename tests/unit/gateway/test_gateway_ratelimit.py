"""Limits per API key: who is refused, how it is told, and what is kept of whom."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_fakes import Rig, chat, task
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.gateway import windows
from slmfleet.gateway.ratelimit import RateLimits, Windows
from slmfleet.gateway.windows import SharedWindows, make
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


@pytest.mark.parametrize(("replicas", "part"), [(1, 10), (3, 4), (20, 1)])
def test_each_replica_grants_its_part(replicas: int, part: int) -> None:
    made = limits(Clock(), requests_per_minute=10, replicas=replicas)
    assert [made.refusal(ALICE) is None for _ in range(part + 1)] == [True] * part + [False]


# --- counted together by the workers of one gateway ---


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    make(tmp_path / "windows")
    return tmp_path / "windows"


def test_workers_count_a_key_together_for_the_same_minute(shared: Path) -> None:
    clock = Clock()
    workers = [RateLimits(clock, SharedWindows(shared, clock), salt=b"same") for _ in range(2)]
    for worker in workers:
        worker.configure(Limits(requests_per_minute=4, tokens_per_minute=100))
    assert [workers[n % 2].refusal(ALICE) is None for n in range(5)] == [True] * 4 + [False]
    clock.now += 30
    refused = workers[0].refusal(ALICE)
    assert refused is not None and dict(refused.headers)[b"retry-after"] == b"30"
    assert workers[1].refusal(BOB) is None
    workers[0].spent(BOB, 100, 0)
    told = workers[1].refusal(BOB)
    assert told is not None and told.what == "tokens"
    clock.now += 30
    assert workers[1].refusal(ALICE) is None, "a new minute"


@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcdefgh"), st.integers(1, 3), st.integers(0, 40)))
)
def test_two_processes_count_as_one_would(steps: list[tuple[int, str, int, int]]) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        make(path := Path(folder) / "w")
        both, alone = [SharedWindows(path, clock), SharedWindows(path, clock)], Windows(clock)
        for which, key, amount, seconds in steps:
            assert both[which].incr(key, 60, amount) == alone.incr(key, 60, amount)
            clock.now += seconds
            assert both[1 - which].get(key) == alone.get(key)
            assert both[1 - which].get_expiry(key) == alone.get_expiry(key)


def test_keys_that_find_no_place_share_one(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PLACES", 4)
    clock = Clock()
    made = SharedWindows(shared, clock)
    counts = [made.incr(str(n), 60) for n in range(10)]
    assert counts == [1, 1, 1, 1, 1, 2, 3, 4, 5, 6]
    assert (made.get("0"), made.get("9")) == (1, 6)
    clock.now += 61
    assert [made.incr(str(n), 60) for n in range(20, 24)] == [1, 1, 1, 1], "places that are over are taken again"


def test_a_call_is_counted_although_another_process_holds_the_lock(shared: Path) -> None:
    first, second = (SharedWindows(shared, Clock()) for _ in range(2))
    with first._locked():
        assert second.incr("a", 60) == 1
    assert first.incr("a", 60) == 2


def test_windows_are_cleared(shared: Path) -> None:
    made = SharedWindows(shared, Clock())
    made.incr("a", 60)
    made.incr("b", 60)
    made.clear("a")
    assert (made.get("a"), made.get("b"), made.check()) == (0, 1, True)
    made.reset()
    assert made.get("b") == 0


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
