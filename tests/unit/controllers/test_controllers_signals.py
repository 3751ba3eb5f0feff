"""The board: demand from counters of gateways that come, go and restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from slmfleet.controllers.signals import Board
from slmfleet.wire.signals import ArmSignals, GatewaySignals, PoolSignals, SpecialistSignals

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Watch:
    """A board with a clock that is set by hand, and the Routers it rang."""

    def __init__(self) -> None:
        self.now = NOW
        self.rung: list[str] = []
        self.board = Board(dict, self.rung.append, lambda: self.now)

    def take(self, seconds: float, *, load: float = 0.0, arrivals: int = 0, spilled: int = 0, instance: str = "i",
             pod: str = "agents/g-0", uptime: float | None = None) -> None:
        """`load`: call-seconds so far."""
        self.now = NOW + timedelta(seconds=seconds)
        pool = PoolSignals(in_flight_seconds=load, arrivals=arrivals, spilled=spilled)
        self.board.take(pod, GatewaySignals(instance=instance, pools={"tiny": pool},
                                            uptime_seconds=seconds if uptime is None else uptime))


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.parametrize("address, host", [("10.0.0.9", "10.0.0.9:9090"), ("fd00::9", "[fd00::9]:9090")])
async def test_a_gateway_is_asked_at_its_address_of_either_family(address: str, host: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url.netloc.decode()}{request.url.path}")
        return httpx.Response(200, text=GatewaySignals(instance="i").model_dump_json())

    board = Board(lambda: {"agents/g-0": address}, lambda router: None)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        await board.look(client)
    assert asked == [f"{host}/signals"]
    assert [signals.instance for signals in board.of("agents")] == ["i"]


def test_nothing_is_known_at_first(watch: Watch) -> None:
    found = watch.board.demand("tiny")
    assert (found.mean_in_flight, found.last_call, found.watched_since) == (0.0, None, NOW)


def test_what_was_counted_before_the_watch_began_is_no_demand(watch: Watch) -> None:
    """An operator that starts beside a busy gateway must not take its whole past for the last second."""
    watch.take(1, load=9000, arrivals=9000, spilled=77)
    found = watch.board.demand("tiny")
    assert (found.mean_in_flight, found.spilled, found.last_call) == (0.0, 0, None)


def test_the_mean_is_the_slope_of_the_call_seconds(watch: Watch) -> None:
    for second in range(6):
        watch.take(second, load=3.0 * second, arrivals=second)
    found = watch.board.demand("tiny")
    assert found.mean_in_flight == pytest.approx(3.0)
    assert found.peak_in_flight == pytest.approx(3.0)
    assert found.last_call == NOW + timedelta(seconds=5)


def test_the_peak_outlasts_the_mean_for_twenty_seconds(watch: Watch) -> None:
    for second in range(6):
        watch.take(second, load=4.0 * second)
    for second in range(6, 40):
        watch.take(second, load=20.0)
        found = watch.board.demand("tiny")
        if second >= 9:
            assert found.mean_in_flight == 0
        if second <= 20:
            assert found.peak_in_flight == pytest.approx(4.0)
        if second >= 29:
            assert found.peak_in_flight == 0


def test_a_longer_window_remembers_the_highest_peak_in_it(watch: Watch) -> None:
    load = 0.0
    for second in range(400):
        load += 8.0 if second < 10 else 5.0 if second < 50 else 1.0
        watch.take(second, load=load)
        if second == 100:
            assert [watch.board.demand("tiny", window).peak_in_flight for window in (20, 60, 300)] == [1.0, 5.0, 8.0]
    assert watch.board.demand("tiny", 300).peak_in_flight == 1.0


def test_several_gateways_add_up(watch: Watch) -> None:
    for second in range(6):
        watch.take(second, load=1.0 * second, pod="agents/g-0", instance="a")
        watch.take(second, load=2.0 * second, pod="agents/g-1", instance="b")
    assert watch.board.demand("tiny").mean_in_flight == pytest.approx(3.0)


def test_a_gateway_that_restarted_takes_nothing_back(watch: Watch) -> None:
    for second in range(5):
        watch.take(second, load=2.0 * second, arrivals=second)
    watch.take(5, load=0.0, instance="new", uptime=0.1)
    watch.take(6, load=2.0, instance="new", uptime=1.1)
    assert watch.board.demand("tiny").mean_in_flight >= 0
    assert watch.board.demand("tiny").mean_in_flight <= 2.0


def test_calls_that_were_turned_away_are_counted_for_four_seconds(watch: Watch) -> None:
    for second, spilled in enumerate([0, 5, 5, 5, 5, 5, 5]):
        watch.take(second, spilled=spilled)
        assert watch.board.demand("tiny").spilled == (5 if 1 <= second < 5 else 0)


def test_only_counters_that_moved_wake_the_router(watch: Watch) -> None:
    watch.take(0, arrivals=1)
    watch.take(1, arrivals=1)
    assert watch.rung == ["agents"]
    watch.take(2, arrivals=2)
    assert watch.rung == ["agents", "agents"]


def test_signals_are_kept_by_router(watch: Watch) -> None:
    watch.take(0, pod="agents/g-0", instance="a")
    watch.take(0, pod="others/g-0", instance="b")
    assert [s.instance for s in watch.board.of("agents")] == ["a"]


def test_calls_are_counted_by_adapter_from_when_the_watch_began(watch: Watch) -> None:
    for second, assigned in ((0, 900), (1, 903), (2, 904)):
        watch.now = NOW + timedelta(seconds=second)
        arms = {"0123456789abcdef": ArmSignals(assigned=assigned)}
        watch.board.take("agents/g-0", GatewaySignals(instance="i", uptime_seconds=second,
                                                      specialists={"one": SpecialistSignals(arms=arms)}))
    assert watch.board.calls() == pytest.approx({"one-0123456789ab": 4.0}, rel=0.01)


async def test_an_object_that_cannot_be_read_does_not_end_the_board(caplog: pytest.LogCaptureFixture) -> None:
    """Without its board an operator scales nothing and promotes nothing, and says nothing of it."""
    looks, second = [], asyncio.Event()

    def gateways() -> dict[str, str]:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("a status of a newer release")
        second.set()
        return {}

    task = asyncio.create_task(Board(gateways, lambda router: None).run(0.0))
    await asyncio.wait_for(second.wait(), 30)
    task.cancel()
    assert "a status of a newer release" in caplog.text
