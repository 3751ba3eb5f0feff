"""Names and digests: the same inputs give the same name, on every machine and after every restart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

PART = "slmfleet.dev"
OWNER_LABEL = f"{PART}/owner"
MANAGED = {"app.kubernetes.io/managed-by": "slmfleet"}


def digest(value: Any) -> str:
    """sha256 over canonical JSON, 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def short(value: Any, length: int = 10) -> str:
    return digest(value)[:length]


def object_name(prefix: str, name: str, suffix: str = "", limit: int = 63) -> str:
    """prefix-name-suffix, within the limit: a name too long is cut and told apart by a digest."""
    whole = "-".join(part for part in (prefix, name, suffix) if part)
    if len(whole) <= limit:
        return whole
    room = limit - len(prefix) - len(suffix) - 10
    return "-".join(part for part in (prefix, f"{name[:room].rstrip('-')}-{short(name, 7)}", suffix) if part)


def owner(kind: str, name: str) -> str:
    """Value of the owner label: which loop an event on a child wakes."""
    return object_name(kind.lower(), name).replace("/", ".")


def labels(component: str, kind: str, name: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**MANAGED, "app.kubernetes.io/name": "slmfleet", "app.kubernetes.io/component": component,
            "app.kubernetes.io/instance": name[:63], OWNER_LABEL: owner(kind, name), **(extra or {})}


def owner_reference(kind: str, name: str, uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "slmfleet.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": True,
             "blockOwnerDeletion": False}]
