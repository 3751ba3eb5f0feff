"""The loop of a TaskCluster."""

from __future__ import annotations

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context
from slmfleet.kube.client import CLUSTER
from slmfleet.plan import clusters as plan
from slmfleet.plan.attempt import names
from slmfleet.plan.pods import store_prefix
from slmfleet.plan.router import discovery_folder
from slmfleet.wire.discovery import DiscoveryResult
from slmfleet.wire.jobs import CurationResult


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
    curated = None
    if router is not None and (made_by := _dataset(context, name)) is not None:
        curated = context.store.read(store_prefix(router.spec.store.url), f"{made_by}/report.json", CurationResult)
    made = plan.plan_cluster(me, router, found, run, context.bases(), context.specialists(), curated)
    if await context.performer.perform(raw, made):
        for specialist, wish in context.specialists().items():
            if wish.spec.task_cluster == name:
                context.ring("Specialist", specialist)
    return made.resync_seconds


def _dataset(context: Context, cluster: str) -> str | None:
    """Folder of the newest dataset that was made of the task."""
    wishes = (wish for _, wish in sorted(context.specialists().items()) if wish.spec.task_cluster == cluster)
    pinned = next((names(wish) for wish in wishes), None)
    return pinned.dataset if pinned else None
