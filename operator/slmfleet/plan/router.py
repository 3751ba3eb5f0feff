"""One Router: its gateway, its route table, and when tasks are looked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from slmfleet.api import conditions
from slmfleet.api.base import Condition, Prices
from slmfleet.api.discovery import DiscoveryStatus
from slmfleet.api.router import Counted, RouterStatus, Savings, TierStatus, WeightStatus
from slmfleet.plan import auto, classifier, cleanup, clusters, declared, fitting, gateway, naming, redaction
from slmfleet.plan.config import Config
from slmfleet.plan.facts import JobFact, Plan, RouterFacts, RouterObject
from slmfleet.plan.jobs import discover_job
from slmfleet.plan.names import object_name
from slmfleet.plan.pods import Object, store_prefix
from slmfleet.plan.table import live_weights, route_table, table_digest
from slmfleet.wire.discovery import Change, ClassifierResult
from slmfleet.wire.signals import ArmSignals, GatewaySignals, TierSignals

RETRY_SECONDS = 30
FAILING_CALLS = 3
KEPT_INSTANCES = 150
EARLIER = "earlier"
TIERS = ("specialist", "generalist", "llm")


def discovery_job_name(router: str, run: int) -> str:
    return object_name("discover", router, f"{run:04d}")


def discovery_folder(router: str, run: int) -> str:
    return f"discovery/{router}/{run:04d}"


def plan_router(config: Config, me: RouterObject, facts: RouterFacts) -> Plan:
    """Objects of the gateway, the next discovery, and the status."""
    store = _store_part(config, me, facts)
    if store.status == "False":
        return _stopped(me, store)
    in_use = redaction.status(me.spec.redaction, facts.deny_list)
    me = replace(me, status=me.status.model_copy(update={"redaction": in_use}))
    table, left_out = route_table(config, me, facts)
    counted = count(me, facts.signals, facts)
    found = _discover(config, me, facts, sum(c.captured for c in counted))
    cleaned = cleanup.clean(config, me, facts)
    status = _status(config, me, facts, counted).model_copy(update={
        "table_version": table.version, "table_digest": f"sha256:{table_digest(table)}", "discovery": found.status,
        "redaction": in_use, "cleanup": cleaned.status})
    # A gateway without a discovery is ready: Discovered informs, it is no part of Ready.
    parts = [store, _gateway_part(me, facts), _llm_part(me, facts), _capture_part(me, facts), redaction.part(me)]
    stated = conditions.summary([part for part in parts if part is not None])
    made, made_part = auto.specialists(config, me, facts)
    informing = (part for part in (found.part, made_part, cleaned.note) if part is not None)
    return Plan(
        apply=(*gateway.objects(config, me, table), *found.objects, *made, *cleaned.objects),
        delete=(*found.delete, *cleaned.delete),
        status=status.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"conditions"}),
        conditions=(*stated, *informing, *fitting.note(left_out), *_classifier_note(found.status),
                    *naming.note(me.spec, found.status), *_declared_note(me, facts)),
        events=(*found.events, *cleaned.events, *auto.events(me, made)),
        resync_seconds=2.0)


def _stopped(me: RouterObject, store: Condition) -> Plan:
    return Plan(status=me.status.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"conditions"}),
                conditions=tuple(conditions.summary([store], stopped=store)))


def _store_part(config: Config, me: RouterObject, facts: RouterFacts) -> Condition:
    claim = me.spec.store.claim_name
    if claim != config.store_claim:
        return conditions.false("StoreReady", "StoreNotMounted",
                                f"the operator mounts claim {config.store_claim}, spec.store.claimName is {claim}; "
                                "use that one, or install with --set store.claimName")
    if facts.claim == "Absent":
        return conditions.false("StoreReady", "ClaimNotFound", f"there is no PersistentVolumeClaim {claim}; create it")
    if facts.claim == "Pending":
        return conditions.unknown("StoreReady", "ClaimPending", f"claim {claim} is not bound yet")
    return conditions.true("StoreReady", "ClaimBound", claim)


def _gateway_part(me: RouterObject, facts: RouterFacts) -> Condition:
    wanted = me.spec.gateway.replicas
    if facts.gateways_ready >= wanted:
        return conditions.true("GatewayReady", "ReplicasReady", f"{facts.gateways_ready} gateways")
    state = conditions.false if facts.gateways_ready == 0 else conditions.unknown
    return state("GatewayReady", "TooFewReplicas", f"{facts.gateways_ready} of {wanted} gateways are ready")


def _llm_part(me: RouterObject, facts: RouterFacts) -> Condition:
    if facts.llm_errors < FAILING_CALLS:
        return conditions.true("LlmAnswering", "Answering", me.spec.llm.url)
    return conditions.false("LlmAnswering", "LlmFailing",
                            f"{facts.llm_errors} calls to {me.spec.llm.url} failed in the last half minute, and their "
                            "callers saw it; specialists go on. Check spec.llm.url, its key and the LLM itself")


def _capture_part(me: RouterObject, facts: RouterFacts) -> Condition | None:
    if not me.spec.capture.enabled:
        return None
    failing = next((s.capture.failing for s in facts.signals if s.capture.failing), None)
    if failing:
        return conditions.false("CaptureHealthy", "StoreUnwritable",
                                f"{failing}; calls go on, records wait in memory. Free or repair the store")
    lost = sum(s.capture.dropped for s in facts.signals)
    if lost:
        return conditions.true("CaptureHealthy", "RecordsLost", f"{lost} records were lost while the store was away")
    return conditions.true("CaptureHealthy", "Capturing", "")


# --- totals ------------------------------------------------------------------------------------------------------

def count(me: RouterObject, signals: Iterable[GatewaySignals], facts: RouterFacts | None = None) -> list[Counted]:
    """Totals by gateway process, the longest gone first. A process that is gone keeps what it had counted."""
    kept = {c.instance: c for c in me.status.counted}
    for gate in sorted(signals, key=lambda gate: gate.instance):
        kept.pop(gate.instance, None)
        specialist, generalist, llm = (gate.tiers.get(tier, TierSignals()) for tier in TIERS)
        kept[gate.instance] = Counted(
            instance=gate.instance, captured=gate.capture.records, specialist_calls=specialist.calls,
            generalist_calls=generalist.calls, llm_calls=llm.calls,
            avoided=_cost(specialist, me.spec.llm.prices) + _cost(generalist, me.spec.llm.prices),
            spent=_spent(gate, me, facts) if facts else 0.0)
    return _folded(list(kept.values()))


def _cost(tokens: TierSignals | ArmSignals, prices: Prices) -> float:
    return (tokens.input_tokens * prices.input_per_million + tokens.output_tokens * prices.output_per_million) / 1e6


def _spent(gate: GatewaySignals, me: RouterObject, facts: RouterFacts) -> float:
    """Tokens of the specialists at their pools' prices, and of the generalist at its own."""
    generalist = me.spec.generalist
    total = _cost(gate.tiers.get("generalist", TierSignals()), generalist.prices) if generalist else 0.0
    for name, counted in gate.specialists.items():
        specialist = facts.specialists.get(name)
        base = facts.bases.get(specialist.status.base or "") if specialist else None
        if base is None:
            continue
        for revision, arm in counted.arms.items():
            if revision != "llm":
                total += _cost(arm, base.spec.pool.prices)
    return total


def _folded(counted: list[Counted]) -> list[Counted]:
    """At most `KEPT_INSTANCES`: those longest gone become one."""
    many = len(counted) - KEPT_INSTANCES + 1
    if many < 2:
        return counted
    old = counted[:many]
    return [Counted(instance=EARLIER, captured=sum(c.captured for c in old), avoided=sum(c.avoided for c in old),
                    specialist_calls=sum(c.specialist_calls for c in old), llm_calls=sum(c.llm_calls for c in old),
                    generalist_calls=sum(c.generalist_calls for c in old),
                    spent=sum(c.spent for c in old)), *counted[many:]]


def _status(config: Config, me: RouterObject, facts: RouterFacts, counted: list[Counted]) -> RouterStatus:
    calls = {"generalist": sum(c.generalist_calls for c in counted), "llm": sum(c.llm_calls for c in counted),
             "specialist": sum(c.specialist_calls for c in counted)}
    if not me.spec.generalist and not calls["generalist"]:
        del calls["generalist"]
    total = sum(calls.values())
    share = {tier: round(100 * count / total, 1) if total else 0.0 for tier, count in calls.items()}
    return RouterStatus(
        url=gateway.url(config, me.meta.name), ready_replicas=facts.gateways_ready,
        captured=sum(c.captured for c in counted), counted=counted,
        tiers=[TierStatus(name=tier, calls=calls[tier], share_percent=share[tier]) for tier in calls],
        specialist_percent=share["specialist"], weights=_weights(me, facts),
        saved=f"{sum(c.avoided - c.spent for c in counted):.2f} {me.spec.currency}",
        savings=Savings(llm_cost_avoided=round(sum(c.avoided for c in counted), 6),
                        specialist_cost=round(sum(c.spent for c in counted), 6)))


def _weights(me: RouterObject, facts: RouterFacts) -> list[WeightStatus]:
    found = []
    for name, specialist in sorted(facts.specialists.items()):
        cluster = facts.clusters.get(specialist.spec.task_cluster)
        if cluster is None or cluster.spec.router != me.meta.name:
            continue
        weight, shadow = live_weights(specialist)
        stable, candidate = specialist.status.stable, specialist.status.candidate
        found.append(WeightStatus(specialist=name, stable=stable.name if stable else None,
                                  candidate=candidate.name if candidate else None, candidate_percent=weight,
                                  shadow_percent=shadow))
    return found


# --- discovery ---------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Discovery:
    status: DiscoveryStatus
    part: Condition | None
    objects: tuple[Object, ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[str, str], ...] = ()


def _discover(config: Config, me: RouterObject, facts: RouterFacts, captured: int) -> _Discovery:
    status, spec = me.status.discovery, me.spec.discovery
    if not spec.enabled or not me.spec.capture.enabled:
        return _Discovery(status, None)
    identity = me.spec.capture.identity_secret_ref
    if identity is None or identity.name not in facts.secrets:
        return _Discovery(status, conditions.unknown(
            "Discovered", "IdentityMissing",
            "the log cannot be opened: spec.capture.identitySecretRef must name a Secret with the age private key"))
    held = redaction.held(me)
    if held is not None and facts.discovery is None and status.job not in facts.jobs:
        return _Discovery(status, conditions.unknown("Discovered", held.reason, held.message))
    if status.job is not None:
        return _under_way(config, me, facts)
    new = captured - status.captured_at_run
    rested = status.time is None or (facts.now - status.time).total_seconds() >= spec.interval_seconds
    if new >= spec.minimum_calls and rested:
        last = max(status.run, facts.earlier_run)  # a Router made again goes on: what is in the store is not its answer
        started = status.model_copy(update={"run": last, "job": discovery_job_name(me.meta.name, last + 1),
                                            "captured_at_run": captured})
        return _Discovery(started, _running(last + 1))
    if status.run == 0:
        return _Discovery(status, conditions.unknown(
            "Discovered", "WaitingForCalls", f"{new:,} of {spec.minimum_calls:,} calls in the log"))
    return _Discovery(status, _discovered(status))


def _running(run: int) -> Condition:
    return conditions.unknown("Discovered", "JobRunning", f"discovery run {run} is under way")


def _discovered(status: DiscoveryStatus) -> Condition:
    return conditions.true("Discovered", "TasksFound" if status.clusters else "NoTaskFound",
                           f"run {status.run}: {status.clusters} tasks{_sampled(status.sample_percent)}")


def _sampled(percent: float | None) -> str:
    return "" if percent is None else f", sought in {percent:g} % of the conversations; the log is too large for all"


def _under_way(config: Config, me: RouterObject, facts: RouterFacts) -> _Discovery:
    status = me.status.discovery
    run = status.run + 1
    if facts.discovery is not None:
        return _finished(config, me, facts, run)
    fact = facts.jobs.get(status.job or "")
    if fact is not None and fact.state == "Failed":
        return _failed(me, facts, fact)
    made = discover_job(config, discovery_job_name(me.meta.name, run), (me.meta.name, me.meta.uid), me.spec, run,
                        store_prefix(me.spec.store.url),
                        classifier.path(status.classifier) if status.classifier else None, _learned_from(facts, run),
                        declared.fitting(declared.tasks_of(me.meta.name, facts.clusters)))
    part = _running(run) if status.time is None else _discovered(status)
    return _Discovery(status, part, objects=(made,))


def _learned_from(facts: RouterFacts, run: int) -> dict[str, int]:
    """By TaskCluster, the run that the stable revision of its Specialist learned from; not the run before this one,
    which drift is measured from anyway."""
    stable = {each.spec.task_cluster: each.status.stable for each in facts.specialists.values()}
    return {task: revision.discovery_run for task, revision in stable.items()
            if task in facts.clusters and revision is not None and revision.discovery_run is not None
            and revision.discovery_run < run - 1}


def _declared_note(me: RouterObject, facts: RouterFacts) -> tuple[Condition, ...]:
    """Present where the discovery job cannot be told of all declared tasks."""
    tasks = declared.tasks_of(me.meta.name, facts.clusters)
    kept = {task.name for task in declared.fitting(tasks)}
    left = ", ".join(task.name for task in tasks if task.name not in kept)
    if not left or not me.spec.discovery.enabled:
        return ()
    return (conditions.false("DeclaredTasksTold", "TooLarge",
                             f"a job can be told of declared tasks in {declared.LIMIT_BYTES:,} bytes; discovery knows "
                             f"nothing of TaskClusters {left}, and may find their calls as tasks of its own. Shorten "
                             "their spec.outputFormat, or that of others"),)


def _failed(me: RouterObject, facts: RouterFacts, fact: JobFact) -> _Discovery:
    """A failed run is tried again after a while; the job's name is the same, so the old one goes first."""
    status = me.status.discovery
    reason = fact.failure.reason if fact.failure else "JobFailed"
    message = fact.failure.message if fact.failure else "the discovery job failed; see its pod's log"
    part = conditions.false("Discovered", reason, message)
    ended = fact.ended or facts.now
    if (facts.now - ended).total_seconds() < RETRY_SECONDS:
        return _Discovery(status, part)
    return _Discovery(status, part, delete=(("Job", status.job or ""),))


def _finished(config: Config, me: RouterObject, facts: RouterFacts, run: int) -> _Discovery:
    result = facts.discovery
    assert result is not None
    found = result.clusters
    status = me.status.discovery.model_copy(update={
        "run": run, "job": None, "time": facts.now, "clusters": sum(c.narrow for c in found.clusters),
        "sample_percent": round(100 * found.sample_share, 4) if found.sample_share < 1 else None,
        "unassigned_percent": round(100 * found.unassigned / found.records, 1) if found.records else None,
        **naming.result(found.naming),
        **_classifier(result.classifier, me.spec.discovery.foreign_call_percent / 100, run)})
    made = tuple(clusters.cluster_object(me, cluster) for cluster in found.clusters
                 if cluster.narrow and clusters.ours(facts.clusters.get(cluster.name), me.meta.name))
    events = tuple((f"Task{change.kind}", _changed(change)) for change in found.changes if change.narrow)
    return _Discovery(status, _discovered(status), objects=made, events=events)


def _changed(change: Change) -> str:
    before, now = ", ".join(change.before), ", ".join(change.now)
    match change.kind:
        case "New":
            return f"task {now} is new"
        case "Gone":
            return f"task {before} was not found again"
    return f"{before} became {now}"


def _classifier(found: ClassifierResult | None, tolerated: float, run: int) -> dict[str, Any]:
    """The new classifier, if it passes its gate; else the one in use stays."""
    if found is None:
        return {"classifier_refused": None}
    refused = classifier.refusal(found, tolerated)
    if refused is not None:
        return {"classifier_refused": f"that of run {run}: {refused}"}
    return {"classifier": found.digest, "classifier_run": run, "classifier_refused": None,
            "classifier_figures": classifier.figures(found, tolerated),
            "foreign_rate_percent": round(100 * found.foreign_rate, 2)}


def _classifier_note(status: DiscoveryStatus) -> tuple[Condition, ...]:
    if status.classifier_refused is not None:
        stays = f"that of run {status.classifier_run} stays" if status.classifier else "calls are known by frame alone"
        return (conditions.false("ClassifierRenewed", "Refused", f"{status.classifier_refused}; {stays}"),)
    if status.classifier is None:
        return ()
    return (conditions.true("ClassifierRenewed", "Passed",
                            f"that of run {status.classifier_run} {status.classifier_figures}"),)


def volatile(status: dict[str, Any]) -> dict[str, Any]:
    """Status without the counters that change with every call, to tell a change that matters."""
    moving = ("captured", "tiers", "specialistPercent", "savings", "saved", "counted")
    return {key: value for key, value in status.items() if key not in moving}
