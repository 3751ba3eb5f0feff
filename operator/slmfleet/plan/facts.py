"""What was observed, as values: everything a plan may depend on is in one of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from slmfleet.api.base import Condition
from slmfleet.api.basemodel import BaseModelSpec, BaseModelStatus
from slmfleet.api.router import RouterSpec, RouterStatus
from slmfleet.api.specialist import SpecialistSpec, SpecialistStatus
from slmfleet.api.taskcluster import TaskClusterSpec, TaskClusterStatus
from slmfleet.plan.fleet import Demand
from slmfleet.wire.discovery import DiscoveryResult
from slmfleet.wire.jobs import CurationResult, EvaluationResult, JobFailure, TrainingProgress, TrainingResult
from slmfleet.wire.signals import GatewaySignals


@dataclass(frozen=True)
class Meta:
    """What every object has. `managed`: the operator made it."""

    name: str
    uid: str
    generation: int
    managed: bool = False


@dataclass(frozen=True)
class JobFact:
    """A job as the API server shows it."""

    state: Literal["Running", "Succeeded", "Failed"]
    failure: JobFailure | None = None
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True)
class RouterObject:
    meta: Meta
    spec: RouterSpec
    status: RouterStatus


@dataclass(frozen=True)
class ClusterObject:
    meta: Meta
    spec: TaskClusterSpec
    status: TaskClusterStatus


@dataclass(frozen=True)
class SpecialistObject:
    meta: Meta
    spec: SpecialistSpec
    status: SpecialistStatus


@dataclass(frozen=True)
class BaseObject:
    meta: Meta
    spec: BaseModelSpec
    status: BaseModelStatus


@dataclass(frozen=True)
class ServerFact:
    """One pod of a pool: what it answered when it was asked.

    `message`: what is wrong. `silent`: it did not answer; else it refused something in these words.
    """

    pod: str
    address: str
    ready: bool
    adapters: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    silent: bool = False


@dataclass(frozen=True)
class TrialFact:
    """What one base's trial left in the store."""

    training: TrainingResult | None = None
    evaluation: EvaluationResult | None = None


@dataclass(frozen=True)
class SpecialistFacts:
    """What one Specialist's plan depends on. `trials`: by BaseModel, while the base is on trial. `clusters`: all, since
    declared ones have a say in each other's calls."""

    cluster: ClusterObject | None
    router: RouterObject | None
    bases: Mapping[str, BaseObject]
    jobs: Mapping[str, JobFact]
    curation: CurationResult | None
    progress: TrainingProgress | None
    training: TrainingResult | None
    evaluation: EvaluationResult | None
    signals: tuple[GatewaySignals, ...]
    ray_jobs_served: bool
    now: datetime
    trials: Mapping[str, TrialFact] = field(default_factory=dict)
    clusters: Mapping[str, ClusterObject] = field(default_factory=dict)


@dataclass(frozen=True)
class DenyList:
    """A Router's private deny list: how many values, and a keyed digest of them. The values stay in their Secret."""

    values: int
    digest: str


@dataclass(frozen=True)
class RouterFacts:
    """What one Router's plan depends on. `folders`: of the store, where this is a look that lists them. `earlier_run`:
    the last discovery run in the store of a Router whose status knows of none."""

    clusters: Mapping[str, ClusterObject]
    specialists: Mapping[str, SpecialistObject]
    bases: Mapping[str, BaseObject]
    templates: Mapping[str, ChatTemplate]
    jobs: Mapping[str, JobFact]
    discovery: DiscoveryResult | None
    table: Mapping[str, Any] | None
    claim: Literal["Absent", "Pending", "Bound"]
    secrets: frozenset[str]
    gateways_ready: int
    signals: tuple[GatewaySignals, ...]
    now: datetime
    llm_errors: int = 0
    folders: frozenset[str] | None = None
    deny_list: DenyList | None = None
    earlier_run: int = 0


@dataclass(frozen=True)
class ChatTemplate:
    """What a gateway needs to write a prompt for one base."""

    template: str
    bos: str = ""
    eos: str = ""


@dataclass(frozen=True)
class BaseFacts:
    """What one BaseModel's plan depends on. `calls`: recent calls by adapter."""

    specialists: Mapping[str, SpecialistObject]
    store_prefix: str
    servers: tuple[ServerFact, ...]
    demand: Demand
    now: datetime
    calls: Mapping[str, float] = field(default_factory=dict)
    pod_problem: str | None = None


@dataclass(frozen=True)
class Plan:
    """What should be done: objects to apply, names to delete, the new status and its conditions.

    `status` has no conditions yet; they are merged with the old ones where status is written.
    """

    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()
    events: tuple[tuple[str, str], ...] = ()
    resync_seconds: float | None = None
