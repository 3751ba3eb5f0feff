"""What becomes of the gate's checks: all of them in status, the worst of them in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plan_builders import (
    ARTIFACT,
    CONFIG,
    CURATED,
    PASSED,
    REFUSED,
    TRAINED,
    after,
    applied,
    cluster,
    facts,
    message,
    specialist,
)

from slmfleet.api.base import Resources
from slmfleet.api.specialist import Gate
from slmfleet.cli.status import tree
from slmfleet.plan.attempt import Names
from slmfleet.plan.attempt import names as names_of
from slmfleet.plan.facts import Plan, SpecialistObject
from slmfleet.plan.gate import evaluation_of, why_refused
from slmfleet.plan.jobs import evaluation_pod
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.jobs import EvaluationResult, GateCheck

GOLDEN = Path(__file__).parents[2] / "golden" / "evaluation"


def planned(me: SpecialistObject, **observed: Any) -> Plan:
    return plan_specialist(CONFIG, me, facts(**observed))


def names(me: SpecialistObject) -> Names:
    found = names_of(me)
    assert found is not None
    return found


def pinned() -> SpecialistObject:
    """A Specialist whose next revision's inputs are fixed."""
    me = specialist()
    return after(me, planned(me))


def check(name: str, passed: bool, **more: Any) -> GateCheck:
    return GateCheck(name=name, passed=passed, reason="Because", message=f"{name} says", **more)


CHECKS = [check("WorstSlice", False), check("Floor", False), check("LicenceReport", False, required=False),
          check("ValidFormat", True)]  # fmt: skip


@pytest.mark.parametrize(
    ("checks", "reasons", "said"),
    [
        (CHECKS, ["x"], "WorstSlice (Because): WorstSlice says; also Floor (Because)"),
        (CHECKS[1:], ["x"], "Floor (Because): Floor says"),
        (CHECKS[2:], ["x", "y"], "x; y"),
        ([], ["x", "y"], "x; y"),
        ([], [], ""),
    ],
)
def test_a_refusal_names_the_worst_failed_check(checks: list[GateCheck], reasons: list[str], said: str) -> None:
    assert why_refused(REFUSED.model_copy(update={"checks": checks, "reasons": reasons})) == said


def test_a_refused_candidate_says_why_in_its_condition_and_shows_every_check() -> None:
    me = pinned()
    result = REFUSED.model_copy(update={"checks": CHECKS})
    plan = planned(me, curation=CURATED, training=TRAINED, evaluation=result)
    assert message(plan, "Evaluated").startswith("WorstSlice (Because): WorstSlice says; also Floor (Because); all")
    shown = plan.status["training"]["refused"]
    assert [(c["name"], c["passed"], c["required"]) for c in shown["checks"]] == [
        ("WorstSlice", False, True), ("Floor", False, True), ("LicenceReport", False, False),
        ("ValidFormat", True, True)]  # fmt: skip
    again = planned(after(me, plan), curation=CURATED, training=TRAINED, evaluation=result)
    assert again.status["training"]["refused"] == shown
    assert again.status["history"][0]["reason"].startswith("WorstSlice")


def test_a_candidate_that_passed_shows_every_check_and_an_old_refusal_is_gone() -> None:
    me = pinned()
    refused = after(me, planned(me, curation=CURATED, training=TRAINED, evaluation=REFUSED))
    assert refused.status.training.refused is not None
    asked_less = replace(refused, spec=refused.spec.model_copy(update={
        "gate": refused.spec.gate.model_copy(update={"floor": 0.1})}))  # fmt: skip
    result = PASSED.model_copy(update={"checks": CHECKS[2:]})
    plan = planned(asked_less, curation=CURATED, training=TRAINED, evaluation=result)
    assert [c["name"] for c in plan.status["candidate"]["evaluation"]["checks"]] == ["LicenceReport", "ValidFormat"]
    assert "refused" not in plan.status["training"]


def test_a_name_that_comes_twice_is_shown_once_as_its_worst() -> None:
    twice = [check("Floor", False), check("Memory", True), check("Floor", True)]
    found = evaluation_of(REFUSED.model_copy(update={"checks": twice})).checks
    assert [(c.name, c.passed) for c in found] == [("Floor", False), ("Memory", True)]


def test_status_is_bounded_whatever_the_result_says() -> None:
    many = [GateCheck(name=f"c{n}", passed=True, reason="R", message="m" * 5000) for n in range(50)]
    found = evaluation_of(PASSED.model_copy(update={"checks": many})).checks
    assert (len(found), len(found[0].message), found[0].name) == (32, 1024, "c0")


@pytest.mark.parametrize("case", ["intents", "fields", "tools"])
def test_the_trainers_result_is_understood(case: str) -> None:
    text = (GOLDEN / case / "evaluation.json").read_text("utf-8")
    read = EvaluationResult.model_validate_json(text)
    assert {c.name for c in evaluation_of(read).checks} == {c["name"] for c in json.loads(text)["checks"]}
    assert bool(why_refused(read)) == (read.verdict == "refused")


def test_a_result_of_an_older_trainer_is_understood() -> None:
    old = {"metric": "label", "estimate": 0.5, "interval": [0.4, 0.6], "n": 9, "floor": 0.9, "margin": 0.02,
           "confidence": 0.95, "verdict": "refused", "reasons": ["too low"]}  # fmt: skip
    read = EvaluationResult.model_validate(old)
    assert (evaluation_of(read).checks, why_refused(read)) == ([], "too low")


def test_the_tree_shows_what_failed() -> None:
    plan = planned(pinned(), curation=CURATED, training=TRAINED,
                   evaluation=REFUSED.model_copy(update={"checks": CHECKS}))  # fmt: skip
    lines = [text for _, text in tree({"spec": {"taskCluster": "t"}, "metadata": {"name": "n"}, "status": plan.status})]
    assert "refuses WorstSlice Because: WorstSlice says" in lines
    assert "noted   LicenceReport Because: LicenceReport says" in lines
    assert not any("ValidFormat" in line for line in lines)


@pytest.mark.parametrize(
    ("gate", "arguments"),
    [
        ({}, []),
        ({"slice_floor": 0.5}, ["--slice-floor", "0.5"]),
        ({"maximum_latency_seconds": 2}, ["--max-latency", "2.0"]),
        ({"require_non_inferiority": True}, ["--require-non-inferiority"]),
    ],
)
def test_the_job_asks_for_what_the_gate_asks_for(gate: dict[str, Any], arguments: list[str]) -> None:
    asked = Gate(**gate)
    pod = evaluation_pod(CONFIG, "d", "bases/b", "m", "o", asked, "auto", Resources(), "")
    args = pod["containers"][0]["args"]
    assert args[args.index("--require-reports") + 1 :] == arguments
    assert asked.model_dump(exclude_none=True).keys() == {"floor", "margin", "confidence", *gate}, (
        "a field that is absent must not change the names of jobs"
    )


def test_another_metric_judges_the_trained_revision_anew_and_trains_nothing() -> None:
    me = after(specialist(), planned(specialist(), cluster=cluster(metric="label")))
    before = names(me)
    results: dict[str, Any] = {"curation": CURATED, "training": TRAINED}
    me = after(me, planned(me, cluster=cluster(metric="label"), **results))
    plan = planned(me, cluster=cluster(metric="macro_f1"), **results, evaluation=PASSED)
    assert plan.apply == () and plan.status.get("candidate") is None, "that figure is of the metric before"
    assert plan.delete == (("Job", before.evaluation_job),)
    assert "scored by macro_f1 now, before by label" in message(plan, "Evaluated")
    me = after(me, plan)
    made = names(me)
    assert (made.dataset, made.artifact) == (before.dataset, before.artifact)
    assert made.evaluation != before.evaluation
    (job,) = planned(me, cluster=cluster(metric="macro_f1"), **results).apply
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert (job["metadata"]["name"], args[args.index("--metric") + 1]) == (made.evaluation_job, "macro_f1")


@pytest.mark.parametrize("verdict, score, ended", [(PASSED, "0.960 [0.930, 0.980]", []),
                                                    (REFUSED, "0.500 [0.430, 0.570]", ["Refused"])])  # fmt: skip
def test_what_serves_is_judged_by_the_new_metric_and_shows_its_figure(
    verdict: EvaluationResult, score: str, ended: list[str]
) -> None:
    """Its canary counts as before: a gate that says no leaves the traffic where it is, as a stricter floor does."""
    me = pinned()
    old = evaluation_of(PASSED.model_copy(update={"metric": "text", "estimate": 0.99}))
    key = names(me).attempt
    stable = {"name": ARTIFACT[7:19], "artifact": ARTIFACT, "path": "p", "base": "tiny", "key": key,
              "evaluation": old.model_dump(by_alias=True)}  # fmt: skip
    me = after(me, Plan(status={**me.status.model_dump(by_alias=True, mode="json", exclude_none=True),
                                "stable": stable}))  # fmt: skip
    changed: dict[str, Any] = {"cluster": cluster(metric="label"), "curation": CURATED, "training": TRAINED}
    assert planned(me, cluster=cluster()).status["score"] == "0.990 [0.930, 0.980]"
    me = after(me, planned(me, **changed))
    plan = planned(me, **changed, evaluation=verdict)
    assert plan.status["score"] == score
    assert plan.status["stable"]["artifact"] == ARTIFACT and plan.status.get("candidate") is None
    assert [entry["outcome"] for entry in plan.status.get("history", [])] == ended
    again = planned(after(me, plan), **changed, evaluation=verdict)
    assert (again.status, again.apply) == (plan.status, ())


def test_the_default_metric_is_in_no_name_so_that_revisions_of_before_keep_theirs() -> None:
    me = pinned()
    before = me.status.training.model_copy(update={"metric": None})
    old = replace(me, status=me.status.model_copy(update={"training": before}))
    assert me.status.training.metric == "auto" and names(old) == names(me)
    assert applied(planned(old)) == applied(planned(me))
