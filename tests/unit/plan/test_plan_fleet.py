"""The fleet planner: servers from demand."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from plan_builders import NOW, later

from slmfleet.api.basemodel import PoolSpec
from slmfleet.plan.fleet import Demand, peak_seconds, replicas

POOL = PoolSpec(max_replicas=2, target_in_flight=4, idle_seconds=60)


def wanted(current: int, demand: Demand, *, now: datetime = NOW, pool: PoolSpec = POOL, chosen: bool = True,
           held: bool = False) -> int:
    return replicas(pool, current, demand, chosen=chosen, held=held, now=now).replicas


def load(mean: float = 0.0, peak: float | None = None, *, last: float | None = 0.0, since: float = -3600.0,
         spilled: int = 0) -> Demand:
    """Demand at NOW; `last` and `since` in seconds from it."""
    return Demand(mean_in_flight=mean, peak_in_flight=mean if peak is None else peak, spilled=spilled,
                  last_call=None if last is None else later(last), watched_since=later(since))


def test_a_pool_goes_from_zero_to_two_and_back_to_zero_with_its_load() -> None:
    day = [
        # seconds, demand, servers after it
        (0, load(last=None), 0),
        (10, load(0.1, last=10), 1),
        (20, load(3.9, last=20), 1),
        (30, load(4.1, last=30), 2),
        (40, load(9.0, last=40), 2),
        (50, load(1.0, 9.0, last=50), 2),
        (70, load(1.0, 1.0, last=70), 1),
        (100, load(0.0, 0.0, last=70), 1),
        (131, load(0.0, 0.0, last=70), 0),
        (200, load(0.0, 0.0, last=70), 0),
        (201, load(0.2, last=201), 1),
    ]
    current, seen = 0, []
    for seconds, demand, _ in day:
        current = wanted(current, demand, now=later(seconds))
        seen.append(current)
    assert seen == [servers for _, _, servers in day]


ROWS: list[tuple[str, dict[str, Any], int]] = [
    ("no specialist uses it", {"current": 2, "demand": load(9.0), "chosen": False}, 0),
    ("an autoscaler owns the number", {"current": 1, "demand": load(9.0), "pool": POOL.model_copy(
        update={"replicas": 0})}, 0),
    ("an autoscaler's number may be above what load needs", {"current": 1, "demand": load(0.0), "pool": POOL.model_copy(
        update={"replicas": 2})}, 2),
    ("idle", {"current": 2, "demand": load(last=-61)}, 0),
    ("not idle for long enough", {"current": 1, "demand": load(last=-59)}, 1),
    ("idle, but one server is the least", {"current": 2, "demand": load(last=-61), "pool": POOL.model_copy(
        update={"min_replicas": 1})}, 1),
    ("idle, but a rollout is measuring", {"current": 1, "demand": load(last=-61), "held": True}, 1),
    ("a rollout starts on a cold pool", {"current": 0, "demand": load(last=None), "held": True}, 1),
    ("a call meets a pool at zero", {"current": 0, "demand": load(0.0, last=-1, spilled=1)}, 1),
    ("calls were turned away", {"current": 1, "demand": load(3.0, spilled=2)}, 2),
    ("calls were turned away by servers that are still starting", {"current": 1, "demand": load(0.0, spilled=9)}, 1),
    ("never more than the most", {"current": 2, "demand": load(99.0, spilled=9)}, 2),
    ("load fell, its recent peak did not", {"current": 2, "demand": load(0.5, 7.0)}, 2),
    ("more adapters were called than fit on the servers", {"current": 1, "demand": replace(load(1.0), adapters=17)}, 2),
    ("as many as fit", {"current": 1, "demand": replace(load(1.0), adapters=16)}, 1),
    ("they keep their servers when load falls", {"current": 2, "demand": replace(load(0.5), adapters=17)}, 2),
    ("idle, whatever was called before", {"current": 2, "demand": replace(load(last=-61), adapters=17)}, 0),
    ("load and peak fell", {"current": 2, "demand": load(0.5, 3.0)}, 1),
]


@pytest.mark.parametrize("given_, servers", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_servers_follow_demand(given_: dict[str, Any], servers: int) -> None:
    assert wanted(**given_) == servers


@pytest.mark.parametrize("current", [0, 1, 2])
@pytest.mark.parametrize("seconds", [0, 1, 15])
def test_an_operator_that_knows_nothing_yet_changes_nothing(current: int, seconds: int) -> None:
    """After a restart the board is empty: no knowledge is no reason to take servers away, nor to start them."""
    fresh = Demand(watched_since=NOW)
    assert wanted(current, fresh, now=later(seconds)) == current


def test_a_second_server_that_is_still_starting_does_not_ask_for_a_third() -> None:
    pool, current = POOL.model_copy(update={"max_replicas": 9}), 1
    for _ in range(10):
        current = wanted(current, load(3.0, spilled=2), pool=pool)
    assert current == 2


def test_after_a_restart_a_quiet_pool_still_goes_to_zero_after_its_idle_time() -> None:
    assert wanted(1, Demand(watched_since=NOW), now=later(61)) == 0


@pytest.mark.parametrize("idle, window", [(1, 20), (60, 60), (300, 300), (604800, 300)])
def test_a_peak_keeps_its_servers_for_the_idle_time_within_bounds(idle: int, window: float) -> None:
    assert peak_seconds(POOL.model_copy(update={"idle_seconds": idle})) == window


def test_every_number_has_its_reason() -> None:
    for _, row, _ in ROWS:
        found = replicas(row.get("pool", POOL), row["current"], row["demand"], chosen=row.get("chosen", True),
                         held=row.get("held", False), now=NOW)
        assert found.reason
