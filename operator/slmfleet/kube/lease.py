"""One operator at a time: a Lease (coordination.k8s.io) of our own.

kopf's peering freezes both of two operators of equal priority; a Lease does not. What this does not cover: a holder
that is frozen for longer than the lease and wakes in the middle of a write. Such a write is harmless here, since every
name derives from its inputs and status is replaced only at the version that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from slmfleet.kube.client import LEASE, ApiError, Conflict, Kube, Object

NAME = "slmfleet-operator"
DURATION_SECONDS = 30
RENEW_SECONDS = 5


def _now() -> datetime:
    return datetime.now(UTC)


class Lease:
    """Held by `holder` until it stops renewing for `DURATION_SECONDS`."""

    def __init__(self, kube: Kube, holder: str, clock: Callable[[], datetime] = _now) -> None:
        self._kube = kube
        self._holder = holder
        self._clock = clock

    async def acquire(self) -> None:
        """Return once it is ours."""
        while not await self._try():  # noqa: ASYNC110 - another process frees it
            await asyncio.sleep(1)

    async def keep(self) -> None:
        """Renew for ever; return when it was lost, so that the caller can end the process."""
        last = self._clock()
        while (self._clock() - last).total_seconds() < DURATION_SECONDS:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                if not await self._try():
                    return
                last = self._clock()
            except ApiError:
                continue

    async def release(self) -> None:
        """Give it up, so that a successor need not wait."""
        found = await self._kube.find(LEASE, NAME)
        if found and found["spec"].get("holderIdentity") == self._holder:
            found["spec"]["holderIdentity"] = ""
            await self._kube.replace(found)

    async def _try(self) -> bool:
        found = await self._kube.find(LEASE, NAME)
        now = self._clock()
        try:
            if found is None:
                await self._kube.create(self._body({"metadata": {"name": NAME}}, now))
                return True
            if not self._free(found, now):
                return False
            await self._kube.replace(self._body(found, now))
            return True
        except Conflict:
            return False

    def _free(self, found: Object, now: datetime) -> bool:
        spec = found.get("spec", {})
        if spec.get("holderIdentity") in (None, "", self._holder):
            return True
        renewed = datetime.fromisoformat(spec["renewTime"].replace("Z", "+00:00"))
        return (now - renewed).total_seconds() > float(spec.get("leaseDurationSeconds", DURATION_SECONDS))

    def _body(self, obj: Object, now: datetime) -> Object:
        spec = {"holderIdentity": self._holder, "leaseDurationSeconds": DURATION_SECONDS,
                "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
        return {"apiVersion": LEASE.api_version, "kind": "Lease", **obj, "spec": spec}
