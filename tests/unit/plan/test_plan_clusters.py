"""One TaskCluster: made of what was found, ranked against the bases."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from plan_builders import CURATED, base, cluster, conditions, message, revision, router, specialist

from slmfleet.plan.clusters import cluster_object, labels_of, ours, plan_cluster
from slmfleet.plan.facts import Plan
from slmfleet.wire.discovery import Drift, Example, FoundCluster, Signature, Suitability
from slmfleet.wire.routes import OutputFormat


def found(**changes: Any) -> FoundCluster:
    known: dict[str, Any] = {
        "name": "intents", "version": "sha256:v", "description": "d", "size": 10, "share": 0.123456,
        "signature": Signature(), "output_format": OutputFormat(), "input_tokens_p95": 400}
    return FoundCluster(**(known | changes))


def planned(what: FoundCluster | None = None, *, status: dict[str, Any] | None = None, run: int = 3, gone: bool = False,
            bases: Any = None, specialists: Any = None, by_hand: bool = False, **more: Any) -> Plan:
    me = cluster(status=status or {}, by_hand=by_hand, signature=more.pop("signature", {}))
    return plan_cluster(me, None if gone else router(), what, run, {"tiny": base()} if bases is None else bases,
                        specialists or {}, **more)


def enum(values: list[str], *more: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"intent": {"enum": values}, **{name: {} for name in more}}}


FORMATS: list[tuple[dict[str, Any], str, list[str] | None]] = [
    ({"type": "label", "labels": ["a", "b"]}, "label", ["a", "b"]),
    ({"type": "json", "json_schema": enum(["a", "b"])}, "label", ["a", "b"]),
    ({"type": "json", "json_schema": enum(["a", "b"], "slots")}, "fields", None),
    ({"type": "json"}, "fields", None),
    ({"type": "text"}, "auto", None),
]


@pytest.mark.parametrize("wanted, metric, labels", FORMATS)
def test_the_metric_follows_the_answers_form(wanted: dict[str, Any], metric: str, labels: list[str] | None) -> None:
    form = OutputFormat(**wanted)
    assert labels_of(form) == labels
    made = cluster_object(router(), found(output_format=form))
    assert made["spec"]["metric"] == metric
    assert made["spec"]["outputFormat"]["type"] == wanted["type"]
    if form.json_schema:
        assert json.loads(made["spec"]["outputFormat"]["jsonSchema"]) == form.json_schema


def test_what_is_too_long_for_the_api_is_cut() -> None:
    signature = Signature(fingerprints=["f"] * 99, tools=["t"] * 200, system_prompt="s" * 9999,
                          response_format="r" * 999)
    spec = cluster_object(router(), found(description="d" * 9999, signature=signature))["spec"]
    assert len(spec["description"]) == 4096
    assert {key: len(value) for key, value in spec["signature"].items()} == {
        "fingerprints": 64, "tools": 128, "systemPrompt": 2048, "responseFormat": 253}  # fmt: skip


def test_what_was_measured_is_in_status() -> None:
    examples = [Example(prompt="x" * 3000 + "end", response="a")] * 5
    plan = planned(found(examples=examples, output_format=OutputFormat(type="label", labels=["a", "b"])))
    status = plan.status
    assert (status["sharePercent"], status["calls"], status["labels"], status["run"]) == (12.35, 10, 2, 3)
    assert len(status["examples"]) == 3
    assert status["examples"][0]["prompt"].endswith("end")
    assert conditions(plan)["Found"] == ("True", "Discovered")


def test_a_run_that_did_not_see_the_task_takes_nothing_away() -> None:
    before = {"version": "sha256:old", "run": 2, "calls": 7, "inputTokensP95": 40}
    plan = planned(None, status=before)
    assert {key: plan.status[key] for key in before} == before


def test_a_cluster_by_hand_is_declared() -> None:
    assert conditions(planned(by_hand=True))["Found"] == ("True", "Declared")
    counted = planned(found(), by_hand=True)
    assert conditions(counted)["Found"] == ("True", "Declared")
    assert "run 3 counted" in message(counted, "Found")


RECOGNISED: list[tuple[str, bool, dict[str, Any], tuple[str, str] | None, str]] = [
    ("by its prompt", True, {"systemPrompt": "Sort.", "tools": ["t"]}, ("True", "BySignature"), "systemPrompt, tools"),
    ("by frames alone", True, {"fingerprints": ["f"], "tools": ["t"]}, ("True", "BySignature"), "fingerprints"),
    ("by nothing", True, {}, ("False", "NoSignature"), "spec.signature"),
    ("by discovery", False, {}, None, ""),
]


@pytest.mark.parametrize("by_hand, signature, condition, said", [r[1:] for r in RECOGNISED],
                         ids=[r[0] for r in RECOGNISED])  # fmt: skip
def test_how_its_calls_are_recognised_is_a_condition(
    by_hand: bool, signature: dict[str, Any], condition: tuple[str, str] | None, said: str
) -> None:
    plan = planned(by_hand=by_hand, signature=signature)
    assert conditions(plan).get("Recognised") == condition
    assert conditions(plan)["Ready"][0] == "True"
    if condition is not None:
        assert message(plan, "Recognised").startswith(said)


def test_of_a_declared_one_the_newest_dataset_says_how_many_calls_there_are() -> None:
    curated = CURATED.model_copy(update={"answered": {"llm": 90, "specialist": 10}})
    signature = {"tools": ["book"]}
    plan = planned(by_hand=True, signature=signature, curated=curated)
    assert (plan.status["calls"], plan.status["teachable"]) == (100, 90)
    counted = planned(found(size=7, teachable=5), by_hand=True, signature=signature, curated=curated)
    assert (counted.status["calls"], counted.status["teachable"]) == (7, 5), "discovery counted later, and all of them"
    assert "calls" not in planned(curated=curated).status


def test_without_its_router_it_is_stalled() -> None:
    plan = planned(gone=True)
    assert conditions(plan)["Found"] == ("False", "RouterNotFound")
    assert "Stalled" in conditions(plan)
    assert "agents" in message(plan, "Found")


BASES: list[tuple[Any, tuple[str, str]]] = [
    ({"tiny": base()}, ("True", "BasesFit")),
    ({"gpl": base("gpl", licence="GPL-3.0")}, ("False", "NoBaseFits")),
    ({"short": base("short", contextTokens=449)}, ("False", "NoBaseFits")),
    ({}, ("False", "NoBaseFits")),
]


@pytest.mark.parametrize("bases, condition", BASES)
def test_the_bases_are_ranked_with_reasons(bases: Any, condition: tuple[str, str]) -> None:
    """400 tokens of prompt need 450 of context: an eighth is left for the answer."""
    plan = planned(found(), bases=bases)
    assert conditions(plan)["BaseSelectable"] == condition
    assert [c["name"] for c in plan.status["candidates"]] == sorted(bases)
    assert all(c["reason"] for c in plan.status["candidates"])


def test_the_limits_of_its_specialist_hold_for_the_ranking() -> None:
    wish = specialist("mine", base={"limits": {"licences": ["GPL-3.0"]}})
    plan = planned(bases={"gpl": base("gpl", licence="GPL-3.0")}, specialists={"mine": wish})
    assert plan.status["candidates"][0]["suitable"] is True
    assert plan.status["specialist"] == "mine"


FOUND = cluster()
OWNERS: list[tuple[str, Any, bool]] = [
    ("new", None, True),
    ("found before", FOUND, True),
    ("declared by a person", cluster(by_hand=True), False),
    ("of another router", replace(FOUND, spec=cluster(router="another").spec), False),
]


@pytest.mark.parametrize("existing, mine", [row[1:] for row in OWNERS], ids=[row[0] for row in OWNERS])
def test_discovery_changes_only_what_it_made(existing: Any, mine: bool) -> None:
    assert ours(existing, "agents") == mine


def moved(distance: float, unlike: float = 0.12, before: float | None = 0.1) -> Drift:
    return Drift(share_before=0.2, share_now=0.31, distance=distance, noise_share=unlike, noise_before=before)


DRIFTS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str] | None]] = [
    ("no run before", {}, {}, None),
    ("the same", {"drift": moved(0.099)}, {}, ("False", "Steady")),
    ("moved", {"drift": moved(0.1)}, {}, ("True", "InputsMoved")),
    ("moved, but its Specialist tolerates more", {"drift": moved(0.2)}, {"driftPercent": 21}, ("False", "Steady")),
    ("a part of it is new", {"drift": moved(0.01, 0.21)}, {}, ("True", "InputsMoved")),
    ("as many rare words as ever", {"drift": moved(0.01, 0.45, 0.4)}, {}, ("False", "Steady")),
    ("steps too small to count, together large", {"drift": moved(0.04), "drift_trained": moved(0.11)}, {},
     ("True", "InputsMoved")),
    ("little since its training, too", {"drift": moved(0.04), "drift_trained": moved(0.08)}, {}, ("False", "Steady")),
    ("a run before that did not count them", {"drift": moved(0.01, 0.45, None)}, {}, ("False", "Steady")),
]


@pytest.mark.parametrize("seen, retrain, condition", [row[1:] for row in DRIFTS], ids=[row[0] for row in DRIFTS])
def test_drift_is_a_condition_with_its_numbers(
    seen: dict[str, Any], retrain: dict[str, Any], condition: tuple[str, str] | None
) -> None:
    plan = planned(found(**seen), specialists={"mine": specialist("mine", retrain=retrain)})
    assert conditions(plan).get("Drifting") == condition
    assert conditions(plan)["Ready"][0] == "True"
    if condition is not None:
        assert "share 20 % before, 31 % now" in message(plan, "Drifting")


def test_a_task_that_the_newest_run_did_not_find_drifts() -> None:
    plan = planned(None, status={"version": "sha256:old", "run": 2}, run=3)
    assert conditions(plan)["Drifting"] == ("True", "NotSeen")
    assert "Drifting" not in conditions(planned(None)), "one declared by hand was never seen"


VERDICTS = [("Specialise", "True"), ("Wait", "Unknown"), ("Keep", "False")]


@pytest.mark.parametrize("verdict, status", VERDICTS)
def test_whether_a_specialist_is_worth_it_is_a_condition_with_its_reason(verdict: Any, status: str) -> None:
    judged = Suitability(verdict=verdict, reason="short answers that agree", narrowness=0.9, format_share=1,
                         saving_tokens_percent=20)  # fmt: skip
    plan = planned(found(suitability=judged))
    assert conditions(plan)["Suitable"] == (status, verdict)
    assert message(plan, "Suitable") == "short answers that agree"
    kept = planned(None, status={**plan.status, "run": 3})
    assert conditions(kept)["Suitable"] == (status, verdict), "it stays until a run judges it again"
    assert conditions(plan)["Ready"][0] == "True"


@pytest.mark.parametrize("keys, values, kept", [(2, 400, True), (3, 400, False), (9_000, 1, None)])
def test_a_schema_too_long_for_the_api_loses_its_lists_of_values_and_not_the_router(
    keys: int, values: int, kept: bool | None
) -> None:
    """A Router that cannot write down a task serves none of the others either."""
    fields = {f"field-{k}": {"type": "string", "enum": [f"{k} {v} " + "x" * 50 for v in range(values)]}
              for k in range(keys)}  # fmt: skip
    form = OutputFormat(type="json", json_schema={"type": "object", "properties": {**fields, "enum": {"type": "null"}}})
    schema = cluster_object(router(), found(output_format=form))["spec"]["outputFormat"].get("jsonSchema")
    if kept is None:
        assert schema is None
        return
    made = json.loads(schema)["properties"]
    assert [*made] == sorted([*fields, "enum"]) and ("enum" in made["field-1"]) == kept


def test_the_dataset_of_its_newest_revision_is_in_status() -> None:
    serving = specialist(status={"stable": revision(dataset="sha256:" + "d1" * 32)})
    assert planned(found(), specialists={"intents": serving}).status["dataset"] == "sha256:" + "d1" * 32
    assert "dataset" not in planned(found(), specialists={"intents": specialist()}).status
