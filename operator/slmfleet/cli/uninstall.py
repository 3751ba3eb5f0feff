"""`slmfleet uninstall`: what the chart's pre-delete hook runs, so that nothing of ours goes on working alone."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from slmfleet.cli.problem import fail


def uninstall(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the release.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the last pod.")] = 120,
) -> None:
    """Remove gateways, pools and jobs. Kept: the kinds and their objects, the store's claim, and the keys."""
    from slmfleet.kube.client import ApiError

    try:
        left = asyncio.run(_remove(namespace, timeout))
    except ApiError as error:
        fail(f"uninstall of namespace {namespace}: {error}")
    if left:
        fail(f"after {timeout:.0f} s these pods are still there: {', '.join(left)}; delete them by hand", 1)
    typer.echo("removed gateways, pools and jobs; "
               "kept CRDs and their objects, the store's claim and Secret slmfleet-keys")


async def _remove(namespace: str, timeout: float) -> list[str]:
    from slmfleet.kube.client import (
        CONFIGMAP,
        DEPLOYMENT,
        JOB,
        LEASE,
        POD,
        RAYJOB,
        SERVICE,
        Kube,
        load_client,
    )
    from slmfleet.kube.lease import NAME
    from slmfleet.plan.names import MANAGED, OWNER_LABEL

    kube = Kube(load_client(), namespace)
    # The operator goes first, or it would make again what is removed here.
    for found in await kube.list(DEPLOYMENT, {"app.kubernetes.io/component": "operator"}):
        await kube.delete(DEPLOYMENT, found["metadata"]["name"])
    for kind in (RAYJOB, JOB, DEPLOYMENT, SERVICE, CONFIGMAP):
        for found in await kube.list(kind, MANAGED):
            if OWNER_LABEL in found["metadata"].get("labels", {}):
                await kube.delete(kind, found["metadata"]["name"])
    await kube.delete(LEASE, NAME)
    end = time.monotonic() + timeout
    while True:
        left = [p["metadata"]["name"] for p in await kube.list(POD, MANAGED)
                if OWNER_LABEL in p["metadata"].get("labels", {})]
        if not left or time.monotonic() > end:
            return left
        await asyncio.sleep(1)
