"""What the watches have shown of this namespace, by kind and name: a reconcile reads here, not from the server.

Filled by one list of each kind before any loop starts, then kept by events. It may lag behind our own writes; a stale
status write is refused by the server (its resource version is older) and tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slmfleet.kube.client import BASE, CLUSTER, DEPLOYMENT, JOB, POD, ROUTER, SPECIALIST, Kind, Kube, Object
from slmfleet.plan.names import MANAGED

OWN = (ROUTER, CLUSTER, SPECIALIST, BASE)
CHILDREN = (DEPLOYMENT, JOB, POD)


class Cache:
    """Objects by kind and name."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}

    async def fill(self, kube: Kube) -> None:
        """One list of each kind; children only where they are ours."""
        for kind in OWN:
            self._objects[kind.kind] = {o["metadata"]["name"]: o for o in await kube.list(kind)}
        for kind in CHILDREN:
            self._objects[kind.kind] = {o["metadata"]["name"]: o for o in await kube.list(kind, MANAGED)}

    def put(self, obj: Mapping[str, Any]) -> None:
        """Keep the newer of two versions."""
        kind, name = obj["kind"], obj["metadata"]["name"]
        known = self._objects.setdefault(kind, {}).get(name)
        if known is None or _version(known) <= _version(obj) or known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._objects[kind][name] = dict(obj)

    def drop(self, obj: Mapping[str, Any]) -> None:
        known = self._objects.get(obj["kind"], {})
        name = obj["metadata"]["name"]
        if name in known and known[name]["metadata"]["uid"] == obj["metadata"]["uid"]:
            del known[name]

    def get(self, kind: Kind, name: str) -> Object | None:
        return self._objects.get(kind.kind, {}).get(name)

    def all(self, kind: Kind, labels: Mapping[str, str] | None = None) -> Iterator[Object]:
        """All of a kind with these labels, by name."""
        for _, obj in sorted(self._objects.get(kind.kind, {}).items()):
            own = obj["metadata"].get("labels", {})
            if all(own.get(key) == value for key, value in (labels or {}).items()):
                yield obj


def _version(obj: Mapping[str, Any]) -> int:
    """Resource versions of one server are comparable integers (KEP-5504)."""
    return int(obj["metadata"].get("resourceVersion") or 0)
