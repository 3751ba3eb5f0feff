"""A Specialist of a declared task: from a manifest to a training, without a discovery."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plan_builders import (
    ARTIFACT,
    CONFIG,
    CURATED,
    NOW,
    PASSED,
    TRAINED,
    after,
    cluster,
    conditions,
    facts,
    later,
    message,
    router,
    router_facts,
    specialist,
)

from slmfleet.plan import declared
from slmfleet.plan.attempt import names
from slmfleet.plan.facts import ClusterObject, JobFact, Plan, SpecialistObject
from slmfleet.plan.retrain import measure
from slmfleet.plan.router import plan_router
from slmfleet.plan.specialist import plan_specialist
from slmfleet.plan.table import route_table
from slmfleet.wire.declared import parse_tasks
from slmfleet.wire.jobs import JobFailure
from slmfleet.wire.signals import ArmSignals, GatewaySignals, SpecialistSignals

SIGNATURE = {"systemPrompt": "Sort the tickets of {customer}."}
LABELS = {"type": "label", "labels": ["a", "b"]}
LOG = router(status={"captured": 900})
SHORT = JobFact("Failed", JobFailure(reason="TooFewExamples", message="480 of 500",
                                     details={"found": 480, "wanted": 500}))  # fmt: skip


def task(name: str = "intents", *, status: dict[str, Any] | None = None, **spec: Any) -> ClusterObject:
    wanted = {"signature": SIGNATURE, "outputFormat": LABELS, **spec}
    return cluster(name, status=status or {}, by_hand=True, **wanted)


def planned(me: SpecialistObject, mine: ClusterObject | None = None, **observed: Any) -> Plan:
    mine = mine or task()
    known = {"cluster": mine, "router": LOG, "clusters": {mine.meta.name: mine}, **observed}
    return plan_specialist(CONFIG, me, facts(**known))


def pinned(mine: ClusterObject | None = None, **spec: Any) -> SpecialistObject:
    me = specialist(**spec)
    return after(me, planned(me, mine))


WAITS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str], str, bool]] = [
    ("nothing to recognise its calls by", {"signature": {}}, {}, ("False", "NoSignature"), "spec.signature", True),
    ("a prompt of variables alone", {"signature": {"systemPrompt": "{x}"}}, {}, ("False", "NoSignature"), "", True),
    ("a short log", {}, {"router": router(status={"captured": 499})}, ("Unknown", "WaitingForCalls"), "499", False),
    ("a log that does not grow", {}, {"router": router(capture={"enabled": False, "identitySecretRef": {
        "name": "o", "key": "k"}})}, ("Unknown", "WaitingForCalls"), "spec.capture.enabled is off", False),
    ("no key of the log", {}, {"router": router(status={"captured": 900}, capture={"recipients": ["age1x"]})},
     ("Unknown", "IdentityMissing"), "spec.capture.identitySecretRef", False),
    ("more than a job can be told", {"outputFormat": {"type": "label", "labels": ["x" * 250 + f"{n:03}"
                                                                               for n in range(1000)]}}, {},
     ("False", "DeclarationTooLarge"), "131,072", True),
]  # fmt: skip


@pytest.mark.parametrize("spec, observed, condition, words, stalled", [r[1:] for r in WAITS], ids=[r[0] for r in WAITS])
def test_what_keeps_a_dataset_from_being_made_is_said(
    spec: dict[str, Any], observed: dict[str, Any], condition: tuple[str, str], words: str, stalled: bool
) -> None:
    plan = planned(specialist(), task(**spec), **observed)
    assert conditions(plan)["DatasetReady"] == condition
    assert words in message(plan, "DatasetReady")
    assert ("Stalled" in conditions(plan)) is stalled
    assert plan.apply == () and plan.status["stage"] == "Waiting"


def test_its_dataset_is_made_of_the_manifest_and_the_log_up_to_now() -> None:
    """No discovery ran, and none is on: the job reads the log and the declaration, and nothing else of the store."""
    off = router(status={"captured": 900}, discovery={"enabled": False})
    me = after(specialist(), planned(specialist(), router=off))
    (job,) = planned(me, router=off).apply
    pod = job["spec"]["template"]
    args = pod["spec"]["containers"][0]["args"]
    assert args[args.index("--clusters") + 1] == "/redaction/rules/tasks.yaml"
    assert args[args.index("--cluster") + 1] == "intents"
    assert args[args.index("--until") + 1] == "2026-01-02T03:04:05+00:00"
    mounts = {m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "store"}
    assert mounts == {"/store/usage/agents", "/store/datasets"}
    assert "/redaction/rules" in {m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]}
    (told,) = parse_tasks(pod["metadata"]["annotations"][declared.ANNOTATION])
    assert told == declared.task_of(task())
    assert (me.status.training.until, me.status.training.log_calls) == (NOW, 900)


def test_the_job_is_told_whose_calls_others_are() -> None:
    other = task("book", signature={"tools": ["book_flight"]})
    elsewhere = task("far", router="other", signature={"tools": ["t"]})
    found = cluster("found", signature={"tools": ["t"]})
    known = {each.meta.name: each for each in (task(), other, elsewhere, found)}
    (job,) = planned(pinned(), clusters=known).apply
    told = parse_tasks(job["spec"]["template"]["metadata"]["annotations"][declared.ANNOTATION])
    assert [(e.name, e.signature.given) for e in told] == [("intents", ("systemPrompt",)), ("book", ("tools",))]
    assert told[1].output_format.type == "text"


def test_it_goes_the_way_of_every_other_task() -> None:
    me = pinned()
    train = planned(me, curation=CURATED)
    assert [o["metadata"]["name"].split("-")[0] for o in train.apply] == ["train"]
    plan = planned(me, curation=CURATED, training=TRAINED, evaluation=PASSED)
    made = plan.status["candidate"]
    assert made["clusterVersion"] == declared.task_of(task()).version  # type: ignore[union-attr]
    assert made["dataset"] == CURATED.dataset_digest
    assert plan.status["stage"] == "Placing"


def test_its_base_has_room_for_its_system_prompt() -> None:
    """2,000 characters are 500 tokens, and an eighth more for the answer is more than 512."""
    plan = planned(specialist(), task(signature={"systemPrompt": "sort " * 400}))
    assert conditions(plan)["BaseSelected"] == ("False", "NoBaseFits")
    assert "the task needs 562" in message(plan, "BaseSelected")


CHANGES: list[tuple[str, dict[str, Any], bool]] = [
    ("another prompt", {"signature": {"systemPrompt": "Rate the tickets."}}, True),
    ("one more label", {"outputFormat": {"type": "label", "labels": ["a", "b", "c"]}}, True),
    ("other words for people", {"description": "Which of two.", "title": "Tickets"}, False),
]


@pytest.mark.parametrize("spec, anew", [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_change_of_what_the_task_is_trains_anew(spec: dict[str, Any], anew: bool) -> None:
    me = pinned()
    again = after(me, planned(me, task(**spec), now=later(60)))
    assert (names(again) != names(me)) is anew


RETRIES: list[tuple[str, JobFact, int, float, bool]] = [
    # what, the job, calls captured by then, seconds later, tried again
    ("enough came", SHORT, 920, 3600, True),
    ("too few came", SHORT, 919, 3600, False),
    ("too soon", SHORT, 920, 3599, False),
    ("a Router made again counts from nothing", SHORT, 600, 3600, True),
    ("another failure", JobFact("Failed", JobFailure(reason="OutOfMemory", message="m")), 99_999, 99_999, False),
    ("no failure is known", JobFact("Failed"), 99_999, 99_999, False),
]


@pytest.mark.parametrize("fact, captured, seconds, again", [r[1:] for r in RETRIES], ids=[r[0] for r in RETRIES])
def test_a_dataset_too_small_is_made_again_once_the_log_can_fill_it(
    fact: JobFact, captured: int, seconds: float, again: bool
) -> None:
    me = pinned()
    job = names(me).dataset_job  # type: ignore[union-attr]
    plan = planned(me, jobs={job: fact}, router=router(status={"captured": captured}), now=later(seconds))
    assert (names(after(me, plan)) != names(me)) is again
    if again:
        assert ("Job", job) in plan.delete
        return
    assert conditions(plan)["DatasetReady"][0] == "False"


# --- again (S6) --------------------------------------------------------------------------------------------------

def serving(**retrain: Any) -> SpecialistObject:
    me = pinned(retrain={"minimumIntervalSeconds": 60, **retrain})
    made = after(me, planned(me, curation=CURATED, training=TRAINED, evaluation=PASSED))
    status = made.status.model_copy(update={"stable": made.status.candidate, "candidate": None})
    return replace(made, status=status)


SEEN = CURATED.model_copy(update={"answered": {"llm": 1000}})
DONE = {"curation": SEEN, "training": TRAINED, "evaluation": PASSED}


def test_its_schedule_needs_no_discovery() -> None:
    me = serving(schedule="0 4 * * *")
    due = after(me, planned(me, now=later(10), **DONE))
    plan = planned(due, now=later(90_000), **DONE)
    assert plan.status["training"]["trigger"].startswith("Schedule")
    assert names(after(due, plan)).dataset != names(due).dataset  # type: ignore[union-attr]
    assert plan.status["training"]["until"] == "2026-01-03T04:04:05Z"


@pytest.mark.parametrize("teachable, new", [(1000, 0), (1400, 400), (300, 0), (None, None)])
def test_new_examples_are_those_that_its_last_dataset_did_not_have(teachable: int | None, new: int | None) -> None:
    mine = task(status={"teachable": teachable, "run": 3, "version": "v"} if teachable is not None else {})
    me = serving(newExamples=100)
    assert me.spec.retrain is not None
    assert measure(me.spec.retrain, me, facts(cluster=mine, **DONE)).new_examples == new


OFF: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("discovery is off", {"discovery": {"enabled": False}}, ("driftPercent",),
     "only a discovery measures it: spec.discovery.enabled of Router agents is off"),
    ("nothing is logged", {"capture": {"enabled": False, "identitySecretRef": {"name": "o", "key": "k"}}},
     ("newExamples", "driftPercent"), "no call is logged: spec.capture.enabled of Router agents is off"),
    ("all is on", {}, (), ""),
]  # fmt: skip


@pytest.mark.parametrize("spec, fields, why", [row[1:] for row in OFF], ids=[row[0] for row in OFF])
def test_what_cannot_be_measured_is_said_to_be_inactive(
    spec: dict[str, Any], fields: tuple[str, ...], why: str
) -> None:
    plan = planned(serving(newExamples=100, driftPercent=10), router=router(status={"captured": 900}, **spec), **DONE)
    assert conditions(plan)["UpToDate"] == ("True", "NothingDue")
    inactive = [part for part in message(plan, "UpToDate").split("; ") if "inactive" in part]
    assert inactive == [f"retrain.{field} is inactive, {why}" for field in fields]


def said(instance: str, uptime: float, llm: int, invalid: int, spilled: int = 0) -> GatewaySignals:
    """What a gateway counted: calls of the LLM's arm, and what the specialist passed on."""
    arms = {"llm": ArmSignals(assigned=llm), ARTIFACT[7:19]: ArmSignals(invalid=invalid, spilled=spilled, served=9_999)}
    return GatewaySignals(instance=instance, uptime_seconds=uptime,
                          specialists={"intents": SpecialistSignals(arms=arms)})  # fmt: skip


def test_without_a_discovery_gateways_count_what_the_llm_answered() -> None:
    """At the end of each window, as far as it is logged: 80 % of 60 + 40 calls, then 80 % of 50 more."""
    off = router(status={"captured": 900}, discovery={"enabled": False},
                 capture={"samplePercent": 80, "identitySecretRef": {"name": "o", "key": "k"}})  # fmt: skip
    me = serving(newExamples=110, windowSeconds=600)

    def look(me: SpecialistObject, seconds: float, *signals: GatewaySignals) -> Plan:
        return planned(me, router=off, now=later(seconds), signals=signals, **DONE)

    for seconds, signals, new in (
        (100, [said("a", 99, 1000, 7)], 0),
        (400, [said("a", 399, 1030, 20)], 0),
        (700, [said("a", 699, 1060, 27, 20)], 80),
        (1300, [said("a", 1299, 1060, 27, 20), said("b", 100, 40, 10)], 120),
    ):
        plan = look(me, seconds, *signals)
        if new < 110:
            assert plan.status["retrain"]["newExamples"] == new
            assert "retrain.newExamples" not in message(plan, "UpToDate")
        me = after(me, plan)
    assert plan.status["training"]["trigger"] == "NewExamples: 120 new examples, from 110"
    assert plan.status["retrain"]["newExamples"] == 0


# --- discovery ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("labels, enabled, left", [(1000, True, "large"), (1000, False, ""), (10, True, "")])
def test_a_task_that_discovery_cannot_be_told_of_is_named(labels: int, enabled: bool, left: str) -> None:
    wide = task("large", outputFormat={"type": "label", "labels": [f"{n:0200}" for n in range(labels)]})
    facts = router_facts(clusters={"intents": task(), "large": wide})
    plan = plan_router(CONFIG, router(discovery={"enabled": enabled}), facts)
    assert conditions(plan).get("DeclaredTasksTold") == (("False", "TooLarge") if left else None)
    if left:
        assert f"TaskClusters {left}," in message(plan, "DeclaredTasksTold")


# --- the gateway -------------------------------------------------------------------------------------------------

def test_gateways_are_told_of_every_declared_task_served_or_not() -> None:
    framed = task("framed", signature={"fingerprints": ["sha256:" + "0" * 64]})
    clusters = {"intents": task(), "framed": framed, "silent": task("silent", signature={}),
                "found": cluster("found", signature={"fingerprints": ["f"]})}  # fmt: skip
    me = serving()
    wishes = {"intents": me, "found": replace(me, meta=replace(me.meta, name="found"),
                                              spec=specialist("found", taskCluster="found").spec),
              "framed": replace(me, meta=replace(me.meta, name="framed"),
                                spec=specialist("framed", taskCluster="framed").spec)}  # fmt: skip
    table, _ = route_table(CONFIG, LOG, router_facts(clusters=clusters, specialists=wishes))
    assert [each.cluster for each in table.declared] == ["framed", "intents"]
    frames = {route.name: route.fingerprints for route in table.specialists}
    assert frames == {"intents": [], "found": ["f"], "framed": []}, "a declared frame is in one place, and not in two"
