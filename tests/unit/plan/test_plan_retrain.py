"""S6: what starts a training again, what holds it back, and what a failed one leaves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from plan_builders import (
    ARTIFACT,
    CURATED,
    NOW,
    PASSED,
    REFUSED,
    TRAINED,
    after,
    applied,
    base,
    cluster,
    conditions,
    facts,
    gateway,
    later,
    message,
    revision,
    serving,
    specialist,
)

from slmfleet.plan.attempt import names
from slmfleet.plan.config import Config
from slmfleet.plan.facts import ClusterObject, JobFact, Plan, SpecialistObject
from slmfleet.plan.pool import adapter_name
from slmfleet.plan.retrain import next_time
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.jobs import JobFailure
from slmfleet.wire.signals import GatewaySignals

CONFIG = Config(namespace="demo")
HOUR = 3600
RUN_ONE: dict[str, Any] = {"version": "v1", "run": 1, "inputTokensP95": 40, "calls": 1000, "teachable": 900}


def run(number: int, **status: Any) -> ClusterObject:
    """The task as a later discovery run found it."""
    return cluster(status={**RUN_ONE, "run": number, "version": f"v{number}", **status})


def drifted(percent: float) -> dict[str, Any]:
    return {"drift": {"shareBeforePercent": 20, "sharePercent": 21, "distancePercent": percent, "unlikePercent": 0}}


def planned(me: SpecialistObject, seconds: float, **observed: Any) -> Plan:
    held = {"tiny": base(status=serving(adapter_name("intents", ARTIFACT[7:19])))}
    return plan_specialist(CONFIG, me, facts(**{"bases": held, "now": later(seconds), **observed}))


def served(**retrain: Any) -> SpecialistObject:
    """A Specialist whose first revision, of run 1 at NOW, was promoted."""
    me = specialist(retrain={"minimumIntervalSeconds": HOUR, **retrain})
    me = after(me, planned(me, 0, cluster=run(1)))
    made = names(me)
    assert made is not None
    me = replace(me, status=me.status.model_validate({
        **me.status.model_dump(by_alias=True), "stable": revision(key=made.attempt), "stage": "Promoted"}))
    return after(me, planned(me, 1, cluster=run(1)))


TRIGGERS: list[tuple[str, dict[str, Any], dict[str, Any], bool, str]] = [
    # what, spec.retrain, the newest discovery run's figures, whether it starts, part of the reason
    ("nothing asked for", {}, {"teachable": 99_000, **drifted(99)}, False, ""),
    ("enough new examples", {"newExamples": 100}, {"teachable": 1000}, True, "NewExamples: 100 new examples, from 100"),
    ("too few new examples", {"newExamples": 100}, {"teachable": 999}, False, "99 of 100 new examples"),
    ("new calls that specialists answered", {"newExamples": 100}, {"calls": 5000}, False, "0 of 100 new examples"),
    ("a log that got shorter", {"newExamples": 100}, {"teachable": 10}, False, "0 of 100 new examples"),
    ("drift", {"driftPercent": 15}, drifted(15), True, "Drift: drift of 15 %, from 15"),
    ("a part that is new", {"driftPercent": 15},
     {"drift": {**drifted(1)["drift"], "unlikePercent": 60, "unlikeBeforePercent": 40}}, True,
     "Drift: drift of 20 %, from 15"),
    ("small steps that add up", {"driftPercent": 15}, {**drifted(6), "driftTrained": drifted(16)["drift"]}, True,
     "Drift: drift of 16 %, from 15"),
    ("less drift", {"driftPercent": 15}, drifted(14.9), False, "drift 14.9 of 15 %"),
    ("two reasons", {"driftPercent": 15, "newExamples": 100}, {"teachable": 2000, **drifted(40)}, True,
     "NewExamples: 1,100 new examples, from 100; Drift: drift of 40 %"),
]  # fmt: skip


@pytest.mark.parametrize("asked, figures, starts, reason", [t[1:] for t in TRIGGERS], ids=[t[0] for t in TRIGGERS])
def test_what_a_newer_run_found_starts_a_training(
    asked: dict[str, Any], figures: dict[str, Any], starts: bool, reason: str
) -> None:
    me = served(**asked)
    plan = planned(me, HOUR, cluster=run(2, **figures))
    now = after(me, plan)
    assert plan.apply == (), "fixing the inputs is a step of its own"
    assert (now.status.training.discovery_run, now.status.training.key != me.status.training.key) == (
        (2, True) if starts else (1, False))  # fmt: skip
    assert reason in message(plan, "UpToDate")
    assert conditions(plan)["UpToDate"] == (("Unknown", "Training") if starts else ("True", "NothingDue"))
    assert (now.status.training.trigger is not None) == starts
    assert now.status.stable is not None, "what serves goes on"


def test_without_spec_retrain_nothing_is_measured() -> None:
    me = served(newExamples=1)
    plan = planned(replace(me, spec=specialist().spec), HOUR, cluster=run(2, teachable=99_999))
    assert "retrain" not in plan.status
    assert "UpToDate" not in conditions(plan)
    assert after(me, plan).status.training.discovery_run == 1


HELD: list[tuple[str, float, int, tuple[str, str]]] = [
    ("too soon", HOUR - 1, 2, ("Unknown", "Resting")),
    ("rested", HOUR, 2, ("Unknown", "Training")),
    ("rested, but nothing new was discovered", HOUR, 1, ("Unknown", "WaitingForDiscovery")),
]


@pytest.mark.parametrize("seconds, newest, condition", [row[1:] for row in HELD], ids=[row[0] for row in HELD])
def test_a_training_that_is_due_waits_for_its_interval_and_for_news(
    seconds: float, newest: int, condition: tuple[str, str]
) -> None:
    plan = planned(served(newExamples=50), seconds, cluster=run(newest, teachable=1000))
    assert conditions(plan)["UpToDate"] == condition
    assert conditions(plan)["Ready"][0] == ("Unknown" if condition[1] == "Training" else "True")


def test_a_schedule_starts_a_training_once_each_time_it_comes_round() -> None:
    """NOW is a Friday at 03:04:05; the schedule says 04:00 every day."""
    me = served(schedule="0 4 * * *")
    assert me.status.retrain is not None
    assert me.status.retrain.next_schedule_time == NOW.replace(hour=4, minute=0, second=0)
    assert "next at 2026-01-02 04:00 UTC" in message(planned(me, 60, cluster=run(2)), "UpToDate")
    started = after(me, planned(me, HOUR, cluster=run(2)))
    assert started.status.training.trigger == "Schedule: the schedule asked for it at 2026-01-02 04:00 UTC"
    assert started.status.retrain is not None
    assert started.status.retrain.next_schedule_time == NOW.replace(day=3, hour=4, minute=0, second=0)


def test_a_schedule_that_changes_counts_from_now() -> None:
    """One that is new does not make up for times before it was there."""
    me = served()
    plan = planned(replace(me, spec=specialist(retrain={"schedule": "0 3 * * *"}).spec), HOUR, cluster=run(2))
    assert plan.status["retrain"]["nextScheduleTime"] == "2026-01-03T03:00:00Z"
    assert conditions(plan)["UpToDate"] == ("True", "NothingDue")


@pytest.mark.parametrize("schedule", ["61 * * * *", "0 0 31 2 *", "A B C D E"])
def test_a_schedule_without_a_next_time_is_named(schedule: str) -> None:
    plan = planned(served(schedule=schedule), HOUR, cluster=run(2))
    assert conditions(plan)["UpToDate"] == ("False", "BadSchedule")
    assert f"{schedule!r} has no next time" in message(plan, "UpToDate")
    assert conditions(plan)["Ready"][0] == "True"


SCHEDULES = [("*/15 * * * *", NOW.replace(minute=15, second=0)),
             ("0 3 * * 1", datetime.fromisoformat("2026-01-05T03:00Z"))]


@pytest.mark.parametrize("schedule, when", SCHEDULES)
def test_the_next_time_is_that_of_cron(schedule: str, when: datetime) -> None:
    assert next_time(schedule, NOW) == when


# --- escalations -------------------------------------------------------------------------------------------------

def answered(conversations: int, failed: int, instance: str = "g", uptime: float = 9999) -> GatewaySignals:
    return gateway(instance, conversations=conversations, failed=failed, uptime_seconds=uptime)


ESCALATIONS: list[tuple[str, tuple[GatewaySignals, ...], float | None, bool]] = [
    # what, gateways at the window's end, escalated in percent, whether it starts. At its start: 1000 and 100 failed
    ("as before", (answered(2000, 200),), 10, False),
    ("surely more than a fifth", (answered(2000, 400),), 30, True),
    ("more, but it may be chance", (answered(1010, 103),), 30, False),
    ("no conversation", (answered(1000, 100),), None, False),
    ("one that started meanwhile", (answered(1000, 100), answered(100, 50, "new", uptime=60)), 50, True),
    ("one that was there and had not been seen", (answered(1100, 110), answered(999, 999, "unseen")), 10, False),
]


@pytest.mark.parametrize("signals, percent, starts", [row[1:] for row in ESCALATIONS], ids=[r[0] for r in ESCALATIONS])
def test_escalations_are_counted_over_a_whole_window(
    signals: tuple[GatewaySignals, ...], percent: float | None, starts: bool
) -> None:
    me = served(escalationPercent=20, windowSeconds=600)
    me = after(me, planned(me, HOUR, cluster=run(2), signals=(answered(1000, 100),)))
    within = planned(me, HOUR + 599, cluster=run(2), signals=signals)
    assert after(me, within) == me, "nothing is written while the window is under way"
    plan = planned(me, HOUR + 600, cluster=run(2), signals=signals)
    now = after(me, plan)
    if starts:
        assert now.status.training.trigger is not None
        assert now.status.training.trigger.startswith(f"Escalations: {percent} % of conversations escalated, surely")
        return
    assert now.status.training.trigger is None
    assert now.status.retrain is not None and now.status.retrain.escalation_percent == percent


def test_a_revisions_first_conversations_are_counted_though_its_gateway_is_old() -> None:
    me = served(escalationPercent=20, windowSeconds=600)
    idle = GatewaySignals(instance="g", uptime_seconds=9999)
    me = after(me, planned(me, HOUR, cluster=run(2), signals=(idle,)))
    now = after(me, planned(me, HOUR + 600, cluster=run(2), signals=(answered(100, 60),)))
    assert (now.status.training.trigger or "").startswith("Escalations: 60 %")


def test_a_gateway_that_cannot_be_asked_ends_no_window() -> None:
    me = served(escalationPercent=20, windowSeconds=600)
    me = after(me, planned(me, HOUR, cluster=run(2), signals=(answered(1000, 100),)))
    assert after(me, planned(me, HOUR + 900, cluster=run(2), signals=())) == me


# --- agreement ---------------------------------------------------------------------------------------------------

def compared(agreed: int, disagreed: int) -> GatewaySignals:
    return gateway("g", agreed=agreed, disagreed=disagreed, uptime_seconds=9999)


AGREEMENT: list[tuple[str, int, int, float | None, bool]] = [
    # what, agreed and not in the window, agreement in percent, whether it starts
    ("as it was promoted", 950, 50, 95, False),
    ("surely below", 700, 300, 70, True),
    ("below, but it may be chance", 8, 2, 80, False),
    ("nothing held back yet", 0, 0, None, False),
]


@pytest.mark.parametrize("good, bad, percent, starts", [row[1:] for row in AGREEMENT], ids=[r[0] for r in AGREEMENT])
def test_agreement_on_what_is_held_back_is_counted_over_a_whole_window(
    good: int, bad: int, percent: float | None, starts: bool
) -> None:
    me = served(agreementPercent=85, windowSeconds=600)
    before, ended = (compared(400, 100),), (compared(400 + good, 100 + bad),)
    me = after(me, planned(me, HOUR, cluster=run(2), signals=before))
    assert after(me, planned(me, HOUR + 599, cluster=run(2), signals=ended)) == me
    now = after(me, planned(me, HOUR + 600, cluster=run(2), signals=ended))
    trigger = now.status.training.trigger
    assert (trigger is not None) is starts
    if starts:
        assert trigger is not None and trigger.startswith("Agreement: agrees with the LLM in 70 %")
        return
    assert now.status.retrain is not None and now.status.retrain.agreement_percent == percent


# --- a better base -----------------------------------------------------------------------------------------------

SCORED = [{"task": "any", "benchmark": "B", "value": 90, "source": "s"}]
BETTER: list[tuple[str, dict[str, Any], dict[str, Any], str | None]] = [
    # what, spec.base, the new BaseModel, the base of what starts
    ("better", {}, {"scores": SCORED}, "new"),
    ("not suitable", {}, {"scores": SCORED, "licence": "GPL-3.0"}, None),
    ("worse", {}, {"parameters": 9_000_000}, None),
    ("the base is named", {"name": "tiny"}, {"scores": SCORED}, None),
]


@pytest.mark.parametrize("wish, arrived, chosen", [row[1:] for row in BETTER], ids=[row[0] for row in BETTER])
def test_a_better_base_in_the_catalogue_starts_a_training_without_a_newer_run(
    wish: dict[str, Any], arrived: dict[str, Any], chosen: str | None
) -> None:
    me = specialist(retrain={"onBetterBase": True, "minimumIntervalSeconds": HOUR}, base=wish)
    me = after(me, planned(me, 0, cluster=run(1)))
    made = names(me)
    assert made is not None
    me = replace(me, status=me.status.model_validate({
        **me.status.model_dump(by_alias=True), "stable": revision(key=made.attempt)}))
    bases = {"tiny": base(), "new": base("new", **arrived)}
    now = after(me, planned(me, HOUR, cluster=run(1), bases=bases))
    assert now.status.base == (chosen or "tiny")
    assert (now.status.training.trigger is not None) == (chosen is not None)
    much_later = after(now, planned(now, 99 * HOUR, cluster=run(1), bases=bases))
    assert much_later.status.training.key == now.status.training.key


def test_the_base_stays_where_it_is_not_the_reason() -> None:
    me = served(newExamples=10)
    bases = {"tiny": base(), "new": base("new", scores=SCORED)}
    now = after(me, planned(me, HOUR, cluster=run(2, teachable=2000), bases=bases))
    assert (now.status.base, now.status.training.discovery_run) == ("tiny", 2)


# --- one at a time, and after a failure --------------------------------------------------------------------------

NEWER = TRAINED.model_copy(update={"artifact_digest": "sha256:" + "0b" * 32})
REFUSED_AGAIN: dict[str, Any] = {"curation": CURATED, "training": NEWER, "evaluation": REFUSED}


def retraining() -> SpecialistObject:
    """One that began to be trained again an hour after NOW."""
    me = served(newExamples=50)
    return after(me, planned(me, HOUR, cluster=run(2, teachable=1000)))


def test_no_training_starts_while_one_is_under_way() -> None:
    me = retraining()
    made = names(me)
    assert made is not None
    plan = planned(me, 99 * HOUR, cluster=run(9, teachable=99_999))
    assert applied(plan) == [("Job", made.dataset_job)]
    assert after(me, plan).status.training.discovery_run == 2
    assert conditions(plan)["UpToDate"] == ("Unknown", "Training")


def test_the_reason_is_in_the_lineage_and_in_the_history() -> None:
    me = retraining()
    found = after(me, planned(me, HOUR + 9, cluster=run(2), curation=CURATED, training=NEWER, evaluation=PASSED))
    assert found.status.candidate is not None
    assert found.status.candidate.trigger == "NewExamples: 100 new examples, from 50"
    assert (found.status.candidate.discovery_run, found.status.candidate.task_calls) == (2, 1000)
    refused = after(me, planned(me, HOUR + 9, cluster=run(2), curation=CURATED, training=NEWER, evaluation=REFUSED))
    assert refused.status.history[0].trigger == "NewExamples: 100 new examples, from 50"


FAILED = JobFact("Failed", JobFailure(reason="OutOfMemory", message="its pod ran out of memory"))


@pytest.mark.parametrize("how", ["refused by the gate", "job failed"])
def test_a_training_that_does_not_make_it_leaves_the_stable_revision_ready_and_backs_off(how: str) -> None:
    me = retraining()
    for failures in (1, 2, 3):
        made = names(me)
        assert made is not None
        began = me.status.training.started
        assert began is not None
        ended: dict[str, Any] = {"jobs": {made.training_job: FAILED}, "curation": CURATED}
        if how == "refused by the gate":
            ended = REFUSED_AGAIN
        at = (began - NOW).total_seconds()
        newest = run(2 + failures, teachable=1000 + 100 * failures)
        me = after(me, planned(me, at + 60, cluster=newest, **ended))
        held = planned(me, at + HOUR * 2**failures - 1, cluster=newest, **ended)
        assert conditions(held)["UpToDate"] == ("Unknown", "BackingOff")
        assert conditions(held)["Ready"][0] == "True", "the stable revision serves"
        assert held.status["stage"] == "Promoted"
        me = after(me, planned(me, at + HOUR * 2**failures, cluster=newest, **ended))
        assert me.status.training.discovery_run == 2 + failures
        assert me.status.retrain is not None and me.status.retrain.failures == failures
        assert me.status.training.started == began + timedelta(seconds=HOUR * 2**failures)


def test_how_the_last_training_failed_stays_to_be_seen() -> None:
    me = retraining()
    ended: dict[str, Any] = {**REFUSED_AGAIN, "cluster": run(2, teachable=1000)}
    me = after(me, planned(me, HOUR + 60, **ended))
    plan = planned(me, HOUR + 61, **ended)
    assert conditions(plan)["UpToDate"] == ("False", "LastFailed")
    assert "refused by the gate (0.500 is below the floor 0.9); 0 of 50 new examples" in message(plan, "UpToDate")


def test_a_first_training_that_was_refused_is_tried_again_when_more_came() -> None:
    me = specialist(retrain={"newExamples": 100, "minimumIntervalSeconds": HOUR})
    me = after(me, planned(me, 0, cluster=run(1)))
    ended: dict[str, Any] = {"curation": CURATED, "training": TRAINED, "evaluation": REFUSED}
    me = after(me, planned(me, 60, cluster=run(1), **ended))
    assert conditions(planned(me, 61, cluster=run(1), **ended))["Evaluated"] == ("False", "GateRefused")
    again = after(me, planned(me, 2 * HOUR, cluster=run(2, teachable=1000), **ended))
    assert (again.status.training.discovery_run, again.status.stage) == (2, "Curating")


def test_a_change_of_the_spec_forgets_the_failures() -> None:
    me = retraining()
    ended: dict[str, Any] = {**REFUSED_AGAIN, "cluster": run(2, teachable=1000)}
    me = after(me, planned(me, HOUR + 60, **ended))
    changed = specialist(retrain={"newExamples": 50}, training={"steps": 7}).spec
    now = after(me, planned(replace(me, spec=changed), HOUR + 61, **ended))
    assert now.status.training.trigger is None
    assert now.status.retrain is not None and now.status.retrain.failures == 0
