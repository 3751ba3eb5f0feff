"""Small builders of observed objects: a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slmfleet.api.base import SecretKey
from slmfleet.api.basemodel import BaseModelSpec, BaseModelStatus
from slmfleet.api.router import RouterSpec, RouterStatus
from slmfleet.api.specialist import SpecialistSpec, SpecialistStatus
from slmfleet.api.taskcluster import TaskClusterSpec, TaskClusterStatus
from slmfleet.plan.config import Config
from slmfleet.plan.facts import (
    BaseFacts,
    BaseObject,
    ChatTemplate,
    ClusterObject,
    Meta,
    Plan,
    RouterFacts,
    RouterObject,
    SpecialistFacts,
    SpecialistObject,
)
from slmfleet.plan.fleet import Demand
from slmfleet.wire.jobs import CurationResult, EvaluationResult, TrainingResult
from slmfleet.wire.signals import ArmSignals, GatewaySignals, ShadowSignals, SpecialistSignals

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONFIG = Config(namespace="demo")
DATASET, ARTIFACT, BASE_DIGEST = ("sha256:" + digits * 32 for digits in ("da", "ad", "ba"))
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def meta(name: str) -> Meta:
    return Meta(name=name, uid=f"uid-of-{name}", generation=1)


def base(name: str = "tiny", *, status: dict[str, Any] | None = None, pool: dict[str, Any] | None = None,
         **spec: Any) -> BaseObject:
    wanted = {"source": {"storePath": f"bases/{name}"}, "parameters": 1_000_000, "contextTokens": 512,
              "licence": "Apache-2.0", "memory": "1Gi", "pool": pool or {}, **spec}
    return BaseObject(meta(name), BaseModelSpec.model_validate(wanted), BaseModelStatus.model_validate(status or {}))


def router(name: str = "agents", *, status: dict[str, Any] | None = None, **spec: Any) -> RouterObject:
    wanted = {
        "llm": {"url": "https://llm.example/v1", "prices": {"inputPerMillion": 2, "outputPerMillion": 8}},
        "store": {"claimName": "slmfleet-store", "url": "file:///fleet"},
        "capture": {"recipients": [RECIPIENT], "identitySecretRef": {"name": "opener", "key": "identity"}},
        **spec,
    }
    return RouterObject(meta(name), RouterSpec.model_validate(wanted), RouterStatus.model_validate(status or {}))


def cluster(name: str = "intents", *, status: dict[str, Any] | None = None, by_hand: bool = False,
            **spec: Any) -> ClusterObject:
    """One that discovery made, or that a person declared."""
    found = {"version": "sha256:" + "c1" * 32, "run": 1, "inputTokensP95": 40} if status is None else status
    made = replace(meta(name), managed=not by_hand)
    return ClusterObject(made, TaskClusterSpec.model_validate({"router": "agents", **spec}),
                         TaskClusterStatus.model_validate(found))


def specialist(name: str = "intents", *, status: dict[str, Any] | None = None, **spec: Any) -> SpecialistObject:
    return SpecialistObject(meta(name), SpecialistSpec.model_validate({"taskCluster": "intents", **spec}),
                            SpecialistStatus.model_validate(status or {}))


def after(me: SpecialistObject, plan: Plan) -> SpecialistObject:
    """The object as it is once the plan's status was written."""
    return SpecialistObject(me.meta, me.spec, SpecialistStatus.model_validate(plan.status))


def facts(**changes: Any) -> SpecialistFacts:
    """A task that was discovered, one base, and nothing made yet."""
    known: dict[str, Any] = {
        "cluster": cluster(), "router": router(), "bases": {"tiny": base()}, "jobs": {}, "curation": None,
        "progress": None, "training": None, "evaluation": None, "signals": (), "ray_jobs_served": False, "now": NOW}
    return SpecialistFacts(**(known | changes))


def router_facts(**changes: Any) -> RouterFacts:
    """A Router with its store and keys, and a ready gateway."""
    known: dict[str, Any] = {
        "clusters": {}, "specialists": {}, "bases": {"tiny": base()}, "templates": {"tiny": ChatTemplate("{{x}}")},
        "jobs": {}, "discovery": None, "table": None, "claim": "Bound", "secrets": frozenset({"opener"}),
        "gateways_ready": 1, "signals": (), "now": NOW}
    return RouterFacts(**(known | changes))


def base_facts(**changes: Any) -> BaseFacts:
    known: dict[str, Any] = {"specialists": {}, "store_prefix": "fleet", "servers": (), "demand": Demand(), "now": NOW}
    return BaseFacts(**(known | changes))


CURATED = CurationResult(dataset_digest=DATASET, train=800, heldout=200)
TRAINED = TrainingResult(method="lora", steps=100, examples=800, seconds=60.0, base_digest=BASE_DIGEST,
                         dataset_digest=DATASET, artifact_digest=ARTIFACT, ray_job_id="raysubmit_1")
PASSED = EvaluationResult(metric="label", estimate=0.96, interval=(0.93, 0.98), n=200, floor=0.9, margin=0.02,
                          confidence=0.95, verdict="passed")
REFUSED = PASSED.model_copy(update={"estimate": 0.5, "interval": (0.43, 0.57), "verdict": "refused",
                                    "reasons": ["0.500 is below the floor 0.9"]})


def revision(artifact: str = ARTIFACT, **changes: Any) -> dict[str, Any]:
    return {"name": artifact.removeprefix("sha256:")[:12], "artifact": artifact, "path": "artifacts/one",
            "base": "tiny", **changes}


def serving(*adapters: str, ready: bool = True) -> dict[str, Any]:
    """Status of a base with one server that holds these adapters."""
    return {"chosen": True, "replicas": 1,
            "endpoints": [{"pod": "pool-0", "address": "10.0.0.9", "ready": ready, "adapters": list(adapters)}]}


def gateway(instance: str = "gateway-1", *, of: str = "intents", revision: str = ARTIFACT[7:19], agreed: int = 0,
            disagreed: int = 0, conversations: int = 0, failed: int = 0, **more: Any) -> GatewaySignals:
    arm = ArmSignals(conversations=conversations, conversations_failed=failed)
    shadow = ShadowSignals(agreed=agreed, disagreed=disagreed)
    mine = SpecialistSignals(arms={revision: arm}, shadow={revision: shadow})
    return GatewaySignals(instance=instance, specialists={of: mine}, **more)


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    return {c.type: (c.status, c.reason) for c in plan.conditions}


def message(plan: Plan, type: str) -> str:
    return next(c.message for c in plan.conditions if c.type == type)


def applied(plan: Plan) -> list[tuple[str, str]]:
    return [(o["kind"], o["metadata"]["name"]) for o in plan.apply]


OPENER = SecretKey(name="opener", key="identity")
