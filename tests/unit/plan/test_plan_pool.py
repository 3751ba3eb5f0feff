"""One BaseModel: inert until chosen, then a pool, its servers' adapters, and its state in words."""

from __future__ import annotations

from typing import Any

import pytest
from plan_builders import (
    ARTIFACT,
    CONFIG,
    applied,
    base,
    base_facts,
    conditions,
    later,
    message,
    revision,
    specialist,
)

from slmfleet.plan.facts import Plan, ServerFact
from slmfleet.plan.fleet import Demand
from slmfleet.plan.pool import Move, deployment, moves, plan_base, wanted_adapters

OTHER = "sha256:" + "0b" * 32
ONE, TWO = f"one-{ARTIFACT[7:19]}", f"two-{OTHER[7:19]}"
BUSY = Demand(mean_in_flight=1, peak_in_flight=1, last_call=later(0), watched_since=later(-600))
QUIET = Demand(watched_since=later(-600))
USERS = {"one": specialist("one", status={"stable": revision()}),
         "two": specialist("two", status={"stable": revision(OTHER)})}
TRYING = {"one": specialist("one", status={"candidate": revision(), "rollout": {"stage": "Shadow"}})}


def server(pod: str = "p-0", *, ready: bool = True, message: str | None = None, **adapters: str) -> ServerFact:
    held = {name.replace("_", "-"): digest for name, digest in adapters.items()}
    return ServerFact(pod, f"10.0.0.{pod[-1]}", ready, held, message, silent=not ready)


def planned(me: Any = None, **observed: Any) -> Plan:
    return plan_base(CONFIG, me or base(), base_facts(**observed))


def test_a_base_that_nobody_chose_is_inert() -> None:
    plan = planned()
    assert plan.apply == ()
    assert conditions(plan) == {"Ready": ("True", "Inert"), "Chosen": ("False", "NotChosen")}


def test_a_base_that_is_no_longer_chosen_keeps_its_deployment_at_zero() -> None:
    plan = planned(base(status={"chosen": True, "replicas": 2}))
    assert applied(plan) == [("Deployment", "pool-tiny")]
    assert plan.apply[0]["spec"]["replicas"] == 0


SITUATIONS: list[tuple[str, dict[str, Any], dict[str, Any], int, str, tuple[str, str]]] = [
    # what, status before, observed, replicas, condition, (status, reason)
    ("a rollout starts", {}, {"specialists": TRYING}, 1, "PoolAvailable", ("Unknown", "ScalingUp")),
    ("idle", {"replicas": 1}, {"specialists": USERS, "demand": QUIET}, 0, "PoolAvailable", ("True", "ScaledToZero")),
    ("serving", {"replicas": 1}, {"specialists": USERS, "demand": BUSY, "servers": (server(),)}, 1, "PoolAvailable",
     ("True", "ServersReady")),
    ("a server is down", {"replicas": 1}, {"specialists": USERS, "demand": BUSY, "servers": (
        server(ready=False, message="NoAnswer"),)}, 1, "PoolAvailable", ("False", "ServerNotAnswering")),
    ("one of two servers is down", {"replicas": 2}, {"specialists": USERS, "demand": BUSY, "servers": (
        server(), server("p-1", ready=False, message="NoAnswer"))}, 1, "PoolAvailable", ("True", "ServersReady")),
    ("what a server that is down holds is not known", {"replicas": 2}, {"specialists": USERS, "demand": BUSY,
        "servers": (server(), server("p-1", ready=False, message="NoAnswer"))}, 1, "AdaptersPlaced",
     ("Unknown", "ServerNotAnswering")),
    ("pods do not come up", {"replicas": 1}, {"specialists": USERS, "demand": BUSY, "pod_problem": "ErrImagePull"}, 1,
     "PoolAvailable", ("False", "PodFailing")),
    ("an adapter is refused", {"replicas": 1}, {"specialists": USERS, "demand": BUSY, "servers": (
        server(message="RankTooHigh: 64"),)}, 1, "AdaptersPlaced", ("False", "AdapterRefused")),
    ("an adapter is refused, and another server is down", {"replicas": 1}, {"specialists": USERS, "demand": BUSY,
        "servers": (server(ready=False, message="NoAnswer"), server("p-1", message="RankTooHigh: 64"))}, 1,
     "AdaptersPlaced", ("False", "AdapterRefused")),
]  # fmt: skip


@pytest.mark.parametrize("before, observed, replicas, type_, condition", [s[1:] for s in SITUATIONS],
                         ids=[s[0] for s in SITUATIONS])
def test_the_pool_follows_its_situation(
    before: dict[str, Any], observed: dict[str, Any], replicas: int, type_: str, condition: tuple[str, str]
) -> None:
    me = base(status={"chosen": True, **before})
    plan = planned(me, **observed)
    assert plan.apply[0]["spec"]["replicas"] == plan.status["replicas"] == replicas
    assert conditions(plan)[type_] == condition
    assert planned(me, **observed) == plan


def test_only_what_really_answers_is_in_status() -> None:
    """An adapter under our name with another digest is somebody else's, or an old one."""
    held = server(**{ONE: ARTIFACT, TWO: "sha256:" + "ff" * 32, "stranger": OTHER})
    plan = planned(base(status={"replicas": 1}), specialists=USERS, demand=BUSY, servers=(held,))
    assert plan.status["endpoints"][0]["adapters"] == [ONE]
    assert plan.status["adapters"] == 2


def test_a_change_of_servers_is_in_the_history_once() -> None:
    plan = planned(specialists=TRYING)
    assert [(e["previous"], e["replicas"]) for e in plan.status["scalingHistory"]] == [(0, 1)]
    again = planned(base(status=plan.status), specialists=TRYING)
    assert again.status["scalingHistory"] == plan.status["scalingHistory"]


def test_stable_and_candidate_are_wanted_side_by_side_and_only_on_their_base() -> None:
    both = specialist("one", status={"stable": revision(), "candidate": revision(OTHER)})
    elsewhere = specialist("two", status={"stable": revision(OTHER, base="large")})
    assert sorted(wanted_adapters("tiny", {"one": both, "two": elsewhere})) == sorted([ONE, f"one-{OTHER[7:19]}"])


def told(found: tuple[Move, ...]) -> list[tuple[str, str, str]]:
    return [(m.op, m.adapter.name, m.address) for m in found]


MOVES: list[tuple[str, tuple[ServerFact, ...], list[tuple[str, str, str]]]] = [
    ("an empty server", (server(),), [("load", ONE, "10.0.0.0"), ("load", TWO, "10.0.0.0")]),
    ("all there", (server(**{ONE: ARTIFACT, TWO: OTHER}),), []),
    ("two servers hold both", (server(**{ONE: ARTIFACT, TWO: OTHER}), server("p-1", **{ONE: ARTIFACT})),
     [("load", TWO, "10.0.0.1")]),
    ("a stranger goes", (server(**{ONE: ARTIFACT, TWO: OTHER, "old-000": OTHER}),),
     [("unload", "old-000", "10.0.0.0")]),
    ("another digest under the name is replaced", (server(**{ONE: OTHER, TWO: OTHER}),),
     [("unload", ONE, "10.0.0.0"), ("load", ONE, "10.0.0.0")]),
    ("a server that does not answer is left alone", (server(ready=False),), []),
]  # fmt: skip


@pytest.mark.parametrize("servers, expected", [m[1:] for m in MOVES], ids=[m[0] for m in MOVES])
def test_adapters_move_to_where_they_are_wanted(servers: Any, expected: Any) -> None:
    assert told(moves(base(), base_facts(specialists=USERS, servers=servers))) == expected


def test_no_server_is_asked_to_hold_more_than_its_slots() -> None:
    many = {f"s{i}": specialist(f"s{i}", status={"stable": revision()}) for i in range(5)}
    found = moves(base(pool={"adapterSlots": 2}), base_facts(specialists=many, servers=(server(), server("p-1"))))
    assert [m.address for m in found].count("10.0.0.0") == 2
    assert [m.address for m in found].count("10.0.0.1") == 2


def test_slots_go_to_the_most_called_and_to_candidates() -> None:
    many = {f"s{i}": specialist(f"s{i}", status={"stable": revision()}) for i in range(5)}
    many["s0"] = specialist("s0", status={"candidate": revision(), "rollout": {"stage": "Shadow"}})
    calls = {f"s{i}-{ARTIFACT[7:19]}": float(i) for i in range(5)}
    found = moves(base(pool={"adapterSlots": 2}), base_facts(specialists=many, servers=(server(),), calls=calls))
    assert [m.adapter.name[:2] for m in found] == ["s0", "s4"]


def test_adapters_that_find_no_slot_bring_another_server_and_are_told_of() -> None:
    many = {f"s{i}": specialist(f"s{i}", status={"stable": revision()}) for i in range(5)}
    calls = {f"s{i}-{ARTIFACT[7:19]}": 1.0 for i in range(5)}
    me = base(pool={"adapterSlots": 2, "maxReplicas": 2}, status={"chosen": True, "replicas": 1})
    plan = planned(me, specialists=many, servers=(server(),), demand=BUSY, calls=calls)
    assert plan.status["replicas"] == 2
    assert conditions(plan)["AdaptersPlaced"] == ("True", "MostCalledPlaced")
    assert "3 of 5 adapters have no place on 1 servers of 2 slots" in message(plan, "AdaptersPlaced")


def test_unloads_come_first_so_that_slots_are_free() -> None:
    full = server(**{"old-000": OTHER})
    found = moves(base(pool={"adapterSlots": 2}), base_facts(specialists=USERS, servers=(full,)))
    assert [m.op for m in found] == ["unload", "load", "load"]


def test_a_new_adapter_does_not_change_the_deployment() -> None:
    """Or every promotion would restart the servers of all other specialists."""
    me = base(status={"replicas": 1, "chosen": True})
    fewer = planned(me, specialists={"one": USERS["one"]}, demand=BUSY)
    more = planned(me, specialists=USERS, demand=BUSY)
    assert fewer.apply == more.apply


def test_the_reason_of_a_failing_pool_reaches_ready() -> None:
    plan = planned(base(status={"replicas": 1}), specialists=USERS, demand=BUSY, pod_problem="pod x: ErrImagePull")
    assert message(plan, "Ready") == "PoolAvailable: pod x: ErrImagePull"


@pytest.mark.parametrize("source, path", [
    ({"storePath": "bases/tiny"}, "/store/bases/tiny"), ({"huggingFace": "a/b"}, "a/b"),
    ({"huggingFace": "a/b", "revision": "v1.0"}, "a/b@v1.0")])
def test_a_pool_serves_the_very_base_that_is_trained_on(source: dict[str, str], path: str) -> None:
    made = deployment(CONFIG, base(source=source), 1, "fleet")
    env = made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "SLM_BASE_PATH", "value": path} in env
