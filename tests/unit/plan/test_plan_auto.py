"""`discovery.mode: Auto`: which Specialists are made by themselves, and which never are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plan_builders import CONFIG, applied, cluster, conditions, message, router, router_facts, specialist

from slmfleet.api.router import RouterStatus
from slmfleet.plan.facts import RouterObject
from slmfleet.plan.router import plan_router

ALLOWED = CONFIG.model_copy(update={"auto_specialists": True})
TEMPLATE = {"gate": {"floor": 0.8, "margin": 0.05}, "rollout": {"holdbackPercent": 5}}


def judged(verdict: str, name: str = "intents", **spec: Any) -> Any:
    found = {"verdict": verdict, "reason": "because", "narrownessPercent": 90, "formatPercent": 100,
             "savingTokensPercent": 30}
    return cluster(name, status={"version": "v", "run": 1, "suitability": found}, **spec)


def auto(**discovery: Any) -> RouterObject:
    return router(discovery={"mode": "Auto", "specialist": TEMPLATE, **discovery})


def made(me: RouterObject, *clusters: Any, specialists: tuple[Any, ...] = (), config: Any = ALLOWED) -> Any:
    facts = router_facts(clusters={c.meta.name: c for c in clusters}, specialists={s.meta.name: s for s in specialists})
    return plan_router(config, me, facts)


def specialists_of(plan: Any) -> list[str]:
    return [name for kind, name in applied(plan) if kind == "Specialist"]


def test_a_suitable_task_gets_a_specialist_as_the_template_says() -> None:
    plan = made(auto(), judged("Specialise"))
    (one,) = [o for o in plan.apply if o["kind"] == "Specialist"]
    assert one["spec"]["taskCluster"] == "intents"
    assert one["spec"]["gate"]["floor"] == 0.8
    assert one["spec"]["rollout"]["holdbackPercent"] == 5
    assert one["metadata"]["ownerReferences"][0]["kind"] == "Router"
    assert ("SpecialistMade", "intents: its task was found suitable") in plan.events


def test_tasks_that_should_wait_or_stay_get_none() -> None:
    assert specialists_of(made(auto(), judged("Wait"), judged("Keep", "chat"), cluster("unjudged"))) == []


def test_a_task_that_has_one_under_any_name_gets_no_second() -> None:
    assert specialists_of(made(auto(), judged("Specialise"), specialists=(specialist("mine"),))) == []


def test_tasks_of_another_router_are_left_alone() -> None:
    assert specialists_of(made(auto(), judged("Specialise", router="other"))) == []


def test_nothing_is_made_in_suggest_mode() -> None:
    plan = made(router(), judged("Specialise"))
    assert specialists_of(plan) == []
    assert "SpecialistsMade" not in conditions(plan)


def test_without_the_right_the_condition_says_what_to_do() -> None:
    plan = made(auto(), judged("Specialise"), config=CONFIG)
    assert specialists_of(plan) == []
    assert conditions(plan)["SpecialistsMade"] == ("False", "NotAllowed")
    assert "autoSpecialists=true" in message(plan, "SpecialistsMade")


def test_a_name_that_is_taken_is_said_and_not_overwritten() -> None:
    plan = made(auto(), judged("Specialise"), specialists=(specialist("intents", taskCluster="other"),))
    assert specialists_of(plan) == []
    assert conditions(plan)["SpecialistsMade"] == ("False", "NameTaken")
    assert "intents" in message(plan, "SpecialistsMade")


def test_one_that_is_not_there_yet_is_named_and_told_of_once() -> None:
    plan = made(auto(), judged("Specialise"))
    assert conditions(plan)["SpecialistsMade"] == ("Unknown", "Making")
    assert "intents" in message(plan, "SpecialistsMade")
    stated = {"conditions": [{"type": "SpecialistsMade", "status": "Unknown", "reason": "Making"}]}
    again = made(replace(auto(), status=RouterStatus.model_validate(stated)), judged("Specialise"))
    assert specialists_of(again) and not again.events
