"""The end of a run as one value: what must be the same however often the operator was killed on the way.

Left out on purpose: times, counters, and digests of data (two runs log calls with other ids and times).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from demo.steps import Run

STATUS = {
    "Router": ("url", "readyReplicas"),
    "Specialist": ("base", "router", "stage", "weightPercent"),
    "BaseModel": ("chosen", "adapters"),
    "TaskCluster": ("labels", "specialist", "run"),
}


def final_state(run: Run) -> dict[str, Any]:
    """Objects by kind and name with what is theirs; workloads by role."""
    from demo.cluster import KINDS

    objects = {f"{o['kind']}/{o['metadata']['name']}": _object(o) for o in run.cluster.list(KINDS)}
    workloads = Counter(
        f"{o['kind']}/{o['metadata']['labels'].get('app.kubernetes.io/component')}"
        f"/{o['metadata']['labels'].get('slmfleet.dev/owner')}"
        for o in run.cluster.list("deployments,jobs,configmaps,services", "app.kubernetes.io/managed-by=slmfleet")
        if "labels" in o["metadata"])
    return {"objects": objects, "workloads": dict(sorted(workloads.items()))}


def _object(found: dict[str, Any]) -> dict[str, Any]:
    status = found.get("status") or {}
    kept = {key: status.get(key) for key in STATUS[found["kind"]]}
    conditions = sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions") or [])
    outcomes = [entry["outcome"] for entry in status.get("history") or []]
    roles = sorted(role for role in ("stable", "candidate") if role in status)
    return {**kept, "conditions": conditions, "outcomes": outcomes, "roles": roles,
            "generation": found["metadata"]["generation"]}


def digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def doubles(run: Run) -> list[str]:
    """Jobs of one owner and step that exist twice, and pods that one job has more than one of."""
    jobs = run.cluster.list("jobs", "app.kubernetes.io/managed-by=slmfleet")
    marks = [j["metadata"]["labels"] for j in jobs]
    steps = Counter((mark["slmfleet.dev/owner"], mark["app.kubernetes.io/component"]) for mark in marks)
    pods = Counter(p["metadata"]["labels"].get("job-name", "")
                   for p in run.cluster.list("pods", "app.kubernetes.io/managed-by=slmfleet")
                   if p["status"].get("phase") != "Failed")
    pods.pop("", None)
    return [f"{step}: {n} jobs" for step, n in steps.items() if n > 1] + \
        [f"job {job}: {n} pods" for job, n in pods.items() if n > 1]
