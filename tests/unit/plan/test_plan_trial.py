"""A trial of bases: the best of the ranking, one after the other, and the best measured one is trained in full."""

from __future__ import annotations

from typing import Any

import pytest
from plan_builders import (
    CONFIG,
    CURATED,
    PASSED,
    REFUSED,
    TRAINED,
    after,
    applied,
    base,
    cluster,
    conditions,
    facts,
    later,
    message,
    specialist,
)

from slmfleet.plan.attempt import names
from slmfleet.plan.cleanup import needed
from slmfleet.plan.facts import JobFact, Plan, SpecialistObject, TrialFact
from slmfleet.plan.specialist import plan_specialist
from slmfleet.plan.trial import FEWEST_STEPS, STEPS, trial_names
from slmfleet.wire.jobs import EvaluationResult, JobFailure

# Best ranked first: the smallest of bases without published results.
BASES = {"a": base("a", parameters=10), "b": base("b", parameters=20), "c": base("c", parameters=30),
         "gpl": base("gpl", parameters=1, licence="GPL-3.0")}  # fmt: skip
FAILED = JobFact("Failed", JobFailure(reason="OutOfMemory", message="out of memory"))


def planned(me: SpecialistObject, **observed: Any) -> Plan:
    return plan_specialist(CONFIG, me, facts(**{"bases": BASES, "curation": CURATED, **observed}))


def on_trial(count: int = 2, **spec: Any) -> SpecialistObject:
    me = specialist(base={"trial": count, **spec.pop("base", {})}, **spec)
    return after(me, planned(me, curation=None))


def figure(estimate: float, verdict: EvaluationResult = PASSED) -> TrialFact:
    interval = (round(estimate - 0.02, 3), round(estimate + 0.02, 3))
    return TrialFact(TRAINED, verdict.model_copy(update={"estimate": estimate, "interval": interval}))


def jobs_of(me: SpecialistObject, which: str) -> tuple[str, str]:
    made = next(each for each in trial_names(me) if each.base == which)
    return made.training_job, made.evaluation_job


def test_the_best_of_the_ranking_are_fixed_with_the_inputs() -> None:
    assert [each.base for each in on_trial(2).status.training.trials] == ["a", "b"]
    assert [each.base for each in on_trial(8).status.training.trials] == ["a", "b", "c"]


@pytest.mark.parametrize("bases", [{"a": BASES["a"]}, {"a": BASES["a"], "gpl": BASES["gpl"]}])
def test_a_single_suitable_base_needs_no_trial(bases: Any) -> None:
    me = specialist(base={"trial": 2})
    me = after(me, planned(me, bases=bases, curation=None))
    assert (me.status.base, me.status.training.trials) == ("a", [])


def test_one_base_after_the_other_is_trained_and_measured() -> None:
    me = on_trial(2)
    seen: dict[str, TrialFact] = {}
    for which in ("a", "b"):
        training, evaluation = jobs_of(me, which)
        assert applied(planned(me, trials=seen)) == [("Job", training)]
        seen[which] = TrialFact(TRAINED)
        assert applied(planned(me, trials=seen)) == [("Job", evaluation)]
        plan = planned(me, trials=seen)
        assert conditions(plan)["BaseSelected"] == ("Unknown", "OnTrial")
        assert plan.status["stage"] == f"Trial of {which}"
        seen[which] = figure(0.8)
    assert "a 0.800 [0.780, 0.820]; b not measured yet; b is on trial" in message(
        planned(me, trials={"a": figure(0.8)}), "BaseSelected")  # fmt: skip


WINNERS: list[tuple[str, dict[str, TrialFact], str]] = [
    ("the better one", {"a": figure(0.7), "b": figure(0.9)}, "b"),
    ("of equal ones the better ranked", {"a": figure(0.8), "b": figure(0.8)}, "a"),
    ("the best though the gate would refuse it", {"a": figure(0.4, REFUSED), "b": figure(0.5, REFUSED)}, "b"),
]


@pytest.mark.parametrize("seen, winner", [row[1:] for row in WINNERS], ids=[row[0] for row in WINNERS])
def test_the_best_measured_base_is_chosen_and_then_trained_in_full(seen: dict[str, TrialFact], winner: str) -> None:
    me = on_trial(2)
    plan = planned(me, trials=seen)
    assert plan.apply == (), "choosing is a step of its own"
    assert conditions(plan)["BaseSelected"] == ("Unknown", "Measured")
    me = after(me, plan)
    assert (me.status.base, me.status.training.trial_winner) == (winner, winner)
    assert [each.estimate for each in me.status.training.trials] == [seen["a"].evaluation.estimate,
                                                                     seen["b"].evaluation.estimate]  # type: ignore[union-attr]  # fmt: skip
    assert "measured best: a 0." in (me.status.base_reason or "")
    made = names(me)
    assert made is not None
    assert applied(planned(me)) == [("Job", made.training_job)]
    assert trial_names(me) == []


@pytest.mark.parametrize("broken", [0, 1], ids=["training", "evaluation"])
def test_a_base_whose_trial_failed_is_out_with_the_reason(broken: int) -> None:
    me = on_trial(2)
    job = jobs_of(me, "a")[broken]
    seen = {"a": TrialFact(TRAINED if broken else None), "b": figure(0.1)}
    me = after(me, planned(me, trials=seen, jobs={job: FAILED}))
    assert me.status.base == "b"
    assert me.status.training.trials[0].failure == f"failed: job {job}: out of memory"


def test_a_base_that_went_away_is_out() -> None:
    me = on_trial(2)
    me = after(me, planned(me, trials={"b": figure(0.1)}, bases={"b": BASES["b"]}))
    assert (me.status.base, me.status.training.trials[0].failure) == ("b", "is gone")


def test_without_a_base_left_it_stops_and_says_why() -> None:
    me = on_trial(2)
    plan = planned(me, jobs={jobs_of(me, which)[0]: FAILED for which in ("a", "b")})
    assert conditions(plan)["BaseSelected"] == ("False", "TrialsFailed")
    assert "Stalled" in conditions(plan)
    assert message(plan, "BaseSelected").count("out of memory") == 2


STEPS_OF: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({}, {}, STEPS // 10), ({"steps": 400}, {}, 40), ({"steps": 400}, {"trialPercent": 25}, 100),
    ({"steps": 50}, {}, FEWEST_STEPS), ({"steps": 5}, {}, 5)]  # fmt: skip


@pytest.mark.parametrize("training, asked, steps", STEPS_OF)
def test_a_trial_takes_its_share_of_the_steps(training: dict[str, Any], asked: dict[str, Any], steps: int) -> None:
    (job,) = planned(on_trial(2, training=training, base=asked)).apply
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f'"max_steps": {steps},' in args[args.index("--config") + 1]


def test_the_ray_job_is_used_for_trials_too() -> None:
    me = on_trial(2)
    assert applied(planned(me, ray_jobs_served=True)) == [("RayJob", jobs_of(me, "a")[0])]


def test_a_trial_under_way_keeps_its_folders() -> None:
    me = on_trial(2)
    (first, second) = trial_names(me)
    assert {first.artifact, second.artifact, first.scratch} <= needed([me])
    chosen = after(me, planned(me, trials={"a": figure(0.1), "b": figure(0.2)}))
    assert not {first.artifact, second.artifact} & needed([chosen])


def test_a_better_base_must_show_it_in_a_trial_and_other_triggers_keep_the_base() -> None:
    spec: dict[str, Any] = {"base": {"trial": 2}, "retrain": {
        "onBetterBase": True, "driftPercent": 10, "minimumIntervalSeconds": 10}}  # fmt: skip
    me = specialist(**spec)
    me = after(me, planned(me, curation=None))
    me = after(me, planned(me, trials={"a": figure(0.1), "b": figure(0.9)}))
    made = names(me)
    assert made is not None
    stable = {"name": "x", "artifact": TRAINED.artifact_digest, "path": "p", "base": "b", "key": made.attempt}
    me = after(me, Plan(status={**me.status.model_dump(by_alias=True, mode="json", exclude_none=True),
                                "stable": stable}))  # fmt: skip
    later_run: dict[str, Any] = {"run": 2, "version": "v2", "inputTokensP95": 40, "drift": {
        "shareBeforePercent": 1, "sharePercent": 1, "distancePercent": 50, "unlikePercent": 0}}  # fmt: skip
    drifted = after(me, planned(me, cluster=cluster(status=later_run), now=later(60), curation=None))
    assert (drifted.status.base, drifted.status.training.trials) == ("b", [])
    assert drifted.status.training.discovery_run == 2
    newer = {**BASES, "new": base("new", parameters=5)}
    tried = after(me, planned(me, bases=newer, now=later(60), curation=None))
    assert [each.base for each in tried.status.training.trials] == ["new", "a"]
    assert (tried.status.training.trigger or "").startswith("BetterBase: BaseModel new")


def test_the_jobs_of_trials_go_once_a_base_is_chosen() -> None:
    me = on_trial(2)
    jobs = [*jobs_of(me, "a"), *jobs_of(me, "b")]
    seen = {"a": figure(0.7), "b": figure(0.9)}
    assert planned(me, trials={"a": figure(0.7)}).delete == ()
    assert planned(me, trials=seen).delete == tuple(("Job", name) for name in jobs)


def test_many_long_failures_fit_into_the_reason_of_the_choice() -> None:
    bases = {f"base-{i}": base(f"base-{i}", parameters=10 + i) for i in range(8)}
    me = specialist(base={"trial": 8})
    me = after(me, planned(me, curation=None, bases=bases))
    failed = JobFact("Failed", JobFailure(reason="OutOfMemory", message="out of memory " * 90))
    plan = planned(me, bases=bases, trials={"base-0": figure(0.7)},
                   jobs={jobs_of(me, name)[0]: failed for name in bases if name != "base-0"})
    assert (plan.status["base"], len(plan.status["baseReason"])) == ("base-0", 4096)


def test_another_metric_measures_the_bases_on_trial_anew() -> None:
    me = on_trial(2)
    me = after(me, planned(me, trials={"a": figure(0.8)}))
    assert [each.estimate for each in me.status.training.trials] == [0.8, None]
    before = trial_names(me)
    scored: Any = cluster(metric="rouge_l")
    plan = planned(me, trials={"a": figure(0.8)}, cluster=scored)
    assert plan.apply == ()
    assert {("Job", each.evaluation_job) for each in before} <= set(plan.delete)
    me = after(me, plan)
    assert [each.estimate for each in me.status.training.trials] == [None, None]
    now = trial_names(me)
    assert [each.artifact for each in now] == [each.artifact for each in before]
    assert not {each.evaluation for each in now} & {each.evaluation for each in before}
    assert applied(planned(me, trials={"a": TrialFact(TRAINED)}, cluster=scored)) == [("Job", now[0].evaluation_job)]
