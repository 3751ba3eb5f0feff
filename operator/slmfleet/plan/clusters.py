"""TaskClusters: made of what discovery found, ranked against the base models."""

from __future__ import annotations

from typing import Any

import orjson

from slmfleet.api import conditions
from slmfleet.api.base import Condition, OutputFormat
from slmfleet.api.specialist import BaseLimits
from slmfleet.api.taskcluster import Drift, Example, RankedBase, Suitability, TaskClusterStatus
from slmfleet.plan import declared, select
from slmfleet.plan.facts import BaseObject, ClusterObject, Plan, RouterObject, SpecialistObject
from slmfleet.plan.names import labels, owner_reference
from slmfleet.plan.pods import Object
from slmfleet.wire.discovery import Drift as FoundDrift
from slmfleet.wire.discovery import FoundCluster
from slmfleet.wire.jobs import CurationResult
from slmfleet.wire.routes import OutputFormat as FoundFormat

TOLERATED_DRIFT_PERCENT = 10.0
SCHEMA_CHARACTERS = 65_536


def ours(existing: ClusterObject | None, router: str) -> bool:
    """A TaskCluster of another Router, or one that a person declared, is left alone."""
    return existing is None or (existing.spec.router == router and existing.meta.managed)


def cluster_object(router: RouterObject, found: FoundCluster) -> Object:
    """The TaskCluster as discovery suggests it."""
    signature = found.signature
    recognised: Object = {"fingerprints": signature.fingerprints[:64], "tools": signature.tools[:128]}
    if signature.system_prompt:
        recognised["systemPrompt"] = signature.system_prompt[:2048]
    if signature.response_format:
        recognised["responseFormat"] = signature.response_format[:253]
    spec: Object = {
        "router": router.meta.name, "description": found.description[:4096],
        "signature": recognised,
        "outputFormat": _format(found.output_format).model_dump(by_alias=True, exclude_none=True),
        "metric": _metric(found.output_format),
    }
    if found.title:
        spec["title"] = found.title[:80]
    return {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "TaskCluster",
            "metadata": {"name": found.name, "labels": labels("discovery", "Router", router.meta.name),
                         "ownerReferences": owner_reference("Router", router.meta.name, router.meta.uid)},
            "spec": spec}


def _format(found: FoundFormat) -> OutputFormat:
    schema = _schema(found.json_schema) if found.json_schema else None
    return OutputFormat(type=found.type, json_schema=schema, labels=found.labels[:1024] if found.labels else None)


def _schema(found: dict[str, Any]) -> str | None:
    """As text that a TaskCluster takes: where it is too long without its lists of values, and if need be none."""
    for schema in (found, _without_values(found)):
        text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()
        if len(text) <= SCHEMA_CHARACTERS:
            return text
    return None


def _without_values(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_values(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "enum" or not isinstance(value, list)}
    return {key: _without_values(value) for key, value in kept.items()}


def _metric(found: FoundFormat) -> str:
    if found.type == "label" or labels_of(found) is not None:
        return "label"
    return {"json": "fields", "tool": "tool_call"}.get(found.type, "auto")


def labels_of(found: FoundFormat) -> list[str] | None:
    """The closed set of answers: bare labels, or the values of the only field of an object."""
    if found.labels:
        return found.labels
    properties = (found.json_schema or {}).get("properties", {})
    if len(properties) != 1:
        return None
    only = next(iter(properties.values()))
    return only.get("enum") if isinstance(only, dict) else None


def plan_cluster(me: ClusterObject, router: RouterObject | None, found: FoundCluster | None, run: int,
                 bases: dict[str, BaseObject], specialists: dict[str, SpecialistObject],
                 curated: CurationResult | None = None) -> Plan:
    """Status of one TaskCluster: what was measured, and which bases could learn it. `curated`: its Specialist's newest
    dataset, which is what is known of a declared one that no discovery has counted."""
    mine = next((s for _, s in sorted(specialists.items()) if s.spec.task_cluster == me.meta.name), None)
    status = me.status
    if found is not None:
        labels_found = labels_of(found.output_format)
        status = status.model_copy(update={
            "version": found.version, "run": run, "share_percent": round(100 * found.share, 2),
            "token_share_percent": round(100 * found.token_share, 2), "calls": found.size,
            "teachable": found.teachable, "drift": _drift(found.drift),
            "drift_trained": _drift(found.drift_trained),
            "suitability": _suitability(found),
            "cohesion": round(found.cohesion, 3), "input_tokens_p95": found.input_tokens_p95,
            "input_tokens_p99": found.input_tokens_p99,
            "labels": len(labels_found) if labels_found else None,
            "examples": [Example(prompt=e.prompt[-2048:], response=e.response[-2048:]) for e in found.examples[:3]]})
    if found is None and curated is not None and declared.task_of(me) is not None:
        status = status.model_copy(update={
            "calls": sum(curated.answered.values()), "teachable": curated.answered.get("llm", 0)})
    need = select.need_of(me.spec, status)
    limits = mine.spec.base.limits if mine else BaseLimits()
    ranked = select.rank({name: base.spec for name, base in bases.items()}, limits, need)
    status = status.model_copy(update={
        "candidates": [RankedBase(name=r.name, suitable=r.suitable, score=r.score,
                                  reason=conditions.shortened(r.reason))
                       for r in ranked[:64]],
        "specialist": mine.meta.name if mine else None, "dataset": _dataset(mine)})
    parts = [
        conditions.false("Found", "RouterNotFound", f"there is no Router {me.spec.router}") if router is None
        else _origin(me, status),
        conditions.true("BaseSelectable", "BasesFit", ranked[0].name) if ranked and ranked[0].suitable
        else conditions.false("BaseSelectable", "NoBaseFits",
                              "; ".join(f"{r.name}: {r.reason}" for r in ranked[:3]) or "there is no BaseModel"),
    ]
    stopped = parts[0] if router is None else None
    return Plan(status=status.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"conditions"}),
                conditions=(*conditions.summary(parts, stopped=stopped), *_informing(me, status, run, mine)))


def _origin(me: ClusterObject, status: TaskClusterStatus) -> Condition:
    if me.meta.managed:
        return conditions.true("Found", "Discovered", f"discovery run {status.run}")
    counted = "" if status.run is None else f"; discovery run {status.run} counted its calls"
    return conditions.true("Found", "Declared", f"declared by hand{counted}")


def _dataset(mine: SpecialistObject | None) -> str | None:
    """Digest of what its newest revision learned from."""
    revisions = (mine.status.candidate, mine.status.stable) if mine else ()
    return next((revision.dataset for revision in revisions if revision and revision.dataset), None)


def _drift(drift: FoundDrift | None) -> Drift | None:
    return None if drift is None else Drift(
        share_before_percent=round(100 * drift.share_before, 2), share_percent=round(100 * drift.share_now, 2),
        distance_percent=round(100 * drift.distance, 1), unlike_percent=round(100 * drift.noise_share, 1),
        unlike_before_percent=None if drift.noise_before is None else round(100 * drift.noise_before, 1))


def _suitability(found: FoundCluster) -> Suitability | None:
    judged = found.suitability
    return None if judged is None else Suitability(
        verdict=judged.verdict, reason=judged.reason[:4096], narrowness_percent=round(100 * judged.narrowness, 1),
        format_percent=round(100 * judged.format_share, 1),
        agreement_percent=None if judged.agreement is None else round(100 * judged.agreement, 1),
        saving_tokens_percent=round(judged.saving_tokens_percent, 1))


def _informing(me: ClusterObject, status: TaskClusterStatus, run: int,
               mine: SpecialistObject | None) -> list[Condition]:
    """Conditions that are no part of Ready: a task may drift, or not be worth a specialist, and be in order."""
    found = [_recognised(me, status), _drifting(status, run, mine), _suitable(status)]
    return [condition for condition in found if condition is not None]


def _recognised(me: ClusterObject, status: TaskClusterStatus) -> Condition | None:
    """How a declared task's calls are told from others."""
    task = declared.task_of(me)
    if task is not None:
        return conditions.true("Recognised", "BySignature", ", ".join(
            ("fingerprints",) if "fingerprints" in task.signature.given else task.signature.given))
    if me.meta.managed or status.run is not None:
        return None
    return conditions.false("Recognised", "NoSignature",
                            f"spec.signature has no {declared.FIELDS}: no call is known to be this task's, so nothing "
                            "is trained for it; rules of the Router can send calls to a Specialist with an artifact")


def _drifting(status: TaskClusterStatus, run: int, mine: SpecialistObject | None) -> Condition | None:
    if status.run is not None and run > status.run:
        return conditions.true("Drifting", "NotSeen", f"discovery run {run} did not see it; run {status.run} did")
    drift = status.drift
    if drift is None:
        return None
    retrain = mine.spec.retrain if mine else None
    tolerated = retrain.drift_percent if retrain and retrain.drift_percent is not None else TOLERATED_DRIFT_PERCENT
    told = f"{_moved(drift, 'the run before')}; {tolerated:g} % counts"
    if status.drift_trained is not None:
        told += f"; since what its Specialist learned from: {_moved(status.drift_trained, 'that run')}"
    if max(each.percent for each in (drift, status.drift_trained) if each is not None) >= tolerated:
        return conditions.true("Drifting", "InputsMoved", told)
    return conditions.false("Drifting", "Steady", told)


def _moved(drift: Drift, since: str) -> str:
    of_itself = f" ({drift.unlike_before_percent:g} % of that run's own)" if drift.unlike_before_percent else ""
    return (f"drift {drift.percent:g} %: distance {drift.distance_percent:g} % from the inputs of {since}, "
            f"{drift.unlike_percent:g} % of its calls unlike any of them{of_itself}; "
            f"share {drift.share_before_percent:g} % before, {drift.share_percent:g} % now")


def _suitable(status: TaskClusterStatus) -> Condition | None:
    judged = status.suitability
    if judged is None:
        return None
    if judged.verdict == "Specialise":
        return conditions.true("Suitable", "Specialise", judged.reason)
    if judged.verdict == "Wait":
        return conditions.unknown("Suitable", "Wait", judged.reason)
    return conditions.false("Suitable", "Keep", judged.reason)
