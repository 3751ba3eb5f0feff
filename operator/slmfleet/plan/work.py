"""The plan of one Specialist in the making: what its steps write into, and what they all may do to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.basemodel import BaseModelSpec
from slmfleet.api.specialist import Evaluation, HistoryEntry, Revision, RolloutStatus, SpecialistStatus, Training
from slmfleet.plan.config import Config
from slmfleet.plan.facts import Plan, SpecialistFacts, SpecialistObject
from slmfleet.plan.jobs import evaluation_pod, job, ray_job, training_pod
from slmfleet.plan.pods import Object, store_prefix

AT_REST = ("Promoted", "Suspended", "Waiting")  # an event wakes it, or the resync
Outcome = Literal["Promoted", "RolledBack", "Refused", "Superseded"]


@dataclass
class Work:
    """A status to change, conditions to state, objects to apply, names to delete. `notes` are conditions that are no
    part of Ready."""

    config: Config
    me: SpecialistObject
    facts: SpecialistFacts
    changes: dict[str, Any] = field(default_factory=dict)
    parts: list[Condition] = field(default_factory=list)
    notes: list[Condition] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    deletes: list[tuple[str, str]] = field(default_factory=list)
    stopped: Condition | None = None
    held: Condition | None = None
    stage: str | None = None

    def base_specs(self) -> dict[str, BaseModelSpec]:
        """Specs of the BaseModels by name."""
        return {name: base.spec for name, base in self.facts.bases.items()}

    def train(self, name: str, base: str, dataset: str, out: str, scratch: str, training: Training) -> None:
        """Make a training job: a RayJob where that kind is served, else a Job that starts Ray in its own pod."""
        pod = training_pod(self.config, dataset, self._source(base), out, scratch, training, self._prefix())
        owner = (self.me.meta.name, self.me.meta.uid)
        if self.facts.ray_jobs_served:
            self.objects.append(ray_job(name, "Specialist", owner, pod, training))
            return
        self.objects.append(job(name, "Specialist", owner, "training", pod, retries=training.backoff_limit,
                                deadline_seconds=training.deadline_seconds, queue=training.queue))

    def evaluate(self, name: str, base: str, dataset: str, model: str, out: str) -> None:
        """Make a job of the gate."""
        cluster, spec = self.facts.cluster, self.me.spec
        assert cluster is not None
        pod = evaluation_pod(self.config, dataset, self._source(base), model, out, spec.gate, cluster.spec.metric,
                             spec.training.resources, self._prefix())
        self.objects.append(job(name, "Specialist", (self.me.meta.name, self.me.meta.uid), "evaluation", pod,
                                retries=2, deadline_seconds=3600))

    def _source(self, base: str) -> str:
        return self.facts.bases[base].spec.source.reference

    def _prefix(self) -> str:
        assert self.facts.router is not None
        return store_prefix(self.facts.router.spec.store.url)

    def state(self, condition: Condition, stage: str, *, stop: bool = False) -> None:
        """Where the Specialist stands. `stop`: nothing more happens before somebody changes something."""
        self.parts.append(condition)
        self.stage = stage
        if stop:
            self.stopped = condition

    def hold(self, message: str) -> None:
        """It is suspended. What was stated before tells what serves meanwhile."""
        self.held, self.stage = conditions.suspended(message), "Suspended"

    def end(self, revision: Revision, outcome: Outcome, reason: str) -> None:
        """Write the end of a revision into the history, newest first."""
        entry = HistoryEntry(revision=revision.name, artifact=revision.artifact, key=revision.key, outcome=outcome,
                             reason=conditions.shortened(reason), trigger=revision.trigger, time=self.facts.now)
        before = self.changes.get("history", list(self.me.status.history))
        self.changes["history"] = [entry, *before][:20]

    def supersede_candidate(self, reason: str) -> None:
        """The candidate, if there is one, gives way."""
        candidate = self.me.status.candidate
        if candidate is None:
            return
        self.end(candidate, "Superseded", reason)
        self.changes |= {"candidate": None, "rollout": RolloutStatus()}

    def plan(self) -> Plan:
        """The finished plan."""
        status = self.me.status.model_copy(update=self.changes)
        status = status.model_copy(update={"stage": self.stage, "weight_percent": _weight(status)})
        if status.stable is not None and status.candidate is None and status.stable.evaluation and self.stopped is None:
            status = status.model_copy(update={"score": score(status.stable.evaluation)})
        waiting = self.stopped is None and self.stage not in AT_REST
        return Plan(apply=tuple(self.objects), delete=tuple(self.deletes),
                    status=status.model_dump(by_alias=True, exclude_none=True, mode="json", exclude={"conditions"}),
                    conditions=(*conditions.summary(self.parts, stopped=self.stopped, held=self.held), *self.notes),
                    resync_seconds=1.0 if waiting else None)


def score(verdict: Evaluation) -> str:
    """The estimate with its interval."""
    return score_of(verdict.estimate, verdict.lower, verdict.upper)


def score_of(estimate: float, lower: float, upper: float) -> str:
    return f"{estimate:.3f} [{lower:.3f}, {upper:.3f}]"


def _weight(status: SpecialistStatus) -> int:
    if status.stable is not None:
        return 100
    return status.rollout.weight_percent if status.candidate is not None else 0
