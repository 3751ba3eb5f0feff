"""The loop of a TaskCluster."""

from __future__ import annotations

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context
from slmfleet.kube.client import CLUSTER
from slmfleet.plan import clusters as plan
from slmfleet.plan.pods import store_prefix
from slmfleet.plan.router import discovery_folder
from slmfleet.wire.discovery import DiscoveryResult


async def reconcile(context: Context, name: str) -> float | None:
    """Observe, plan, apply."""
    raw = context.must(CLUSTER, name)
    me = parse.cluster(raw)
    router = context.router(me.spec.router)
    found, run = None, 0
    if router is not None and router.status.discovery.run:
        run = router.status.discovery.run
        folder = discovery_folder(router.meta.name, run)
        result = context.store.read(store_prefix(router.spec.store.url), f"{folder}/result.json", DiscoveryResult)
        found = next((c for c in result.clusters.clusters if c.name == name), None) if result else None
    made = plan.plan_cluster(me, router, found, run, context.bases(), context.specialists())
    if await context.performer.perform(raw, made):
        for specialist, wish in context.specialists().items():
            if wish.spec.task_cluster == name:
                context.ring("Specialist", specialist)
    return made.resync_seconds
