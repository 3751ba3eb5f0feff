"""Second requests for late answers: when they are sent, what they win, and what they may cost. Seconds are virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from gateway_fakes import FakeTriton, Heard, Reply, Rig, task, until
from gateway_virtual import Pool, VirtualLoop, virtual
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.balance import Placement, Server, faster_than
from slmfleet.gateway.budget import RetryBudget
from slmfleet.gateway.hedge import BURST, FEWEST, WINDOW, Hedges, Recent
from slmfleet.gateway.upstream import Origin

FAST = 0.1
LATE = 0.161  # of 64 answers that took 0.164 to 0.101 seconds, 95 % took less


def stragglers(seed: int = 7) -> Callable[[int], float]:
    """Servers that take 80 to 120 ms, and two seconds for 3 of 100 answers, whichever they are."""
    rng = random.Random(seed)
    return lambda port: 2.0 if rng.random() < 0.03 else rng.uniform(0.08, 0.12)


def percentile(attempts: list[Attempt], share: float) -> float:
    return sorted(attempt.latency_seconds for attempt in attempts)[int(share * len(attempts))]


def measured(percent: float, seconds: Callable[[int], float | None], every: float = 0.05) -> tuple[Pool, list[Attempt]]:
    with virtual() as loop:
        pool = Pool(loop, seconds, percent=percent)
        attempts = pool.run(pool.calls(2000, every))
        assert pool.in_flight == 0
        return pool, attempts


def test_hedging_takes_the_tail_away_for_a_few_percent_more_requests() -> None:
    _, without = measured(0, stragglers())
    pool, hedged = measured(5, stragglers())
    figures = [f"{percentile(a, share) * 1000:.0f}" for a in (without, hedged) for share in (0.5, 0.95, 0.99)]
    print("virtual ms, p50 p95 p99: without", *figures[:3], "with", *figures[3:], f"requests {len(pool.client.asked)}")
    assert {attempt.result for attempt in (*without, *hedged)} == {"served"}
    assert percentile(without, 0.99) == pytest.approx(2.0, abs=0.01)
    assert percentile(hedged, 0.99) < 0.3
    assert percentile(hedged, 0.5) == pytest.approx(percentile(without, 0.5), rel=0.05)
    counted = pool.counters.pool("tiny")
    assert len(pool.client.asked) == 2000 + counted.hedges
    assert 0 < counted.hedges_won <= counted.hedges <= 0.05 * 2000
    assert sum(attempt.hedge == "won" for attempt in hedged) == counted.hedges_won
    assert pool.client.left == counted.hedges, "of two requests one is always given up"


def test_a_pool_that_is_slow_as_a_whole_is_not_asked_twice_beyond_the_budget() -> None:
    """Every answer takes five times as long from the middle on: all are late, and a second request wins nothing."""
    loop_time: list[VirtualLoop] = []

    def seconds(port: int) -> float:
        return FAST if loop_time[0].now < 50 else 5 * FAST

    with virtual() as loop:
        loop_time.append(loop)
        pool = Pool(loop, seconds)
        attempts = pool.run(pool.calls(2000, 0.05))
    assert {attempt.result for attempt in attempts} == {"served"}
    assert len(pool.client.asked) <= 1.05 * 2000
    assert pool.counters.pool("tiny").hedges <= 0.05 * 2000


def test_nothing_is_sent_twice_where_it_is_off_or_there_is_no_second_server() -> None:
    for percent, servers in ((0, 2), (5, 1)):
        with virtual() as loop:
            pool = Pool(loop, stragglers(), percent=percent, servers=servers)
            pool.run(pool.calls(500, 0.05))
        assert len(pool.client.asked) == 500


def warmed(loop: VirtualLoop, plan: list[float | None], **options: float) -> Pool:
    """A pool that answered 100 calls, each a little faster than the one before; then as planned, else in 100 ms."""
    warming = [0.2 - 0.001 * number for number in range(100)]
    pool = Pool(loop, lambda port: (warming or plan or [FAST]).pop(0), **options)  # type: ignore[arg-type]
    pool.run(pool.calls(100, 0.3))
    return pool


def one_late_call(second: float | None, *, first: float | None = 3.0, free: int = 2) -> tuple[Pool, Attempt]:
    """A call whose first server takes `first` seconds, and the second, if it is asked, `second`; None: it fails."""
    with virtual() as loop:
        plan: list[float | None] = []
        pool = warmed(loop, plan, max_in_flight=2)
        plan += [first, second]
        for place in pool.table.pools["tiny"].placements:
            place.server.in_flight += 2 - free
        attempt = pool.run(pool.call())
        pool.run(asyncio.sleep(10))
        for place in pool.table.pools["tiny"].placements:
            place.server.in_flight -= 2 - free
        return pool, attempt


def test_the_first_valid_answer_wins_and_the_other_request_is_given_up() -> None:
    pool, attempt = one_late_call(0.2)
    assert (attempt.result, attempt.hedge) == ("served", "won")
    assert attempt.latency_seconds == pytest.approx(LATE + 0.2)
    assert (pool.client.left, pool.in_flight) == (1, 0)
    assert len(set(pool.client.asked[-2:])) == 2, "another server"


def test_a_first_answer_that_comes_after_all_ends_the_second_request() -> None:
    pool, attempt = one_late_call(5.0, first=0.3)
    assert (attempt.result, attempt.hedge, attempt.latency_seconds) == ("served", "lost", pytest.approx(0.3))
    assert (pool.client.left, pool.in_flight) == (1, 0)
    assert (pool.counters.pool("tiny").hedges, pool.counters.pool("tiny").hedges_won) == (1, 0)


def test_a_second_request_that_fails_leaves_the_first_alone() -> None:
    _, attempt = one_late_call(None, first=0.5)
    assert (attempt.result, attempt.hedge, attempt.latency_seconds) == ("served", "lost", pytest.approx(0.5))


def test_a_first_request_that_fails_late_waits_for_the_second() -> None:
    """Both end at the call's limit at the latest, the second just before it."""
    with virtual() as loop:
        plan: list[float | None] = []
        pool = warmed(loop, plan, timeout=0.5)
        plan += [9.0, 0.5 - LATE - 0.001]
        attempt = pool.run(pool.call())
    assert (attempt.result, attempt.hedge, attempt.latency_seconds) == ("served", "won", pytest.approx(0.499))


def test_a_call_that_fails_at_once_is_not_asked_again() -> None:
    pool, attempt = one_late_call(0.1, first=None)
    assert (attempt.result, attempt.hedge) == ("error", "")
    assert len(pool.client.asked) == 101


def test_only_a_server_with_a_free_slot_is_asked() -> None:
    pool, attempt = one_late_call(0.2, free=1)
    assert (attempt.hedge, pool.in_flight) == ("won", 0)
    servers = [Server(Origin("h", port, False)) for port in (1, 2)]
    placements = [Placement(server, frozenset(("a",))) for server in servers]
    servers[1].in_flight = 2
    assert faster_than(servers[0], 9.0, placements, "a", 2, 0.0) is None
    assert faster_than(servers[0], 9.0, placements, "a", 3, 0.0) is servers[1]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, True),
        ({"typical": 2.0, "observed_at": 100.0}, False),
        ({"typical": 2.0, "observed_at": 50.0}, True),
        ({"latency": 2.0, "observed_at": 100.0, "typical": 0.1}, True),
        ({"ejected_until": 101.0}, False),
    ],
)
def test_only_a_server_that_should_be_faster_is_asked(change: dict[str, float], found: bool) -> None:
    first, other = Server(Origin("h", 1, False)), Server(Origin("h", 2, False))
    for name, value in change.items():
        setattr(other, name, value)
    placements = [Placement(first, frozenset(("a",))), Placement(other, frozenset(("a",)))]
    assert (faster_than(first, 1.0, placements, "a", 8, 100.0) is other) is found
    assert faster_than(first, 1.0, placements, "b", 8, 100.0) is None, "it does not hold the adapter"


def test_a_caller_that_leaves_takes_both_requests_with_it() -> None:
    with virtual() as loop:
        plan: list[float | None] = []
        pool = warmed(loop, plan)
        plan += [9.0, 9.0]

        async def leave() -> None:
            calling = loop.create_task(pool.call())
            await asyncio.sleep(1)
            assert pool.counters.pool("tiny").in_flight == 2
            calling.cancel()
            await asyncio.wait([calling])
            await asyncio.sleep(0)

        pool.run(leave())
    assert (pool.client.left, pool.in_flight) == (2, 0)


def test_a_server_that_hangs_is_still_found_out() -> None:
    """The budget rescues few of its calls; the others time out, and then it is left alone."""
    with virtual() as loop:
        pool = Pool(loop, lambda port: 60.0 if port == 1 and loop.now > 20 else FAST, timeout=1.0)
        attempts = pool.run(pool.calls(1000, 0.1))
        server = pool.table.pools["tiny"].placements[0].server
        assert server.failures > 0
    results = [attempt.result for attempt in attempts]
    assert results.count("timeout") + sum(attempt.hedge == "won" for attempt in attempts) < 60
    assert set(results) == {"served", "timeout"}


FAULTS: dict[str, Callable[[int, float, random.Random], float | None]] = {
    "one hangs": lambda port, now, rng: 60.0 if port == 1 and now > 10 else rng.uniform(0.08, 0.12),
    "one is slow": lambda port, now, rng: 1.5 if port == 1 and now > 10 else rng.uniform(0.08, 0.12),
    "one fails": lambda port, now, rng: None if port == 1 and now > 10 else rng.uniform(0.08, 0.12),
    "one fails now and then": lambda port, now, rng: None if rng.random() < 0.2 else rng.uniform(0.08, 0.12),
    "both hang": lambda port, now, rng: 60.0 if now > 10 else rng.uniform(0.08, 0.12),
    "both slow down and recover": lambda port, now, rng: rng.uniform(0.08, 0.12) * (10 if 10 < now < 20 else 1),
    "any latency": lambda port, now, rng: rng.expovariate(5.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_requests_are_at_most_a_tenth_more_than_calls(fault: str) -> None:
    rng = random.Random(3)
    with virtual() as loop:
        pool = Pool(loop, lambda port: FAULTS[fault](port, loop.now, rng), timeout=2.0)
        attempts = pool.run(pool.calls(800, 0.05))
    assert pool.in_flight == 0
    assert len(pool.client.asked) <= 1.1 * len(attempts)
    assert {attempt.result for attempt in attempts} <= {"served", "error", "timeout", "spilled"}


class Spent(RetryBudget):
    """One that allows nothing more."""

    def spend(self) -> bool:
        return False


def test_the_retry_budget_bounds_them_too() -> None:
    with virtual() as loop:
        pool = Pool(loop, stragglers())
        pool.client.budget = Spent(loop.time)
        pool.run(pool.calls(500, 0.05))
    assert len(pool.client.asked) == 500


@given(st.lists(st.floats(0, 100), min_size=1, max_size=3 * WINDOW), st.floats(0, 1))
def test_a_quantile_is_one_of_the_last_values(values: list[float], share: float) -> None:
    recent = Recent()
    for value in values:
        recent.add(value)
    last = sorted(values[-WINDOW:])
    expected = None if len(last) < FEWEST else last[min(int(len(last) * share), len(last) - 1)]
    assert recent.quantile(share) == expected


def test_second_requests_are_earned_by_calls_and_do_not_pile_up() -> None:
    hedges = Hedges()
    assert not hedges.spend()
    for _ in range(19):
        hedges.delay("a", 5)
    assert not hedges.spend()
    for _ in range(1000):
        hedges.delay("a", 5)
    assert [hedges.spend() for _ in range(5)] == [True] * int(BURST) + [False] * 2


def test_a_second_request_that_did_not_pay_at_first_is_thought_of_again() -> None:
    with virtual() as loop:
        plan: list[float | None] = []
        pool = warmed(loop, plan, max_in_flight=2)
        plan += [9.0, 0.05]
        other = pool.table.pools["tiny"].placements[1].server
        other.in_flight = 2
        loop.call_later(0.2, lambda: setattr(other, "in_flight", 0))
        attempt = pool.run(pool.call())
    assert (attempt.hedge, attempt.latency_seconds) == ("won", pytest.approx(3 * LATE + 0.05))


def test_calls_share_a_timer_and_are_forgotten_when_it_is_time() -> None:
    with virtual() as loop:
        rng = random.Random(2)
        pool = Pool(loop, lambda port: rng.uniform(0.05, 0.1), max_in_flight=500)
        pool.run(pool.calls(100, 0.05))
        lookout, timers, call_at = pool.tier._lookout, [], loop.call_at

        def counted(when: float, callback: Callable[..., object], *given: object, **more: Any) -> asyncio.TimerHandle:
            timers.append(callback)
            return call_at(when, callback, *given, **more)

        loop.call_at = counted  # type: ignore[method-assign]
        pool.run(pool.calls(500, 0.001))
        assert 0 < timers.count(lookout._look) < 250
        pool.run(asyncio.sleep(1))
        assert lookout._watched == []


@pytest.fixture
async def other() -> AsyncIterator[FakeTriton]:
    made = FakeTriton()
    await made.start()
    yield made
    await made.stop()


async def test_a_slow_server_costs_no_caller_its_answer_over_real_sockets(rig: Rig, other: FakeTriton) -> None:
    """A call hangs on the server that was asked first; the other one answers, and the route says so."""
    content = rig.content | {"version": 2}
    content["pools"][0]["endpoints"].append({"url": other.url, "adapters": ["intents-1"]})
    content["specialists"][0]["timeout_seconds"] = 30
    await rig.use(content)
    for number in range(3 * FEWEST):
        assert (await rig.post(task(str(number)))).route["tier"] == "specialist"
    hung: list[FakeTriton] = []

    def hangs_once(server: FakeTriton) -> Reply:
        async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
            if not hung:
                hung.append(server)
                await asyncio.Event().wait()
            await server.default(heard, writer)

        return reply

    rig.triton.reply, other.reply = hangs_once(rig.triton), hangs_once(other)
    rig.gateway.app.specialists._hedges._earned = 1.0  # whatever late calls on a busy machine have spent
    answer = await rig.post(task("late"))
    assert (answer.status, answer.route["tier"], answer.route["hedge"]) == (200, "specialist", "won")
    await until(lambda: hung[0].closed)
    assert len(rig.triton.heard) + len(other.heard) <= 1.1 * (3 * FEWEST + 1)
    pool = rig.signals.pools["tiny"]
    assert (pool.hedges >= 1, pool.hedges_won >= 1, pool.in_flight) == (True, True, 0)
    metrics = (await rig.get("/metrics", admin=True)).body
    assert b'slmfleet_gateway_pool_hedges_won_total{pool="tiny"} ' in metrics
