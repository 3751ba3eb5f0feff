"""One BaseModel: its pool of Triton servers, the adapters on them, and how many of them there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.basemodel import BaseModelStatus, PoolEndpoint, ScalingEvent
from slmfleet.api.specialist import Revision
from slmfleet.plan import fleet
from slmfleet.plan.config import Config, Mount
from slmfleet.plan.facts import BaseFacts, BaseObject, Plan, SpecialistObject
from slmfleet.plan.names import labels, object_name, owner_reference
from slmfleet.plan.placement import LATELY, placement
from slmfleet.plan.pods import Object, StoreMount, pod_spec, resources

HTTP, GRPC, METRICS = 8000, 8001, 8002
KEYS = "slmfleet-keys"
DRAIN_SECONDS = 5


@dataclass(frozen=True)
class Adapter:
    """One adapter that a pool should hold."""

    name: str
    path: str
    digest: str


def adapter_name(specialist: str, revision: str) -> str:
    return object_name("", specialist, revision[:12], limit=120)


def wanted_adapters(base: str, specialists: Mapping[str, SpecialistObject]) -> dict[str, Adapter]:
    """Stable and candidate revisions on this base, by adapter name."""
    found: dict[str, Adapter] = {}
    for name, specialist in specialists.items():
        for revision in (specialist.status.stable, specialist.status.candidate):
            if isinstance(revision, Revision) and revision.base == base:
                adapter = Adapter(adapter_name(name, revision.name), revision.path, revision.artifact)
                found[adapter.name] = adapter
    return found


def plan_base(config: Config, base: BaseObject, facts: BaseFacts) -> Plan:
    """The pool's Deployment with the right number of servers, and the status."""
    adapters = wanted_adapters(base.meta.name, facts.specialists)
    chosen = bool(adapters)
    held = any(s.status.candidate is not None and s.status.candidate.base == base.meta.name
               and s.status.rollout.stage in ("Placing", "Shadow", "Canary") for s in facts.specialists.values())
    status = base.status
    lately = sum(facts.calls.get(name, 0.0) >= LATELY for name in adapters)
    demand = replace(facts.demand, adapters=lately)
    scale = fleet.replicas(base.spec.pool, status.replicas, demand, chosen=chosen, held=held, now=facts.now)
    endpoints = [_endpoint(server.pod, server.address, server.ready, server.adapters, adapters, server.message)
                 for server in facts.servers]
    ready = sum(endpoint.ready for endpoint in endpoints)
    new = BaseModelStatus(
        chosen=chosen, replicas=scale.replicas, ready_replicas=ready, selector=_selector(base.meta.name),
        endpoints=endpoints, adapters=len(adapters), idle_since=status.idle_since,
        scaling_history=_history(status, scale, facts))
    exists = chosen or status.chosen or status.replicas > 0
    objects = (deployment(config, base, scale.replicas, facts.store_prefix),) if exists else ()
    return Plan(apply=objects, status=new.model_dump(by_alias=True, exclude_none=True, mode="json"),
                conditions=_conditions(base, new, scale, facts), resync_seconds=2.0 if chosen else None)


@dataclass(frozen=True)
class Move:
    """One adapter to load on, or unload from, one server."""

    address: str
    op: str
    adapter: Adapter


def moves(base: BaseObject, facts: BaseFacts) -> tuple[Move, ...]:
    """Unloads first, so that slots are free. An adapter under a taken name with another digest is replaced."""
    wanted = wanted_adapters(base.meta.name, facts.specialists)
    servers = [server for server in facts.servers if server.ready]
    places = placement(list(wanted), [server.pod for server in servers], base.spec.pool.adapter_slots,
                       held={server.pod: server.adapters for server in servers}, calls=_calls(base.meta.name, facts))
    out, into = [], []
    for server in servers:
        here = places.get(server.pod, ())
        for name, digest in sorted(server.adapters.items()):
            if name not in here or wanted[name].digest != digest:
                out.append(Move(server.address, "unload", Adapter(name, "", digest)))
        for name in here:
            if server.adapters.get(name) != wanted[name].digest:
                into.append(Move(server.address, "load", wanted[name]))
    return (*out, *into)


def _calls(base: str, facts: BaseFacts) -> dict[str, float]:
    """Recent calls by adapter. A rollout's candidate counts as the most called: without a place it is never judged."""
    most = max(facts.calls.values(), default=0.0) + 1.0
    trying = {adapter_name(name, s.status.candidate.name): most for name, s in facts.specialists.items()
              if s.status.candidate is not None and s.status.candidate.base == base}
    return {**facts.calls, **trying}


def _endpoint(pod: str, address: str, ready: bool, loaded: Mapping[str, str], wanted: Mapping[str, Adapter],
              message: str | None) -> PoolEndpoint:
    fit = sorted(name for name, digest in loaded.items() if name in wanted and wanted[name].digest == digest)
    return PoolEndpoint(pod=pod, address=address, ready=ready, adapters=fit, message=message)


def _selector(name: str) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(pool_labels(name).items()))


def pool_labels(name: str) -> dict[str, str]:
    return {"slmfleet.dev/pool": name[:63]}


def _history(status: BaseModelStatus, scale: fleet.Scale, facts: BaseFacts) -> list[ScalingEvent]:
    if scale.replicas == status.replicas:
        return list(status.scaling_history)
    event = ScalingEvent(time=facts.now.strftime("%Y-%m-%dT%H:%M:%SZ"), previous=status.replicas,
                         replicas=scale.replicas, reason=scale.reason)
    return [event, *status.scaling_history][:20]


def _conditions(base: BaseObject, new: BaseModelStatus, scale: fleet.Scale,
                facts: BaseFacts) -> tuple[Condition, ...]:
    if not new.chosen:
        idle = conditions.false("Chosen", "NotChosen", "no Specialist uses this base yet")
        return (conditions.true("Ready", "Inert", "a candidate; no pool until chosen"), idle)
    chosen = conditions.true("Chosen", "Chosen", f"{new.adapters} adapters")
    ready = new.ready_replicas
    troubled = [server for server in facts.servers if server.message]
    silent = next((server.message for server in troubled if server.silent), None)
    refused = next((server.message for server in troubled if not server.silent), None)
    if facts.pod_problem:
        pool = conditions.false("PoolAvailable", "PodFailing", facts.pod_problem)
    elif scale.replicas == 0:
        pool = conditions.true("PoolAvailable", "ScaledToZero", "idle; calls go to the next tier until a server is up")
    elif new.ready_replicas == 0 and silent:
        pool = conditions.false("PoolAvailable", "ServerNotAnswering", silent)
    elif new.ready_replicas == 0:
        pool = conditions.unknown("PoolAvailable", "ScalingUp", f"0 of {scale.replicas} servers answer yet")
    else:
        pool = conditions.true("PoolAvailable", "ServersReady",
                               f"{new.ready_replicas} of {scale.replicas} servers answer; {scale.reason}")
    if refused:
        placed = conditions.false("AdaptersPlaced", "AdapterRefused", refused)
    elif silent:
        placed = conditions.unknown("AdaptersPlaced", "ServerNotAnswering", silent)
    elif ready and (homeless := new.adapters - ready * base.spec.pool.adapter_slots) > 0:
        placed = conditions.true("AdaptersPlaced", "MostCalledPlaced",
                                 f"{homeless} of {new.adapters} adapters have no place on {ready} servers of "
                                 f"{base.spec.pool.adapter_slots} slots: those called least; raise pool.adapterSlots "
                                 "or pool.maxReplicas")
    else:
        placed = conditions.true("AdaptersPlaced", "Placed")
    return tuple(conditions.summary([chosen, pool, placed]))


def deployment(config: Config, base: BaseObject, replicas: int, prefix: str) -> Object:
    """Triton for this base. New adapters never change it: they are loaded in place."""
    name, spec = object_name("pool", base.meta.name), base.spec.pool
    source = base.spec.source
    path = f"{config.store_mount}/{source.store_path}" if source.store_path else source.reference
    env = [{"name": "SLM_BASE_PATH", "value": path}, {"name": "SLM_SLOTS", "value": str(spec.adapter_slots)},
           {"name": "SLM_MAX_RANK", "value": str(spec.max_rank)},
           {"name": "SLMFLEET_CONTROL_KEY",
            "valueFrom": {"secretKeyRef": {"name": KEYS, "key": "control"}}},
           {"name": "SLM_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
           *({"name": item.name, "value": item.value} for item in spec.overlay.env)]
    container = {
        "name": "triton", "image": spec.image or config.images.pool, "command": [config.pool.python],
        "args": ["/opt/slmfleet/runtime/start.py"], "env": env, "resources": resources(spec.resources),
        "ports": [{"name": "http", "containerPort": HTTP}, {"name": "grpc", "containerPort": GRPC},
                  {"name": "metrics", "containerPort": METRICS}],
        "startupProbe": {"httpGet": {"path": "/v2/health/ready", "port": HTTP}, "periodSeconds": 1,
                         "failureThreshold": 600},
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": HTTP}, "periodSeconds": 5,
                           "timeoutSeconds": 5},
        "livenessProbe": {"exec": {"command": [config.pool.python, "/opt/slmfleet/runtime/probe.py"]},
                          "periodSeconds": 30, "timeoutSeconds": 20, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN_SECONDS)]}}},
    }
    claims = (*config.pool.volumes,
              *(Mount(claim_name=v.claim_name, mount_path=v.mount_path) for v in spec.overlay.volumes))
    pod = pod_spec(config, container, account="slmfleet-pool", prefix=prefix, claims=claims, shared_memory="256Mi",
                   store=[StoreMount("bases"), StoreMount("artifacts")])
    if spec.overlay.node_selector:
        pod["nodeSelector"] = dict(spec.overlay.node_selector)
    pod["terminationGracePeriodSeconds"] = 45
    marks = labels("pool", "BaseModel", base.meta.name, pool_labels(base.meta.name))
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": marks,
                     "ownerReferences": owner_reference("BaseModel", base.meta.name, base.meta.uid)},
        "spec": {"replicas": replicas, "selector": {"matchLabels": pool_labels(base.meta.name)},
                 "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                 "template": {"metadata": {"labels": marks}, "spec": pod}},
    }
