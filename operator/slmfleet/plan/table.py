"""The route table of one Router, from the state of its specialists and pools."""

from __future__ import annotations

from slmfleet.api.router import Generalist
from slmfleet.api.specialist import Revision, SpecialistStatus
from slmfleet.plan import classifier, declared
from slmfleet.plan.config import Config
from slmfleet.plan.facts import ClusterObject, RouterFacts, RouterObject, SpecialistObject
from slmfleet.plan.fitting import LeftOut, fitted
from slmfleet.plan.formats import output
from slmfleet.plan.names import digest
from slmfleet.plan.pool import HTTP, adapter_name
from slmfleet.wire import routes
from slmfleet.wire.addresses import authority

API_KEY_FILE = "/etc/slmfleet/llm/key"
GENERALIST_KEY_FILE = "/etc/slmfleet/generalist/key"


def route_table(
    config: Config, router: RouterObject, facts: RouterFacts
) -> tuple[routes.RouteTable, tuple[LeftOut, ...]]:
    """The table with its version: one more than the last whenever anything in it changed. And who found no room."""
    content, left_out = fitted(_content(config, router, facts))
    mark = digest(content.model_dump(mode="json", exclude={"version"}))
    last = facts.table or {}
    version = max(int(last.get("version", 0)), router.status.table_version)  # also where somebody deleted the last one
    version = version if last.get("digest") == mark else version + 1
    return content.model_copy(update={"version": version}), left_out


def table_digest(table: routes.RouteTable) -> str:
    return digest(table.model_dump(mode="json", exclude={"version"}))


def _content(config: Config, router: RouterObject, facts: RouterFacts) -> routes.RouteTable:
    spec = router.spec
    mine = {name: s for name, s in sorted(facts.specialists.items())
            if (cluster := facts.clusters.get(s.spec.task_cluster)) and cluster.spec.router == router.meta.name}
    specialists = [_specialist(name, s, facts.clusters[s.spec.task_cluster]) for name, s in mine.items()]
    bases = sorted({r.base for s in mine.values() for r in (s.status.stable, s.status.candidate) if r})
    pools = [pool for name in bases if (pool := _pool(name, facts)) is not None]
    used = router.status.discovery.classifier
    capture = spec.capture
    return routes.RouteTable(
        router=f"{config.namespace}/{router.meta.name}",
        llm=routes.Upstream(
            url=spec.llm.url, model=spec.llm.model, timeout_seconds=spec.llm.timeout_seconds,
            api_key_file=API_KEY_FILE if spec.llm.api_key_secret_ref else None,
            prices=routes.Prices(**spec.llm.prices.model_dump())),
        generalist=None if spec.generalist is None else _generalist(spec.generalist),
        classifier=None if used is None else routes.ClassifierRef(digest=used, path=classifier.path(used)),
        capture=routes.Capture(
            enabled=capture.enabled, sample_percent=capture.sample_percent, recipients=list(capture.recipients),
            body_limit_bytes=capture.body_limit_bytes, segment_records=capture.segment_records,
            segment_seconds=capture.segment_seconds, buffer_bytes=capture.buffer_bytes,
            retention_days=capture.retention_days),
        pools=pools,
        specialists=[s for s in specialists if s.stable or s.candidate],
        declared=[routes.Declared(cluster=each.name, signature=each.signature)
                  for each in declared.tasks_of(router.meta.name, facts.clusters)],
        rules=[routes.Rule.model_validate(rule.model_dump(exclude_none=True)) for rule in spec.rules],
        limits=routes.Limits(**spec.limits.model_dump(), replicas=spec.gateway.replicas) if spec.limits else None,
        hedge_percent=spec.gateway.hedge_percent,
    )


def _generalist(spec: Generalist) -> routes.Generalist:
    return routes.Generalist(
        url=spec.url, model=spec.model, timeout_seconds=spec.timeout_seconds,
        api_key_file=GENERALIST_KEY_FILE if spec.api_key_secret_ref else None,
        prices=routes.Prices(**spec.prices.model_dump()), share_percent=spec.share_percent,
        max_request_bytes=spec.max_request_bytes, max_in_flight=spec.max_in_flight, tools=spec.tools,
        escalations=spec.escalations)


def _pool(name: str, facts: RouterFacts) -> routes.Pool | None:
    base, template = facts.bases.get(name), facts.templates.get(name)
    if base is None or template is None:
        return None
    endpoints = [routes.Endpoint(url=f"http://{authority(e.address, HTTP)}", adapters=list(e.adapters))
                 for e in base.status.endpoints if e.ready]
    pool = base.spec.pool
    return routes.Pool(name=name, chat_template=template.template, bos_token=template.bos, eos_token=template.eos,
                       context_tokens=base.spec.context_tokens, endpoints=endpoints,
                       max_in_flight=pool.max_in_flight, queue_seconds=pool.queue_seconds,
                       prices=routes.Prices(**pool.prices.model_dump()))


def _specialist(name: str, specialist: SpecialistObject, cluster: ClusterObject) -> routes.SpecialistRoute:
    spec, status = specialist.spec, specialist.status
    weight, shadow = live_weights(specialist)
    frames = [] if declared.task_of(cluster) else list(cluster.spec.signature.fingerprints)
    return routes.SpecialistRoute(
        name=name, cluster=cluster.meta.name, fingerprints=frames,
        output=output(cluster.spec.output_format), stable=_revision(name, status.stable),
        candidate=_revision(name, status.candidate), weight_percent=weight, shadow_percent=shadow,
        holdback_percent=spec.rollout.holdback_percent, salt=_salt(status), max_tokens=spec.serving.max_tokens,
        timeout_seconds=spec.serving.timeout_seconds, samples=spec.serving.samples)


def live_weights(specialist: SpecialistObject) -> tuple[int, int]:
    """(weight of the candidate, share shadowed), both in percent."""
    rollout = specialist.status.rollout
    if specialist.status.candidate is None:
        return (0, 0)
    shadow = specialist.spec.rollout.shadow_percent if rollout.stage in ("Shadow", "Approval") else 0
    return (rollout.weight_percent if rollout.stage == "Canary" else 0, shadow)


def _salt(status: SpecialistStatus) -> str:
    return status.candidate.name if status.candidate else ""


def _revision(specialist: str, revision: Revision | None) -> routes.Revision | None:
    if revision is None:
        return None
    return routes.Revision(name=revision.name, adapter=adapter_name(specialist, revision.name), pool=revision.base)
