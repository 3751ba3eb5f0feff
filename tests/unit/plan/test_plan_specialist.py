"""One Specialist: from what was observed to conditions, stage and jobs."""

from __future__ import annotations

from dataclasses import replace
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
    base,
    cluster,
    conditions,
    facts,
    gateway,
    later,
    message,
    revision,
    router,
    serving,
    specialist,
)

from slmfleet.plan.attempt import names
from slmfleet.plan.facts import JobFact, Plan, SpecialistFacts, SpecialistObject
from slmfleet.plan.pool import adapter_name
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.jobs import JobFailure, TrainingProgress

OTHER = "sha256:" + "0b" * 32
FAILED = JobFact("Failed", JobFailure(reason="OutOfMemory", message="its pod ran out of memory"))


def planned(me: SpecialistObject, **observed: Any) -> Plan:
    return plan_specialist(CONFIG, me, facts(**observed))


def pinned(**spec: Any) -> SpecialistObject:
    """A Specialist whose next revision's inputs are fixed."""
    me = specialist(**spec)
    return after(me, planned(me))


def candidate(**spec: Any) -> SpecialistObject:
    """A Specialist whose adapter passed the gate and is being placed."""
    me = pinned(**spec)
    return after(me, planned(me, curation=CURATED, training=TRAINED, evaluation=PASSED))


def on_pool(me: SpecialistObject) -> dict[str, Any]:
    name = adapter_name(me.meta.name, ARTIFACT[7:19])
    return {"bases": {"tiny": base(status=serving(name))}, "curation": CURATED, "training": TRAINED,
            "evaluation": PASSED}


def job_of(me: SpecialistObject, step: str) -> str:
    made = names(me)
    assert made is not None
    return str(getattr(made, f"{step}_job"))


NOT_STARTED: list[tuple[str, dict[str, Any], dict[str, Any], str, tuple[str, str, str]]] = [
    # what, spec, observed, stage, (type, status, reason)
    ("no cluster", {}, {"cluster": None}, "Waiting", ("ClusterFound", "False", "ClusterNotFound")),
    ("no router", {}, {"router": None}, "Waiting", ("ClusterFound", "False", "RouterNotFound")),
    ("not discovered", {}, {"cluster": cluster(status={})}, "Waiting",
     ("DatasetReady", "Unknown", "WaitingForDiscovery")),
    ("no base", {}, {"bases": {}}, "Refused", ("BaseSelected", "False", "NoBaseFits")),
    ("prompts too long for every base", {}, {"cluster": cluster(status={
        "version": "v", "run": 1, "inputTokensP95": 500})}, "Refused", ("BaseSelected", "False", "NoBaseFits")),
    ("rank too high for the pool", {"training": {"rank": 64}}, {}, "Refused", ("BaseSelected", "False", "NoBaseFits")),
    ("suspended", {"suspend": True}, {}, "Suspended", ("RolledOut", "False", "Suspended")),
    ("first look", {}, {}, "Curating", ("DatasetReady", "Unknown", "Pinned")),
    ("given artifact without a base", {"artifact": f"file:///artifacts/x@{OTHER}"}, {}, "Refused",
     ("BaseSelected", "False", "BaseNotFound")),
]  # fmt: skip


@pytest.mark.parametrize("spec, observed, stage, condition", [r[1:] for r in NOT_STARTED],
                         ids=[r[0] for r in NOT_STARTED])
def test_nothing_is_made_before_its_inputs_are_fixed(
    spec: dict[str, Any], observed: dict[str, Any], stage: str, condition: tuple[str, str, str]
) -> None:
    plan = planned(specialist(**spec), **observed)
    type_, status, reason = condition
    assert conditions(plan)[type_] == (status, reason)
    assert plan.status["stage"] == stage
    assert plan.apply == ()


MAKING: list[tuple[str, dict[str, Any], dict[str, str | None], str, str, tuple[str, str], str | None]] = [
    # what, results so far, states of jobs, stage, condition, (status, reason), job applied
    ("curates", {}, {}, "Curating", "DatasetReady", ("Unknown", "JobRunning"), "dataset"),
    ("curating", {}, {"dataset": "Running"}, "Curating", "DatasetReady", ("Unknown", "JobRunning"), "dataset"),
    ("job done, result not seen yet", {}, {"dataset": "Succeeded"}, "Curating", "DatasetReady",
     ("Unknown", "JobRunning"), "dataset"),
    ("curation failed", {}, {"dataset": "Failed"}, "Curating failed", "DatasetReady", ("False", "OutOfMemory"), None),
    ("leaks", {"curation": CURATED.model_copy(update={"leaks": 1})}, {}, "Refused", "DatasetReady",
     ("False", "PersonalDataLeft"), None),
    ("trains", {"curation": CURATED}, {}, "Training 0%", "Trained", ("Unknown", "JobRunning"), "training"),
    ("training", {"curation": CURATED, "progress": TrainingProgress(step=3, total_steps=9, percent=33.3)},
     {"training": "Running"}, "Training 33%", "Trained", ("Unknown", "JobRunning"), "training"),
    ("training failed", {"curation": CURATED}, {"training": "Failed"}, "Training failed", "Trained",
     ("False", "OutOfMemory"), None),
    ("result outlives a failed job", {"curation": CURATED, "training": TRAINED}, {"training": "Failed"}, "Evaluating",
     "Trained", ("True", "AdapterStored"), "evaluation"),
    ("evaluates", {"curation": CURATED, "training": TRAINED}, {}, "Evaluating", "Evaluated",
     ("Unknown", "JobRunning"), "evaluation"),
    ("evaluation failed", {"curation": CURATED, "training": TRAINED}, {"evaluation": "Failed"}, "Evaluating failed",
     "Evaluated", ("False", "OutOfMemory"), None),
    ("refused", {"curation": CURATED, "training": TRAINED, "evaluation": REFUSED}, {}, "Refused", "Evaluated",
     ("False", "GateRefused"), None),
    ("passed", {"curation": CURATED, "training": TRAINED, "evaluation": PASSED}, {}, "Placing", "Evaluated",
     ("True", "GatePassed"), None),
]  # fmt: skip


@pytest.mark.parametrize("results, states, stage, type_, condition, made", [r[1:] for r in MAKING],
                         ids=[r[0] for r in MAKING])
def test_each_step_follows_from_what_the_last_one_left(
    results: dict[str, Any], states: dict[str, str], stage: str, type_: str, condition: tuple[str, str],
    made: str | None,
) -> None:
    me = pinned()
    jobs = {job_of(me, step): FAILED if state == "Failed" else JobFact(state)  # type: ignore[arg-type]
            for step, state in states.items()}
    plan = planned(me, jobs=jobs, **results)
    assert plan.status["stage"] == stage
    assert conditions(plan)[type_] == condition
    assert applied(plan) == ([("Job", job_of(me, made))] if made else [])
    stalled = condition[0] == "False"
    assert ("Stalled" in conditions(plan)) == stalled
    assert ("Reconciling" in conditions(plan)) != stalled
    again = plan_specialist(CONFIG, me, facts(jobs=jobs, **results))
    assert again == plan, "the same facts make the same plan"


def test_the_pinned_inputs_do_not_follow_a_newer_discovery() -> None:
    me, newer = pinned(), cluster(status={"version": "sha256:" + "c2" * 32, "run": 2, "inputTokensP95": 40})
    old, new = planned(me), planned(me, cluster=newer)
    assert applied(old) == applied(new)
    assert after(me, new).status.training.discovery_run == 1


def test_a_dataset_that_came_out_too_small_waits_for_a_newer_discovery() -> None:
    me = pinned()
    jobs = {job_of(me, "dataset"): JobFact("Failed", JobFailure(reason="TooFewExamples", message="12 of 500"))}
    assert conditions(planned(me, jobs=jobs))["DatasetReady"] == ("False", "TooFewExamples")
    newer = cluster(status={"version": "sha256:" + "c2" * 32, "run": 2, "inputTokensP95": 40})
    again = after(me, planned(me, jobs=jobs, cluster=newer))
    assert again.status.training.discovery_run == 2
    assert job_of(again, "dataset") != job_of(me, "dataset")


def test_a_field_at_its_default_is_no_change_of_the_spec() -> None:
    """So an operator whose spec knows a field more trains nothing again."""
    before = pinned()
    same = specialist(training={"rank": 16, "seed": 0}, gate={"floor": 0.9}, dataset={"heldoutPercent": 20})
    assert names(replace(before, spec=same.spec)) == names(before)
    assert applied(planned(replace(before, spec=same.spec))) == applied(planned(before))


CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    # change of the spec, what is made anew
    ({"serving": {"maxTokens": 7}}, set()),
    ({"rollout": {"steps": [100]}}, set()),
    ({"gate": {"floor": 0.5}}, {"evaluation"}),
    ({"training": {"steps": 7}}, {"training", "evaluation"}),
    ({"base": {"name": "tiny"}}, {"training", "evaluation"}),
    ({"dataset": {"minimumExamples": 11}}, {"dataset", "training", "evaluation"}),
]


@pytest.mark.parametrize("change, anew", CHANGES)
def test_a_change_of_the_spec_makes_anew_only_what_depends_on_it(change: dict[str, Any], anew: set[str]) -> None:
    before = pinned()
    changed = replace(before, spec=specialist(**change).spec)
    plan = planned(changed)
    now = after(changed, plan) if plan.apply == () else changed
    assert {s for s in ("dataset", "training", "evaluation") if job_of(before, s) != job_of(now, s)} == anew


def test_a_refusal_is_kept_with_its_figures_and_is_not_repeated() -> None:
    me = pinned()
    results = {"curation": CURATED, "training": TRAINED, "evaluation": REFUSED}
    refused = after(me, planned(me, **results))
    (entry,) = refused.status.history
    assert (entry.outcome, entry.reason) == ("Refused", "0.500 is below the floor 0.9")
    again = planned(refused, **results)
    assert len(again.status["history"]) == 1
    assert conditions(again)["Evaluated"] == ("False", "GateRefused")
    assert "lower gate" in message(again, "Evaluated")
    assert again.apply == ()


def test_a_passed_revision_carries_its_lineage() -> None:
    found = candidate().status.candidate
    assert found is not None
    assert found.name == ARTIFACT[7:19]
    assert (found.artifact, found.dataset, found.ray_job) == (ARTIFACT, CURATED.dataset_digest, "raysubmit_1")
    assert found.cluster_version == cluster().status.version
    assert found.evaluation is not None and found.evaluation.verdict == "passed"


def walk(me: SpecialistObject, *looks: Any, results: dict[str, Any] | None = None) -> list[tuple[str | None, int]]:
    """Stage and weight after each look at these signals."""
    told = []
    for signals in looks:
        plan = planned(me, signals=signals, **(results or on_pool(me)))
        me = after(me, plan)
        told.append((me.status.stage, me.status.weight_percent))
    return told


def test_a_candidate_goes_from_shadow_by_steps_to_all_of_the_traffic() -> None:
    looks = [(), (gateway(agreed=200),), *((gateway(agreed=200, conversations=200 * n),) for n in (1, 2, 3))]
    assert walk(candidate(), *looks) == [
        ("Shadow", 0), ("Canary 10%", 10), ("Canary 50%", 50), ("Canary 100%", 100), ("Promoted", 100)]  # fmt: skip


def test_a_candidate_waits_while_its_adapter_answers_nowhere() -> None:
    me = candidate()
    cold = {**on_pool(me), "bases": {"tiny": base()}}
    assert walk(me, (), results=cold) == [("Placing", 0)]
    trouble = base(status={"conditions": [{"type": "PoolAvailable", "status": "False", "reason": "PodFailing",
                                           "message": "pod x: ErrImagePull"}]})  # fmt: skip
    plan = planned(me, **{**on_pool(me), "bases": {"tiny": trouble}})
    assert "pod x: ErrImagePull" in message(plan, "Placed")


def promoted(**spec: Any) -> SpecialistObject:
    stable = revision(key=None, evaluation=PASSED.model_dump(include={"metric", "estimate", "n", "verdict"}) | {
        "lower": 0.93, "upper": 0.98})  # fmt: skip
    me = pinned(**spec)
    made = names(me)
    assert made is not None
    return replace(me, status=me.status.model_validate({
        **me.status.model_dump(by_alias=True), "stable": {**stable, "key": made.attempt}, "weightPercent": 100}))


def test_a_bad_candidate_is_rolled_back_and_stable_goes_on() -> None:
    """The second revision of a Specialist whose first one serves."""
    me = promoted()
    me = replace(me, spec=specialist(training={"steps": 7}).spec)
    worse = TRAINED.model_copy(update={"artifact_digest": OTHER})
    name = adapter_name("intents", OTHER[7:19])
    results = {"curation": CURATED, "training": worse, "evaluation": PASSED,
               "bases": {"tiny": base(status=serving(name))}}
    me = after(me, planned(me, **results))
    me = after(me, planned(me, **results))
    assert me.status.candidate is not None and me.status.candidate.artifact == OTHER
    bad = gateway(revision=OTHER[7:19], agreed=20, disagreed=80)
    told = walk(me, (), (bad,), (bad,), results=results)
    assert told == [("Shadow", 100), ("RolledBack", 100), ("RolledBack", 100)]
    me = after(me, planned(me, **results))
    ended = planned(after(me, planned(me, signals=(bad,), **results)), signals=(bad,), **results)
    assert conditions(ended)["RolledOut"] == ("False", "RolledBack")
    assert f"stable revision {ARTIFACT[7:19]} answers" in message(ended, "RolledOut")
    assert ended.status["stable"]["artifact"] == ARTIFACT
    assert "candidate" not in ended.status
    assert ended.apply == ()


@pytest.mark.parametrize("given_, moves", [(None, False), (OTHER, False), (ARTIFACT, True)])
def test_manual_approval_waits_for_the_digest_of_this_very_artifact(given_: str | None, moves: bool) -> None:
    me = candidate(rollout={"approval": "Manual", **({"promote": given_} if given_ else {})})
    told = walk(me, (), (gateway(agreed=200),))
    assert told[-1] == (("Canary 10%", 10) if moves else ("Approval", 0))


def test_an_artifact_of_another_cluster_needs_no_training() -> None:
    me = specialist(artifact=f"file:///artifacts/one@{ARTIFACT}", base={"name": "tiny"}, rollout={"approval": "Manual"})
    plan = planned(me, cluster=cluster(status={}))
    assert plan.apply == ()
    me = after(me, plan)
    assert me.status.candidate is not None
    assert (me.status.candidate.path, me.status.candidate.name) == ("artifacts/one", ARTIFACT[7:19])
    assert conditions(plan)["Trained"] == ("True", "ArtifactGiven")
    resident = {"bases": {"tiny": base(status=serving(adapter_name("intents", ARTIFACT[7:19])))}}
    assert walk(me, (), (gateway(agreed=200),), results=resident) == [("Shadow", 0), ("Canary 10%", 10)]


def test_a_pool_at_zero_does_not_make_a_promoted_specialist_unready() -> None:
    plan = planned(promoted(), curation=CURATED, training=TRAINED, evaluation=PASSED)
    assert conditions(plan)["Placed"] == ("True", "OnDemand")
    assert conditions(plan)["Ready"][0] == "True"
    assert plan.status["score"] == "0.960 [0.930, 0.980]"


def test_suspending_keeps_what_serves() -> None:
    before = promoted()
    plan = planned(replace(before, spec=specialist(suspend=True).spec))
    assert plan.status["stable"]["artifact"] == ARTIFACT
    assert plan.status["weightPercent"] == 100
    assert conditions(plan)["Ready"] == ("True", "AllReady")
    assert conditions(plan)["Suspended"] == ("True", "SpecSuspend")


SUSPENDED: list[tuple[str, SpecialistObject, str, str]] = [
    ("new", specialist(), "False", "the LLM answers"),
    ("in the making", pinned(), "False", "the LLM answers"),
    ("candidate", candidate(), "False", "candidate adadadadadad stays where it is (Placing at 0 %)"),
    ("promoted", promoted(), "True", "revision adadadadadad serves on"),
]


@pytest.mark.parametrize("me, ready, told", [row[1:] for row in SUSPENDED], ids=[row[0] for row in SUSPENDED])
def test_what_is_suspended_is_neither_under_way_nor_failed(me: SpecialistObject, ready: str, told: str) -> None:
    """As kstatus reads it; and it starts nothing, forgets nothing, and asks for no look at short intervals."""
    suspended = replace(me, spec=me.spec.model_copy(update={"suspend": True}))
    plan = planned(suspended)
    found = conditions(plan)
    assert found["Suspended"] == ("True", "SpecSuspend") and told in message(plan, "Suspended")
    assert found["Ready"][0] == ready and (ready == "True" or found["Ready"][1] == "Suspended")
    assert not {"Reconciling", "Stalled"} & set(found)
    assert (plan.apply, plan.delete, plan.resync_seconds) == ((), (), None)
    kept = after(suspended, plan).status
    assert (kept.training, kept.candidate, kept.stable) == (me.status.training, me.status.candidate, me.status.stable)
    assert "Suspended" not in conditions(planned(after(me, plan))), "it goes on where it was"


def test_a_stricter_gate_does_not_leave_a_candidate_on_traffic_that_nobody_watches() -> None:
    """The gate is asked again while the canary runs; until it answers, failures still roll it back."""
    me = candidate()
    for signals in ((), (gateway(agreed=200),)):
        me = after(me, planned(me, signals=signals, **on_pool(me)))
    assert me.status.stage == "Canary 10%"
    me = replace(me, spec=specialist(gate={"floor": 0.99}).spec)
    for evaluation in (None, REFUSED):
        me = after(me, planned(me, signals=(gateway(agreed=200, conversations=100, failed=80),),
                               **{**on_pool(me), "evaluation": evaluation}))
    assert me.status.candidate is None
    assert me.status.weight_percent == 0


def test_the_ray_job_is_used_where_kuberay_is_installed() -> None:
    me = pinned()
    plan = planned(me, curation=CURATED, ray_jobs_served=True)
    assert applied(plan) == [("RayJob", job_of(me, "training"))]


@pytest.mark.parametrize("ray_jobs_served", [True, False])
def test_a_queued_training_leaves_suspend_to_kueue(ray_jobs_served: bool) -> None:
    """Applied by force, `suspend: false` would start what Kueue holds back."""
    plain, queued = pinned(), pinned(training={"queue": "teams-gpu"})
    (before,) = planned(plain, curation=CURATED, ray_jobs_served=ray_jobs_served).apply
    (made,) = planned(queued, curation=CURATED, ray_jobs_served=ray_jobs_served).apply
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "teams-gpu"
    assert "suspend" not in made["spec"]
    assert made["metadata"]["name"] == before["metadata"]["name"], "another queue is not another revision"
    if ray_jobs_served:
        assert before["spec"]["suspend"] is False
        assert made["spec"]["shutdownAfterJobFinishes"] is True


def test_every_object_belongs_to_its_specialist() -> None:
    me = pinned()
    for results in ({}, {"curation": CURATED}, {"curation": CURATED, "training": TRAINED}):
        for made in planned(me, **results).apply:
            (owner,) = made["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == ("Specialist", me.meta.uid)


def test_the_history_is_bounded() -> None:
    old = [{"revision": f"r{i}", "key": f"k{i}", "outcome": "Refused"} for i in range(20)]
    me = pinned()
    me = replace(me, status=me.status.model_validate({**me.status.model_dump(by_alias=True), "history": old}))
    plan = planned(me, curation=CURATED, training=TRAINED, evaluation=REFUSED)
    assert len(plan.status["history"]) == 20
    assert plan.status["history"][0]["outcome"] == "Refused"
    assert plan.status["history"][1]["revision"] == "r0"


def test_the_clock_is_not_part_of_any_name() -> None:
    me = pinned()
    observed: SpecialistFacts = facts()
    assert applied(plan_specialist(CONFIG, me, observed)) == applied(
        plan_specialist(CONFIG, me, replace(observed, now=later(9999), router=router())))


def test_a_training_that_the_spec_no_longer_asks_for_ends_and_its_dataset_stays() -> None:
    me = pinned()
    me = after(me, planned(me, curation=CURATED))
    old = names(me)
    assert old is not None
    changed = replace(me, spec=specialist(training={"steps": 7}).spec)
    plan = planned(changed, curation=CURATED)
    assert plan.delete == (("Job", old.evaluation_job), ("Job", old.training_job))
    rays = planned(changed, curation=CURATED, ray_jobs_served=True)
    assert rays.delete == (("Job", old.evaluation_job), ("RayJob", old.training_job))
    assert planned(me, curation=CURATED).delete == ()


def test_a_change_of_what_is_trained_on_ends_the_curation_under_way() -> None:
    me = pinned()
    old = names(me)
    assert old is not None
    me = after(me, planned(me))
    plan = planned(replace(me, spec=specialist(dataset={"minimumExamples": 11}).spec))
    assert ("Job", old.dataset_job) in plan.delete


def test_no_reason_is_longer_than_a_status_takes() -> None:
    """The API server would refuse the whole status, at every look."""
    me = pinned()
    refused = REFUSED.model_copy(update={"reasons": ["a reason " * 600]})
    plan = planned(me, curation=CURATED, training=TRAINED, evaluation=refused)
    assert len(plan.status["history"][0]["reason"]) == 4096


def test_what_was_trained_on_another_base_than_the_stated_one_goes_no_further() -> None:
    me = pinned()
    other = {"tiny": base(source={"storePath": "bases/tiny", "digest": "sha256:" + "bb" * 32})}
    plan = planned(me, bases=other, curation=CURATED, training=TRAINED, evaluation=PASSED)
    assert conditions(plan)["Trained"] == ("False", "OtherBase")
    assert (plan.apply, plan.status.get("candidate")) == ((), None)
    same = {"tiny": base(source={"storePath": "bases/tiny", "digest": TRAINED.base_digest})}
    assert planned(me, bases=same, curation=CURATED, training=TRAINED, evaluation=PASSED).status["candidate"]


def test_a_base_of_the_hub_is_trained_at_its_revision() -> None:
    me = pinned()
    hub = {"tiny": base(source={"huggingFace": "Qwen/Qwen3-0.6B", "revision": "c1899de289a0"})}
    (job,) = planned(me, bases=hub, curation=CURATED).apply
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--base") + 1] == "Qwen/Qwen3-0.6B@c1899de289a0"
