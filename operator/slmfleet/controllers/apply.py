"""Where plans are performed: objects applied, names deleted, events told, status written once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from slmfleet.api import conditions
from slmfleet.api.base import Condition, Status
from slmfleet.kube.client import EVENT, KINDS, ApiError, Conflict, Kube, Object
from slmfleet.plan.facts import Plan
from slmfleet.plan.names import digest

Volatile = Callable[[dict[str, Any]], dict[str, Any]]
VOLATILE_SECONDS = 10.0
REAPPLY_SECONDS = 60.0
SUMMARIES = ("Ready", "Reconciling", "Stalled")
ONCE = ("Job", "RayJob", "Specialist")
log = logging.getLogger("slmfleet.apply")


class Performer:
    """Performs plans on one namespace.

    An object that was applied is not applied again while it stays the same, but for a repair once a minute.
    """

    def __init__(self, kube: Kube, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._kube = kube
        self._clock = clock
        self._applied: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._written: dict[tuple[str, str], datetime] = {}

    async def perform(self, obj: Object, plan: Plan, volatile: Volatile | None = None) -> bool:
        """Apply, delete, then write status if it changed. Returns whether status was written."""
        for wanted in plan.apply:
            await self._apply(wanted)
        for kind, name in plan.delete:
            await self._kube.delete(KINDS[kind], name)
            self._applied.pop((kind, name), None)
        return await self._write(obj, plan, volatile)

    async def _apply(self, wanted: Object) -> None:
        key, mark, now = (wanted["kind"], wanted["metadata"]["name"]), digest(wanted), self._clock()
        last = self._applied.get(key)
        if last is not None and last[0] == mark and (now - last[1]).total_seconds() < REAPPLY_SECONDS:
            return
        await (self._create if wanted["kind"] in ONCE else self._kube.apply)(wanted)
        self._applied[key] = (mark, now)

    async def _create(self, wanted: Object) -> None:
        """A job cannot be changed: one that an operator with other images made goes on as it is. A Specialist must not
        be: from the moment it is there it is its user's."""
        try:
            await self._kube.create(wanted)
        except Conflict:
            return
        except ApiError as error:
            if wanted["kind"] != "Specialist" or not 400 <= error.status < 500:
                raise
            # A quota or a policy: the Router that suggests it goes on, with its gateways and its counts.
            log.warning("Specialist %s was refused: %s", wanted["metadata"]["name"], error)

    def forget(self, kind: str, name: str) -> None:
        """The object is gone: make it again at once where it is still wanted."""
        self._applied.pop((kind, name), None)

    async def _write(self, obj: Object, plan: Plan, volatile: Volatile | None) -> bool:
        before: dict[str, Any] = obj.get("status") or {}
        old = Status.model_validate(before).conditions
        generation = obj["metadata"].get("generation", 0)
        now = self._clock()
        merged = conditions.merge(old, plan.conditions, generation=generation, now=now)
        status = {**plan.status, "observedGeneration": generation,
                  "conditions": [c.model_dump(by_alias=True, exclude_none=True, mode="json") for c in merged]}
        if status == before:
            return False
        key = (obj["kind"], obj["metadata"]["name"])
        if volatile is not None and volatile(status) == volatile(before):
            last = self._written.get(key)
            if last is not None and (now - last).total_seconds() < VOLATILE_SECONDS:
                return False
        await self._kube.write_status(obj, status)
        self._written[key] = now
        await self._tell(obj, old, merged, plan.events)
        return True

    async def _tell(self, obj: Object, old: list[Condition], new: list[Condition],
                    events: Iterable[tuple[str, str]]) -> None:
        """One event for each condition whose reason changed, and those of the plan."""
        before = {c.type: c.reason for c in old}
        told = [(c.reason, f"{c.type}: {c.message}", c.status == "False" and c.reason != conditions.SUSPENDED)
                for c in new if before.get(c.type) != c.reason and c.type not in SUMMARIES]
        told += [(reason, message, False) for reason, message in events]
        await asyncio.gather(*(self._event(obj, *event) for event in told))

    async def _event(self, obj: Object, reason: str, message: str, warning: bool) -> None:
        meta, now = obj["metadata"], self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        mark = digest([meta["uid"], reason, message, now])[:12]
        body = {
            "apiVersion": EVENT.api_version, "kind": "Event", "metadata": {"name": f"{meta['name']}.{mark}"},
            "involvedObject": {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": meta["name"],
                               "namespace": meta["namespace"], "uid": meta["uid"]},
            "reason": reason, "message": message[:1024],
            "type": "Warning" if warning else "Normal", "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "slmfleet"},
            "reportingComponent": "slmfleet", "reportingInstance": "slmfleet-operator",
        }
        try:
            await self._kube.create(body)
        except ApiError as error:
            log.info("event %s of %s was not written: %s", reason, meta["name"], error)


