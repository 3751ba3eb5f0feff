"""The smallest admitted object of each kind, and a way to change one field of it."""

from __future__ import annotations

import copy
from enum import Enum
from typing import Any

Manifest = dict[str, Any]

RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
DIGEST = "sha256:" + "ab" * 32


class _Mark(Enum):
    """A value that is none, with a name that is the same in every process (pytest-xdist compares test names)."""

    ABSENT = "absent"


ABSENT = _Mark.ABSENT

_SPECS: dict[str, Manifest] = {
    "Router": {
        "llm": {"url": "https://llm.example/v1"},
        "store": {"claimName": "store"},
        "capture": {"recipients": [RECIPIENT]},
    },
    "TaskCluster": {"router": "agents"},
    "Specialist": {"taskCluster": "intents"},
    "BaseModel": {
        "source": {"storePath": "bases/tiny"},
        "parameters": 1_000_000,
        "contextTokens": 512,
        "licence": "Apache-2.0",
        "memory": "1Gi",
    },
}


def manifest(kind: str, namespace: str, name: str = "one") -> Manifest:
    return {
        "apiVersion": "slmfleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": copy.deepcopy(_SPECS[kind]),
    }


def changed(base: Manifest, path: str, value: Any) -> Manifest:
    """A copy with the field at a dotted path set, or taken away with ABSENT."""
    copied = copy.deepcopy(base)
    *parents, last = path.split(".")
    node = copied
    for parent in parents:
        node = node.setdefault(parent, {})
    if value is ABSENT:
        node.pop(last)
    else:
        node[last] = value
    return copied
