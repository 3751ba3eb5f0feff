"""Least rights, by the API server's own audit log of the line: what was granted was used, and nothing was denied."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from demo.steps import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Right = tuple[str, str, str]  # API group, resource (with its subresource), verb

# Granted for what the line does not meet, each with the reason.
RARE = {
    ("ray.io", "rayjobs", "*"): "KubeRay is not installed here; tests/kube/test_rayjob.py uses them",
    ("batch", "jobs", "delete"): "a job that nobody needs any more, or a failed one that is tried again",
}


def test_every_right_was_used_and_none_was_missed(line: Run) -> None:
    if not line.own_cluster:
        pytest.skip("the audit log of a cluster of the user's is not ours to read")
    entries = _audit_log(line)
    denied = [f"{e['user']['username']}: {e['verb']} {e['requestURI']}" for e in entries if _code(e) == 403]
    assert denied == []
    hooks = list(yaml.safe_load_all(line.cluster.helm("get", "hooks", "slmfleet")))
    roles = [*line.cluster.list("roles.rbac.authorization.k8s.io", "app.kubernetes.io/name=slmfleet"), *hooks]
    rules = {role["metadata"]["name"]: role["rules"] for role in roles if role and role["kind"] == "Role"}
    assert sorted(rules) == ["slmfleet-gateway", "slmfleet-operator", "slmfleet-uninstall"]
    user = f"system:serviceaccount:{line.cluster.namespace}:"
    idle = {account: {right for right in _rights(granted) - _used(entries, user + account) if not _is_rare(right)}
            for account, granted in rules.items()}
    assert idle == {account: set() for account in rules}, "never used: take them away, or say above what they are for"


def _audit_log(line: Run) -> list[dict[str, Any]]:
    """What the line's own service accounts asked of the API server."""
    log = line.cluster.kubeconfig.parent / "log" / "audit.log"
    mark = f"system:serviceaccount:{line.cluster.namespace}:"
    return [json.loads(row) for row in log.read_text("utf-8").splitlines() if mark in row]


def _code(entry: dict[str, Any]) -> int:
    return int((entry.get("responseStatus") or {}).get("code") or 0)


def _used(entries: Iterable[dict[str, Any]], user: str) -> set[Right]:
    found = set()
    for entry in entries:
        target = entry.get("objectRef")
        if entry["user"]["username"] != user or not target or "resource" not in target:
            continue
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        found.add((target.get("apiGroup", ""), resource, entry["verb"]))
        if entry["verb"] == "patch" and _code(entry) == 201:  # server-side apply of what was not there
            found.add((target.get("apiGroup", ""), resource, "create"))
    return found


def _rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    return {(group, resource, verb) for rule in rules for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


def _is_rare(right: Right) -> bool:
    return right in RARE or (*right[:2], "*") in RARE
