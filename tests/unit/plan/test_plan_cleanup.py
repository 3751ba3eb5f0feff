"""What goes from the store: never what a Specialist refers to, and nothing before its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_builders import (
    ARTIFACT,
    CONFIG,
    CURATED,
    NOW,
    PASSED,
    TRAINED,
    after,
    conditions,
    facts,
    later,
    message,
    revision,
    router,
    router_facts,
    specialist,
)
from plan_builders import applied as applied_of

from slmfleet.api.router import CleanupStatus, RouterStatus
from slmfleet.plan.attempt import names
from slmfleet.plan.cleanup import AT_ONCE, LOOK_SECONDS, NOTED, due, needed, noted, wants_look
from slmfleet.plan.facts import JobFact, Plan, RouterObject, SpecialistObject
from slmfleet.plan.router import plan_router
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.jobs import JobFailure

DAY = 86400
OLD, OTHER = "artifacts/intents-0123456789", "datasets/intents-abcdef0123"


def keeping(days: int | None = 30, **status: Any) -> RouterObject:
    kept = {} if days is None else {"artifactRetentionDays": days}
    return router(store={"claimName": "slmfleet-store", "url": "file:///fleet", **kept},
                  status={"cleanup": status} if status else {})  # fmt: skip


def planned(me: RouterObject, seconds: float = 0, **observed: Any) -> Plan:
    return plan_router(CONFIG, me, router_facts(now=later(seconds), **observed))


def then(me: RouterObject, plan: Plan) -> RouterObject:
    return replace(me, status=RouterStatus.model_validate(plan.status))


def cleaning(plan: Plan) -> dict[str, Any]:
    return plan.status["cleanup"]


def made() -> SpecialistObject:
    """A Specialist with a candidate."""
    me = specialist()
    me = after(me, plan_specialist(CONFIG, me, facts()))
    return after(me, plan_specialist(CONFIG, me, facts(curation=CURATED, training=TRAINED, evaluation=PASSED)))


def test_an_unneeded_folder_is_noted_kept_for_its_days_and_then_removed_by_a_job() -> None:
    me = keeping(30)
    me = then(me, planned(me, folders=frozenset({OLD, OTHER})))
    assert [each.path for each in me.status.cleanup.unneeded] == [OLD, OTHER]
    assert conditions(planned(me))["StoreCleaned"] == ("True", "Waiting")
    assert "2 are unneeded, the first goes at 2026-02-01 03:04 UTC" in message(planned(me), "StoreCleaned")
    early = planned(me, 30 * DAY - 1, folders=frozenset({OLD, OTHER}))
    assert "job" not in cleaning(early)
    plan = planned(me, 30 * DAY, folders=frozenset({OLD, OTHER}))
    assert not [o for o in plan.apply if o["kind"] == "Job"], "its name goes into status first"
    me = then(me, plan)
    (job,) = [o for o in planned(me, 30 * DAY + 1).apply if o["kind"] == "Job"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["clean", "--store", "/store", "--folder", OLD, "--folder", OTHER]
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/tmp", "/store/artifacts", "/store/datasets"}
    name = job["metadata"]["name"]
    done = planned(me, 30 * DAY + 9, jobs={name: JobFact("Succeeded")})
    assert (cleaning(done)["removed"], cleaning(done).get("unneeded")) == (2, [])
    assert done.delete == (("Job", name),)
    assert done.events == (("FoldersRemoved", f"unneeded for 30 days: {OLD}, {OTHER}"),)
    assert conditions(done)["StoreCleaned"] == ("True", "NothingToRemove")


def test_without_a_retention_nothing_goes() -> None:
    plan = planned(keeping(None, unneeded=[{"path": OLD, "since": "2020-01-01T00:00:00Z"}]))
    assert "cleanup" not in plan.status
    assert "StoreCleaned" not in conditions(plan)
    assert not wants_look(keeping(None), NOW)


LOOKS: list[tuple[str, dict[str, Any], bool]] = [
    ("never looked", {}, True),
    ("looked just now", {"time": NOW.isoformat()}, False),
    ("looked an hour ago", {"time": (NOW - timedelta(seconds=LOOK_SECONDS)).isoformat()}, True),
    ("a job removes", {"job": "clean-agents-x"}, False),
]


@pytest.mark.parametrize("status, looks", [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS])
def test_the_store_is_listed_once_an_hour(status: dict[str, Any], looks: bool) -> None:
    assert wants_look(keeping(30, **status), NOW) == looks


def test_what_a_revision_or_the_next_one_refers_to_is_needed() -> None:
    me = made()
    pinned = names(me)
    assert pinned is not None
    stable = me.status.model_validate({**me.status.model_dump(by_alias=True), "candidate": None, "training": {},
                                       "stable": revision(path=OLD, folders=[OTHER])})  # fmt: skip
    adopted = specialist("other", artifact=f"file:///artifacts/other-0000000000@{ARTIFACT}", base={"name": "tiny"})
    assert needed([me]) == set(pinned.folders())
    assert needed([replace(me, status=stable)]) == {OLD, OTHER}
    assert needed([adopted]) == {"artifacts/other-0000000000"}


@pytest.mark.parametrize("path", ["artifacts/mine", "artifacts/intents-012345678", "usage/agents-0123456789",
                                  "artifacts/intents-0123456789/sub", "bases/tiny-0123456789",
                                  "artifacts/.removed-a-0123456789",
                                  "artifacts/Intents-0123456789"])  # fmt: skip
def test_a_folder_that_the_operator_did_not_name_is_not_looked_at(path: str) -> None:
    assert noted(CleanupStatus(), {path}, set(), NOW) == []


def test_a_folder_that_is_needed_again_starts_its_time_anew() -> None:
    before = CleanupStatus.model_validate({"unneeded": [{"path": OLD, "since": NOW}]})
    now = CleanupStatus(unneeded=noted(before, {OLD}, {OLD}, later(DAY)))
    (again,) = noted(now, {OLD}, set(), later(2 * DAY))
    assert again.since == later(2 * DAY)


def test_a_removal_that_was_decided_is_taken_back_while_its_job_is_not_made() -> None:
    me = keeping(30, job="clean-agents-x", removing=[OLD], unneeded=[{"path": OLD, "since": "2020-01-01T00:00:00Z"}])
    again = specialist(status={"stable": revision(path=OLD)})
    plan = planned(me, specialists={"intents": again})
    assert "job" not in cleaning(plan)
    assert not [o for o in plan.apply if o["kind"] == "Job"]


def test_a_removal_that_failed_is_tried_again_after_a_while() -> None:
    me = keeping(30, job="clean-agents-x", removing=[OLD])
    failed = {"clean-agents-x": JobFact("Failed", JobFailure(reason="JobFailed", message="read-only"), ended=NOW)}
    assert conditions(planned(me, 1, jobs=failed))["StoreCleaned"] == ("False", "JobFailed")
    assert planned(me, 1, jobs=failed).delete == ()
    assert planned(me, 999, jobs=failed).delete == (("Job", "clean-agents-x"),)
    assert conditions(planned(me, 1, jobs=failed))["Ready"][0] == "True"


folders = st.sets(st.sampled_from([f"{kind}/task-{digit * 10}" for kind in ("artifacts", "datasets", "training")
                                   for digit in "0123"]))  # fmt: skip


@given(looks=st.lists(st.tuples(folders, folders, st.integers(0, 20)), max_size=12), keep=st.integers(1, 30))
def test_nothing_goes_that_was_needed_within_its_days(looks: list[tuple[set[str], set[str], int]], keep: int) -> None:
    """Whatever is stored and needed in whatever order: what goes was unneeded at every look for all of its days."""
    status, day = CleanupStatus(), 0
    last_needed: dict[str, int] = {}
    for stored, need, days in looks:
        day += days
        last_needed |= dict.fromkeys(need, day)
        status = CleanupStatus(unneeded=noted(status, stored, need, later(day * DAY)))
        for each in due(status.unneeded, keep, later(day * DAY)):
            assert each.path in stored and each.path not in need
            assert day - last_needed.get(each.path, -keep) >= keep


def test_what_is_noted_and_what_goes_at_once_is_bounded() -> None:
    many = {f"training/task-{number:010x}" for number in range(NOTED + 9)}
    found = noted(CleanupStatus(), many, set(), NOW)
    assert len(found) == NOTED
    assert len(due(found, 1, later(DAY))) == AT_ONCE


def test_every_look_of_a_removal_makes_the_same_job() -> None:
    me = keeping(30, job="clean-agents-x", removing=[OLD])
    assert applied_of(planned(me)) == applied_of(planned(me, 99))


@pytest.mark.parametrize("job", [{}, {"clean-agents-x": JobFact("Running")}], ids=["not seen yet", "waits for a node"])
def test_a_removal_of_what_is_needed_again_takes_its_job_back(job: dict[str, JobFact]) -> None:
    """Without its deletion the job would remove, hours later, the folder of an adapter that serves."""
    me = keeping(30, job="clean-agents-x", removing=[OLD, OTHER])
    plan = planned(me, specialists={"intents": specialist(status={"stable": revision(path=OLD)})}, jobs=job)
    assert "job" not in cleaning(plan)
    assert plan.delete == (("Job", "clean-agents-x"),)


def test_a_retention_that_is_taken_back_takes_back_its_job() -> None:
    plan = planned(keeping(None, job="clean-agents-x", removing=[OLD]))
    assert plan.delete == (("Job", "clean-agents-x"),)
