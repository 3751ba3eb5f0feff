"""From the log to specialists: what the operator does is followed, and the two wishes are applied."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from demo.cluster import Failed, until
from demo.manifests import fill
from demo.sending import rollout_traffic
from demo.steps import Run

SPECIALISTS = ("voice", "banking")
ENDED = ("Refused", "RolledBack", "Promoted")  # stages in which a Specialist waits for nobody
FAILED = "failed"  # a stage that ends in this word


def discover(run_: Run) -> None:
    """Wait for the tasks that the Router finds by itself."""
    run_.cluster.wait("router/fleet", "Discovered", 600)
    found = until(
        "a TaskCluster for each of the two tasks", 120, lambda: narrow_clusters(run_.cluster.list("taskclusters"))
    )
    run_.clusters = dict(zip(SPECIALISTS, found, strict=True))
    run_.say(run_.cluster.kubectl("get", "taskclusters").strip().replace("\n", "\n   "))
    for name in run_.clusters.values():
        for each in (run_.cluster.get("taskcluster", name) or {}).get("status", {}).get("candidates", []):
            run_.say(f"{name}: base {each['name']} {'fits' if each['suitable'] else 'refused'}: {each['reason']}")


def narrow_clusters(items: list[dict[str, Any]]) -> list[str]:
    """What a person would pick: clusters whose answers are a closed set, the two largest, fewer labels first."""
    closed = [item for item in items if 2 <= (item.get("status", {}).get("labels") or 0) <= 200]
    largest = sorted(closed, key=lambda item: -(item["status"].get("calls") or 0))[: len(SPECIALISTS)]
    if len(largest) < len(SPECIALISTS):
        return []
    return [item["metadata"]["name"] for item in sorted(largest, key=lambda item: item["status"]["labels"])]


def specialist(run_: Run, name: str) -> str:
    """The wish for one task. The shadow asks a little less than the gate: it judges fewer calls."""
    floor = run_.options.floors[name]
    return fill(f"specialist-{name}", task_cluster=run_.clusters[name], floor=floor, agreement=round(floor - 0.05, 3),
                steps=run_.options.steps[name])  # fmt: skip


def apply_specialists(run_: Run) -> None:
    """One wish a task. From here on the operator does everything."""
    for name in SPECIALISTS:
        run_.cluster.apply(specialist(run_, name))
        gate = (run_.cluster.get("specialist", name) or {})["spec"]["gate"]
        run_.gates[name] = {"floor": float(gate["floor"]), "margin": float(gate["margin"])}


def follow(run_: Run, seconds: float, done: Callable[[dict[str, dict[str, Any]]], bool], what: str) -> None:
    """Print `kubectl get slm` whenever it changes, until `done` says so of the Specialists."""

    def look() -> bool:
        items = {item["metadata"]["name"]: item for item in run_.cluster.list("specialists")}
        note_training(run_)
        text = run_.cluster.kubectl("get", "specialists").strip()
        if text != run_.shown:
            run_.shown = text
            run_.say(text.replace("\n", "\n   ") + "\n")
        return done(items)

    try:
        until(what, seconds, look)
    except Failed as error:
        raise Failed(f"{error}\n{run_.cluster.explain('specialists')}") from error


def stage_of(item: dict[str, Any]) -> str:
    return (item.get("status") or {}).get("stage") or ""


def note_training(run_: Run) -> None:
    """Wall time of the training jobs, which is what they cost; noted now because jobs are cleaned up."""
    for job in run_.cluster.list("jobs", "app.kubernetes.io/component=training"):
        name, status = job["metadata"]["labels"].get("app.kubernetes.io/instance", ""), job.get("status", {})
        if status.get("startTime"):
            end = status.get("completionTime") or datetime.now().astimezone().isoformat()
            spent = datetime.fromisoformat(end) - datetime.fromisoformat(status["startTime"])
            run_.training_seconds.setdefault(name, {})[job["metadata"]["name"]] = spent.total_seconds()


def has_ended(item: dict[str, Any]) -> bool:
    return stage_of(item) in ENDED or stage_of(item).endswith(FAILED)


def wants_traffic(item: dict[str, Any]) -> bool:
    """Whether calls are needed for anything to go on, or nothing will go on any more."""
    return stage_of(item).startswith(("Placing", "Shadow")) or has_ended(item)


def train_and_roll_out(run_: Run) -> None:
    """Dataset, base, training, gate, shadow, canary: until both serve everything or were refused."""
    follow(run_, 1500, lambda items: any(map(wants_traffic, items.values())), "a Specialist's training and gate")
    with rollout_traffic(run_):
        follow(run_, 1500, lambda items: all(has_ended(i) for i in items.values()), "both rollouts")
    for name, item in ((name, run_.cluster.get("specialist", name) or {}) for name in SPECIALISTS):
        status = item.get("status", {})
        run_.outcomes[name] = stage_of(item)
        run_.note(f"{name}: {stage_of(item)}, score {status.get('score')}, weight {status.get('weightPercent')} %, "
                  f"base {status.get('base')}: {status.get('baseReason')}")  # fmt: skip


def bad_revision(run_: Run) -> None:
    """A second revision, made bad on purpose: the canary takes it back and no client notices."""
    if run_.outcomes.get("voice") != "Promoted":
        run_.note("the bad revision was left out: there is no stable revision of voice to roll back to")
        return
    run_.cluster.apply(fill("specialist-voice-bad", task_cluster=run_.clusters["voice"]))
    with rollout_traffic(run_, "bad"):
        follow(run_, 900, lambda items: stage_of(items["voice"]) == "RolledBack", "the bad revision's rollback")
    ended = (run_.cluster.get("specialist", "voice") or {})["status"]["history"][0]
    run_.note(f"voice: bad revision {ended['revision']} {ended['outcome']}: {ended.get('reason', '')}")
    run_.cluster.apply(specialist(run_, "voice"))
    follow(run_, 300, lambda items: stage_of(items["voice"]) == "Promoted", "the good revision's return")


def idle(run_: Run) -> None:
    """No calls: the pool goes to zero."""

    def pool() -> dict[str, Any]:
        return (run_.cluster.get("basemodel", "tiny") or {}).get("status", {})

    until("the pool at zero", run_.options.idle_seconds + 240, lambda: pool().get("replicas", 0) == 0)
    for each in reversed(pool().get("scalingHistory", [])):
        run_.note(f"pool tiny: {each['previous']} to {each['replicas']} servers at {each['time']}: {each['reason']}")
