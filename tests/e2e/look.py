"""What the end-to-end tests look at, and how they judge it."""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpx
from demo import traffic
from demo.steps import Run

Rows = list[dict[str, Any]]


def results(run: Run, stage: str) -> Rows:
    """What the agent saw in one stage."""
    path = run.results / f"{stage}.jsonl"
    return traffic.read_lines(path) if path.exists() else []


def errors(rows: Iterable[dict[str, Any]]) -> list[str]:
    """What clients saw fail, each kind with its count."""
    seen = Counter(
        f"{row['status']} from {row['tier']} of {row['task']}: {row['error']}"
        for row in rows
        if row["error"] is not None or row["status"] != 200
    )
    return [f"{count} times {what}" for what, count in seen.most_common()]


def status(run: Run, kind: str, name: str) -> dict[str, Any]:
    return (run.cluster.get(kind, name) or {}).get("status") or {}


def condition(run: Run, kind: str, name: str, type: str) -> dict[str, Any]:
    found = [c for c in status(run, kind, name).get("conditions") or [] if c["type"] == type]
    return found[0] if found else {}


def within_binomial(good: int, n: int, share: float, z: float = 3.5) -> bool:
    """Whether `good` of `n` is what a share would give, but for about 1 time in 2,000."""
    return abs(good - n * share) <= z * math.sqrt(n * share * (1 - share)) + 1


def signals(run: Run) -> dict[str, Any]:
    """The gateway's own counters."""
    pods = run.cluster.list("pods", "slmfleet.dev/gateway=fleet")
    address = next(p["status"]["podIP"] for p in pods if p["status"].get("phase") == "Running")
    return dict(httpx.get(f"http://{address}:9090/signals", timeout=10, trust_env=False).json())


def pool_pods(run: Run) -> Rows:
    """Pods of the pool that are not on their way out."""
    return [p for p in run.cluster.list("pods", "slmfleet.dev/pool=tiny") if not p["metadata"].get("deletionTimestamp")]


def served_by_adapter(address: str) -> dict[str, float]:
    """Requests by adapter, from Triton's own metrics."""
    text = httpx.get(f"http://{address}:8002/metrics", timeout=10, trust_env=False).text
    found: dict[str, float] = {}
    for each in text.splitlines():
        if each.startswith("slm_adapter_requests_total{"):
            labels, _, value = each.partition("} ")
            adapter = labels.split('adapter="')[1].split('"')[0]
            found[adapter] = found.get(adapter, 0) + float(value)
    return found


def diff(run: Run, manifest: str) -> str:
    """`kubectl diff` of a manifest, server-side; empty where nothing would change."""
    from demo.cluster import FIELD_MANAGER, find

    command = [find("kubectl", run.cluster.path), "-n", run.cluster.namespace, "diff", "--server-side",
               f"--field-manager={FIELD_MANAGER}", "-f", "-"]
    done = subprocess.run(command, input=manifest, env=run.cluster.env, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise AssertionError(done.stderr)
    return done.stdout


def exec_in(run: Run, pod: str, *words: str) -> subprocess.CompletedProcess[str]:
    from demo.cluster import find

    command = [find("kubectl", run.cluster.path), "-n", run.cluster.namespace, "exec", pod, "--", *words]
    return subprocess.run(command, env=run.cluster.env, capture_output=True, text=True, timeout=60, check=False)


def store_json(run: Run, path: str) -> dict[str, Any]:
    return dict(json.loads((run.store / path).read_text("utf-8")))
