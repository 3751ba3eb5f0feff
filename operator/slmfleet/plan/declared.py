"""Declared TaskClusters: what jobs and gateways are told of them, and what a dataset waits for.

A job gets them as manifests, in an annotation of its pod that the pod reads as a file (see `redaction`): nobody can
change them under it. The same file is what `slmfleet curate` takes on a laptop.

A declared task needs no discovery: its calls are those that its signature takes, up to the time at which the inputs of
a revision were fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.specialist import TrainingStatus
from slmfleet.plan.facts import ClusterObject, JobFact, RouterObject
from slmfleet.plan.formats import output
from slmfleet.plan.names import PART
from slmfleet.plan.redaction import RULES, Told
from slmfleet.wire import routes
from slmfleet.wire.declared import DeclaredTask, manifests

FILE = "tasks.yaml"
PATH = f"{RULES}/{FILE}"
ANNOTATION = f"{PART}/declared-tasks"
LIMIT_BYTES = 131_072  # of the 262,144 that all annotations of an object may have
FIELDS = "fingerprints, systemPrompt, tools or responseFormat"


@dataclass(frozen=True)
class Source:
    """What the dataset of a declared task is made from. `until`: only calls before; `others`: who else takes calls."""

    task: DeclaredTask
    others: Sequence[DeclaredTask]
    until: datetime


def task_of(cluster: ClusterObject) -> DeclaredTask | None:
    """A TaskCluster as its author declared it; None of one that discovery made, or that says not how it is known."""
    signature = cluster.spec.signature
    stated = routes.Signature(
        fingerprints=list(signature.fingerprints), tools=list(signature.tools),
        response_format=signature.response_format, system_prompt=signature.system_prompt)
    if cluster.meta.managed or not stated.given:
        return None
    return DeclaredTask(name=cluster.meta.name, description=cluster.spec.description, signature=stated,
                        output_format=output(cluster.spec.output_format))


def tasks_of(router: str, clusters: Mapping[str, ClusterObject]) -> list[DeclaredTask]:
    """Those of one Router, by name."""
    mine = (clusters[name] for name in sorted(clusters) if clusters[name].spec.router == router)
    return [task for task in map(task_of, mine) if task is not None]


# --- what a job is told ------------------------------------------------------------------------------------------

def fitting(tasks: Sequence[DeclaredTask], first: DeclaredTask | None = None) -> list[DeclaredTask]:
    """As many as an annotation takes: `first`, then the shortest."""
    def size(task: DeclaredTask) -> int:
        return len(manifests([task]).encode())

    kept, room = [], LIMIT_BYTES
    for task in ([first] if first else []) + sorted(tasks, key=size):
        room -= size(task)
        if room < 0:
            break
        kept.append(task)
    return kept


def told(tasks: Sequence[DeclaredTask], rules: Told) -> Told:
    """`rules` with the tasks as one more file."""
    return replace(rules, annotations={**rules.annotations, ANNOTATION: manifests(tasks)},
                   files={**rules.files, FILE: ANNOTATION}) if tasks else rules


def told_for(source: Source, rules: Told) -> Told:
    """What curation needs: the task whole, and of the others how their calls are known."""
    others = [DeclaredTask(name=each.name, signature=each.signature) for each in source.others
              if each.name != source.task.name]
    return told(fitting(others, source.task), rules)


# --- what it waits for -------------------------------------------------------------------------------------------

def held(cluster: ClusterObject, router: RouterObject, minimum: int) -> Condition | None:
    """Why no dataset can be made of a declared task yet, or None."""
    task, name = task_of(cluster), router.meta.name
    if task is None:
        return conditions.false(
            "DatasetReady", "NoSignature",
            f"TaskCluster {cluster.meta.name} was declared by hand and does not say how its calls are recognised: give "
            f"spec.signature {FIELDS}, or the Specialist an artifact")
    if not fitting([], task):
        return conditions.false("DatasetReady", "DeclarationTooLarge",
                                f"TaskCluster {cluster.meta.name} has more than {LIMIT_BYTES:,} bytes, which no job "
                                "can be told; shorten spec.outputFormat")
    if router.spec.capture.identity_secret_ref is None:
        return conditions.unknown("DatasetReady", "IdentityMissing",
                                  f"the log of Router {name} cannot be opened: spec.capture.identitySecretRef must "
                                  "name a Secret with the age private key")
    if router.status.captured < minimum:
        off = "" if router.spec.capture.enabled else "; spec.capture.enabled is off, and no call is added"
        return conditions.unknown("DatasetReady", "WaitingForCalls",
                                  f"{router.status.captured:,} calls in the log of Router {name}, a dataset has at "
                                  f"least {minimum:,}{off}")
    return None


def worth_another_try(pin: TrainingStatus, fact: JobFact | None, router: RouterObject, now: datetime) -> bool:
    """Whether a dataset that came out too small can be large enough by now: as many calls as were missing have come
    since, of whichever task, and the log has rested as it does between two discoveries."""
    if pin.until is None or fact is None or fact.failure is None or fact.failure.reason != "TooFewExamples":
        return False
    details = fact.failure.details
    missing = max(1, int(details.get("wanted", 0)) - int(details.get("found", 0)))
    before = pin.log_calls or 0
    come = router.status.captured - (before if router.status.captured >= before else 0)
    return come >= missing and (now - pin.until).total_seconds() >= router.spec.discovery.interval_seconds
