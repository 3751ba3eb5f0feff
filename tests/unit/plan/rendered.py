"""Every kind of object that the operator renders, one of each, with every option that shows in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plan_builders import (
    ARTIFACT,
    CURATED,
    TRAINED,
    after,
    base,
    cluster,
    facts,
    revision,
    router,
    router_facts,
    specialist,
)

from slmfleet.plan import gateway, pool
from slmfleet.plan.config import Config
from slmfleet.plan.declared import tasks_of
from slmfleet.plan.facts import ChatTemplate, Plan, RouterFacts
from slmfleet.plan.jobs import clean_job, discover_job
from slmfleet.plan.pods import Object, store_prefix
from slmfleet.plan.specialist import plan_specialist
from slmfleet.plan.table import route_table

CONFIG = Config.model_validate({
    "namespace": "demo",
    "images": {"slmfleet": "slmfleet:1", "trainer": "trainer:1", "pool": "pool:1"},
    "trainer": {"volumes": [{"claimName": "env-train", "mountPath": "/opt/slmfleet/env"}]},
    "pool": {"python": "/opt/serve/bin/python", "volumes": [{"claimName": "env-serve", "mountPath": "/opt/serve"}]},
})  # fmt: skip
ROUTER = router(
    discovery={"naming": {"mode": "LLM", "model": "big"}},
    status={"redaction": {"denyListDigest": "0123456789abcdef"}},
    redaction={"denyList": [{"value": "Falcon Nine", "kind": "project"}],
               "patterns": [{"kind": "staff_number", "regex": r"\bST-\d{6}\b", "ignoreCase": True}],
               "denyListSecretRef": {"name": "never-said", "key": "names"}},
    llm={"url": "https://llm.example/v1", "apiKeySecretRef": {"name": "llm", "key": "key"}},
    rules=[{"name": "audit", "match": {"headers": [{"name": "X-Team", "value": "audit"}]}, "tier": "llm"},
           {"name": "voice", "match": {"modelPrefix": "voice-", "systemContains": "assistant"}, "tier": "specialist",
            "specialist": "intents"}],
    limits={"requestsPerMinute": 600})  # fmt: skip
TICKETS = cluster("tickets", status={}, by_hand=True, description="Which intent a ticket has.",
                  signature={"systemPrompt": "You sort the tickets of {customer}.\nOne word.\n"},
                  outputFormat={"type": "label", "labels": ["refund", "cancel"]})  # fmt: skip
BASE = base(pool={"maxReplicas": 2, "resources": {"cpu": "2", "memory": "4Gi", "gpus": 1}, "overlay": {
    "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}], "nodeSelector": {"disk": "fast"},
    "volumes": [{"claimName": "hub", "mountPath": "/data/hub"}]}})  # fmt: skip


def rendered() -> dict[str, Object]:
    """File name to object."""
    table, service, deployment = gateway.objects(CONFIG, ROUTER, _table())
    jobs = {name: plan.apply[0] for name, plan in _steps().items()}
    discover = discover_job(CONFIG, "discover-agents-0002", ("agents", "uid-of-agents"), ROUTER.spec, 2,
                            store_prefix(ROUTER.spec.store.url), tasks=tasks_of("agents", {"tickets": TICKETS}))
    cleaned = clean_job(CONFIG, "clean-agents-0123456789", ("agents", "uid-of-agents"),
                        ["artifacts/intents-0123456789", "datasets/intents-0123456789"], "fleet")
    return {"job-clean": cleaned, "gateway-routes": table, "gateway-service": service, "gateway-deployment": deployment,
            "pool-deployment": pool.deployment(CONFIG, BASE, 1, "fleet"), "job-discover": discover,
            "job-curate-declared": _declared(), **jobs}


def _steps() -> dict[str, Plan]:
    me = specialist(training={"steps": 40, "learningRate": 0.001, "workers": 2})

    def plan(**observed: Any) -> Plan:
        return plan_specialist(CONFIG, me, facts(router=ROUTER, bases={"tiny": BASE}, **observed))

    me = after(me, plan())
    return {"job-curate": plan(), "job-train": plan(curation=CURATED),
            "rayjob-train": plan(curation=CURATED, ray_jobs_served=True),
            "job-evaluate": plan(curation=CURATED, training=TRAINED)}


def _declared() -> Object:
    """The curation of a task that a person declared, beside another one."""
    logged = replace(ROUTER, status=ROUTER.status.model_copy(update={"captured": 900}))
    other = cluster("flights", status={}, by_hand=True, signature={"tools": ["book_flight"]})
    observed: dict[str, Any] = {"cluster": TICKETS, "router": logged, "bases": {"tiny": BASE},
                                "clusters": {"tickets": TICKETS, "flights": other}}  # fmt: skip
    me = specialist("tickets", taskCluster="tickets")
    me = after(me, plan_specialist(CONFIG, me, facts(**observed)))
    return plan_specialist(CONFIG, me, facts(**observed)).apply[0]


def _table() -> Any:
    mine = specialist(status={"stable": revision(), "candidate": revision("sha256:" + "0b" * 32),
                              "rollout": {"stage": "Canary", "weightPercent": 10}})
    wanted = cluster(outputFormat={"type": "json", "jsonSchema": '{"type": "object"}'},
                     signature={"fingerprints": ["f1"]})
    served = base(status={"endpoints": [{"pod": "pool-0", "address": "10.0.0.9", "ready": True,
                                         "adapters": [f"intents-{ARTIFACT[7:19]}"]}]})
    return route_table(CONFIG, ROUTER, _facts(wanted, mine, served))[0]


def _facts(wanted: Any, mine: Any, served: Any) -> RouterFacts:
    return router_facts(clusters={"intents": wanted}, specialists={"intents": mine}, bases={"tiny": served},
                        templates={"tiny": ChatTemplate("{{ messages }}", "<s>", "</s>")})
