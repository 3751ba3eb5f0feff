"""The loop of a Router."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context
from slmfleet.kube.client import CLAIM, CONFIGMAP, DEPLOYMENT, ROUTER, SECRET, SPECIALIST
from slmfleet.plan import gateway
from slmfleet.plan import router as plan
from slmfleet.plan.cleanup import wants_look
from slmfleet.plan.facts import BaseObject, ChatTemplate, DenyList, RouterFacts, RouterObject
from slmfleet.plan.pods import store_prefix
from slmfleet.wire.discovery import DiscoveryResult
from slmfleet.wire.jobs import FOLDER_KINDS
from slmfleet.wire.packing import unpacked


async def reconcile(context: Context, name: str) -> float | None:
    """Observe, plan, apply."""
    raw = context.must(ROUTER, name)
    me = parse.router(raw)
    made = plan.plan_router(context.config, me, await observe(context, me))
    if await context.performer.perform(raw, made, plan.volatile):
        _wake(context, raw.get("status") or {}, made.status)
    return made.resync_seconds


def _wake(context: Context, before: dict[str, Any], after: Any) -> None:
    """A finished discovery is news for the task clusters."""
    if (before.get("discovery") or {}).get("run") != (after.get("discovery") or {}).get("run"):
        for cluster in context.clusters():
            context.ring("TaskCluster", cluster)


async def observe(context: Context, me: RouterObject) -> RouterFacts:
    prefix, bases = store_prefix(me.spec.store.url), context.bases()
    pinned, cleanup = me.status.discovery, me.status.cleanup
    folder = plan.discovery_folder(me.meta.name, pinned.run + 1)
    return RouterFacts(
        clusters=context.clusters(), specialists=context.specialists(), bases=bases,
        templates=_templates(context, prefix, bases),
        jobs=context.jobs(pinned.job, cleanup.job if cleanup else None),
        folders=context.store.folders(prefix, FOLDER_KINDS) if wants_look(me, context.now()) else None,
        earlier_run=0 if pinned.run or pinned.job else context.store.last_run(prefix, f"discovery/{me.meta.name}"),
        discovery=context.store.read(prefix, f"{folder}/result.json", DiscoveryResult) if pinned.job else None,
        table=await _table(context, me), claim=await _claim(context, me),
        secrets=await _secrets(context, me), gateways_ready=_ready(context, me.meta.name),
        deny_list=await _deny_list(context, me), signals=context.board.of(me.meta.name),
        now=context.now(), llm_errors=context.board.llm_errors(me.meta.name))


def _templates(context: Context, prefix: str, bases: Mapping[str, BaseObject]) -> dict[str, ChatTemplate]:
    """Of each base in use, from its folder; of one on the hub, which cannot be read from here, from an adapter."""
    found: dict[str, ChatTemplate] = {}
    for each in context.specialists().values():
        for revision in filter(None, (each.status.stable, each.status.candidate)):
            base = bases.get(revision.base)
            if base is None or revision.base in found:
                continue
            template = context.store.chat_template(prefix, base.spec.source.store_path or revision.path)
            if template is not None:
                found[revision.base] = template
    return found


async def _table(context: Context, me: RouterObject) -> dict[str, Any] | None:
    found = await context.kube.find(CONFIGMAP, gateway.table_name(me.meta.name))
    if found is None:
        return None
    try:
        text = unpacked(gateway.TABLE_KEY, found.get("data"), found.get("binaryData"))
        version = json.loads(text or "{}").get("version", 0)
    except ValueError:  # somebody changed it: it is written anew, and the version comes from status
        return None
    return {"version": version, "digest": found["metadata"].get("annotations", {}).get(gateway.DIGEST)}


async def _claim(context: Context, me: RouterObject) -> Literal["Absent", "Pending", "Bound"]:
    found = await context.kube.find(CLAIM, me.spec.store.claim_name)
    if found is None:
        return "Absent"
    return "Bound" if (found.get("status") or {}).get("phase") == "Bound" else "Pending"


async def _secrets(context: Context, me: RouterObject) -> frozenset[str]:
    spec = me.spec
    refs = (spec.capture.identity_secret_ref, spec.llm.api_key_secret_ref,
            spec.generalist.api_key_secret_ref if spec.generalist else None)
    wanted = [ref.name for ref in refs if ref]
    return frozenset([name for name in wanted if await context.kube.find(SECRET, name) is not None])


async def _deny_list(context: Context, me: RouterObject) -> DenyList | None:
    """The private deny list, where its Secret has it. Its digest is keyed, so that nobody can guess values with it."""
    ref = me.spec.redaction.deny_list_secret_ref
    found = await context.kube.find(SECRET, ref.name) if ref else None
    data = (found or {}).get("data", {}).get(ref.key) if ref else None
    return parse.deny_list(data, context.control_key) if data is not None else None


def _ready(context: Context, name: str) -> int:
    found = context.cache.get(DEPLOYMENT, gateway.gateway_name(name))
    return int((found.get("status") or {}).get("readyReplicas") or 0) if found else 0


def specialists_of(context: Context, router: str) -> list[str]:
    """Names of the Specialists behind one Router: its signals are theirs."""
    clusters = context.clusters()
    return [o["metadata"]["name"] for o in context.cache.all(SPECIALIST)
            if (c := clusters.get(o["spec"]["taskCluster"])) and c.spec.router == router]
