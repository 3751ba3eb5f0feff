"""Performing a plan: what is sent to the API server, and what is left unsent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slmfleet.api import conditions
from slmfleet.controllers.apply import REAPPLY_SECONDS, VOLATILE_SECONDS, Performer
from slmfleet.kube.client import ApiError, Conflict, Kind, Object
from slmfleet.plan.facts import Plan

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Server:
    """The four writes of `Kube`, recorded."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.status: dict[str, Any] = {}
        self.refused: dict[str, ApiError] = {}

    async def apply(self, obj: Object) -> Object:
        return self._sent("apply", obj["metadata"]["name"], obj)

    async def create(self, obj: Object) -> Object:
        return self._sent("event" if obj["kind"] == "Event" else "create", obj["metadata"]["name"], obj)

    async def delete(self, kind: Kind, name: str) -> None:
        self._sent("delete", name, {})

    async def write_status(self, obj: Object, status: Any) -> Object:
        self.status = dict(status)
        return self._sent("status", obj["metadata"]["name"], obj)

    def _sent(self, verb: str, name: str, obj: Object) -> Object:
        self.sent.append((verb, name))
        if verb in self.refused:
            raise self.refused[verb]
        return obj

    def verbs(self) -> list[str]:
        verbs = [verb for verb, _ in self.sent]
        self.sent.clear()
        return verbs


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"port": 80}}
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}}


def mine(status: dict[str, Any] | None = None) -> Object:
    meta = {"name": "one", "namespace": "demo", "uid": "u", "generation": 3}
    return {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "Router", "metadata": meta, "status": status or {}}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def performer(server: Server, clock: Clock) -> Performer:
    return Performer(server, clock)  # type: ignore[arg-type]


async def test_objects_come_before_deletions_and_status_last(performer: Performer, server: Server) -> None:
    plan = Plan(apply=(SERVICE, JOB), delete=(("Job", "old"),), status={"captured": 1})
    assert await performer.perform(mine(), plan)
    assert server.verbs() == ["apply", "create", "delete", "status"]


async def test_what_was_applied_is_not_sent_again_but_for_a_repair(
    performer: Performer, server: Server, clock: Clock
) -> None:
    plan = Plan(apply=(SERVICE,))
    for seconds, verbs in ((0, ["apply"]), (1, []), (REAPPLY_SECONDS, ["apply"]), (1, [])):
        clock.tick(seconds)
        await performer.perform(mine({"observedGeneration": 3, "conditions": []}), plan)
        assert server.verbs() == verbs


async def test_a_change_is_sent_at_once(performer: Performer, server: Server) -> None:
    before = mine({"observedGeneration": 3, "conditions": []})
    for port in (80, 81, 80):
        await performer.perform(before, Plan(apply=({**SERVICE, "spec": {"port": port}},)))
    assert server.verbs() == ["apply"] * 3


async def test_what_somebody_deleted_is_made_again_at_once(performer: Performer, server: Server) -> None:
    before = mine({"observedGeneration": 3, "conditions": []})
    await performer.perform(before, Plan(apply=(SERVICE,)))
    performer.forget("Service", "s")
    await performer.perform(before, Plan(apply=(SERVICE,)))
    assert server.verbs() == ["apply", "apply"]


async def test_a_job_that_is_there_already_is_left_as_it_is(performer: Performer, server: Server) -> None:
    """An upgraded operator has other images in its jobs; a job's template cannot be changed."""
    server.refused["create"] = Conflict(409, "already exists")
    assert await performer.perform(mine(), Plan(apply=(JOB,), status={"captured": 1}))
    assert server.verbs() == ["create", "status"]


async def test_a_refused_object_leaves_status_unwritten_and_is_tried_again(
    performer: Performer, server: Server
) -> None:
    server.refused["apply"] = ApiError(500, "no")
    plan = Plan(apply=(SERVICE,), status={"captured": 1})
    with pytest.raises(ApiError):
        await performer.perform(mine(), plan)
    server.refused.clear()
    assert await performer.perform(mine(), plan)
    assert server.verbs() == ["apply", "apply", "status"]


async def test_status_is_written_only_when_it_changed(performer: Performer, server: Server) -> None:
    plan = Plan(status={"captured": 1}, conditions=(conditions.true("Ready", "Good"),))
    assert await performer.perform(mine(), plan)
    written = server.status
    assert written["observedGeneration"] == 3
    assert written["conditions"][0]["observedGeneration"] == 3
    server.verbs()
    assert not await performer.perform(mine(written), plan)
    assert server.verbs() == []


async def test_counters_alone_are_written_now_and_then(performer: Performer, server: Server, clock: Clock) -> None:
    def volatile(status: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in status.items() if key != "captured"}

    obj, wrote = mine(), []
    for captured, seconds in ((1, 0), (2, 1), (3, 1), (4, VOLATILE_SECONDS)):
        clock.tick(seconds)
        wrote.append(await performer.perform(obj, Plan(status={"captured": captured}), volatile))
        obj = mine(server.status)
    assert wrote == [True, False, False, True]
    assert server.status["captured"] == 4


async def test_a_new_reason_is_told_once(performer: Performer, server: Server) -> None:
    def plan(reason: str) -> Plan:
        return Plan(conditions=(conditions.false("Ready", reason), conditions.false("Trained", reason)))

    await performer.perform(mine(), plan("OutOfMemory"))
    assert server.verbs() == ["status", "event"]
    await performer.perform(mine(server.status), plan("OutOfMemory"))
    assert server.verbs() == []


async def test_an_event_that_cannot_be_written_stops_nothing(performer: Performer, server: Server) -> None:
    server.refused["event"] = ApiError(403, "forbidden")
    assert await performer.perform(mine(), Plan(conditions=(conditions.false("Trained", "OutOfMemory"),)))


async def test_a_status_that_changed_meanwhile_is_not_overwritten(performer: Performer, server: Server) -> None:
    server.refused["status"] = Conflict(409, "the object has been modified")
    with pytest.raises(Conflict):
        await performer.perform(mine(), Plan(status={"captured": 1}))


async def test_the_events_of_a_plan_are_told_once_its_status_is_written(server: Server, performer: Performer) -> None:
    plan = Plan(status={"run": 2}, events=(("TaskSplit", "intents became intents, refunds"),))
    await performer.perform(mine(), plan)
    assert server.verbs() == ["status", "event"]
    await performer.perform(mine({**server.status}), plan)
    assert server.verbs() == []


@pytest.mark.parametrize("kind, status, goes_on", [
    ("Specialist", 403, True), ("Specialist", 422, True), ("Specialist", 500, False), ("Specialist", 0, False),
    ("Job", 403, False)])
async def test_a_specialist_that_a_policy_refuses_does_not_stop_its_router(
    performer: Performer, server: Server, kind: str, status: int, goes_on: bool
) -> None:
    server.refused["create"] = ApiError(status, "exceeded quota")
    plan = Plan(apply=({**JOB, "kind": kind}, SERVICE), status={"captured": 1})
    if not goes_on:
        with pytest.raises(ApiError):
            await performer.perform(mine(), plan)
        return
    assert await performer.perform(mine(), plan)
    assert server.verbs() == ["create", "apply", "status"]
