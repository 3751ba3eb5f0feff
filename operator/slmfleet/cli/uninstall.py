"""`slmfleet uninstall`: what the chart's pre-delete hook runs, so that nothing of ours goes on working alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slmfleet.cli.problem import fail
from slmfleet.plan.names import MANAGED, OWNER_LABEL

if TYPE_CHECKING:
    from slmfleet.kube.client import Kube

OPERATOR = {"app.kubernetes.io/component": "operator"}


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
    from slmfleet.kube.client import Kube, load_client

    return await remove(Kube(load_client(), namespace), timeout, time.monotonic, asyncio.sleep)


async def remove(
    kube: Kube, timeout: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
) -> list[str]:
    """The operator, then what it made; returns the pods that are still there after `timeout` seconds.

    An operator that is told to end may finish what it is about, and make anew what was removed: nothing else goes
    before its pod is gone, and what is found later goes then.
    """
    from slmfleet.kube.client import CONFIGMAP, DEPLOYMENT, JOB, LEASE, POD, RAYJOB, SERVICE
    from slmfleet.kube.lease import NAME

    end = clock() + timeout
    for found in await kube.list(DEPLOYMENT, OPERATOR):
        await kube.delete(DEPLOYMENT, found["metadata"]["name"])
    while (left := _names(await kube.list(POD, OPERATOR))) and clock() < end:
        await sleep(1)
    while True:
        for kind in (RAYJOB, JOB, DEPLOYMENT, SERVICE, CONFIGMAP):
            for name in _names(await kube.list(kind, MANAGED), OWNER_LABEL):
                await kube.delete(kind, name)
        left = _names(await kube.list(POD, OPERATOR)) + _names(await kube.list(POD, MANAGED), OWNER_LABEL)
        if not left or clock() > end:
            await kube.delete(LEASE, NAME)
            return left
        await sleep(1)


def _names(found: Iterable[Mapping[str, Any]], label: str | None = None) -> list[str]:
    """Of the objects that have the label."""
    return [each["metadata"]["name"] for each in found
            if label is None or label in each["metadata"].get("labels", {})]
