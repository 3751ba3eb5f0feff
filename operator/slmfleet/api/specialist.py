"""Specialist: the wish to serve one task with a small model."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slmfleet.api.base import Digest, Model, Name, Resources, Short, Status, Text, list_map, no_parent, rules
from slmfleet.api.basemodel import CapabilityName


class BaseLimits(Model):
    """What an automatically chosen base must keep to."""

    max_parameters: int | None = Field(None, ge=1, le=10_000_000_000, description="Most parameters.")
    max_memory: str | None = Field(None, max_length=16, pattern=r"^[0-9]+(Mi|Gi)$", description="Most memory.")
    licences: list[Annotated[str, Field(max_length=64)]] | None = Field(
        None, max_length=64, description="Accepted SPDX identifiers; default: permissive ones."
    )
    min_context_tokens: int | None = Field(None, ge=1, description="Least context; default: what the task needs.")
    outputs_may_train: bool = Field(False, description="Whether its outputs must be allowed to train other models.")
    capabilities: list[CapabilityName] = Field(
        default_factory=list, max_length=16, description="Capabilities that the BaseModel must state."
    )


class Base(Model):
    """Which BaseModel. Without a name the best one that keeps to the limits is chosen."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("!has(self.name) || !has(self.trial)", "base.trial chooses among several: not with base.name", ".trial"),
        ),
    )
    name: Name | None = Field(None, description="Name of a BaseModel; absent: chosen automatically.")
    limits: BaseLimits = Field(default_factory=BaseLimits, description="Limits on the choice.")
    trial: int | None = Field(
        None, ge=2, le=8, description="The best so many are trained a little, and the best measured one is chosen."
    )
    trial_percent: float = Field(10, gt=0, le=100, description="Of a training's steps (of 600 where it names none).")


class Dataset(Model):
    """What is trained on (S2)."""

    minimum_examples: int = Field(500, ge=10, le=10_000_000, description="Fewest training examples.")
    heldout_percent: float = Field(20, gt=0, le=50, description="Latest conversations kept for the gate.")


class Training(Model):
    """How it is trained (S5)."""

    method: Literal["LoRA", "QLoRA", "DoRA", "Full", "Distill"] = Field(
        "LoRA",
        description="Fine-tuning method. Of DoRA and Full an adapter of the rank is extracted, judged and served; "
        "Distill weighs recorded answers by how far they agree.",
    )
    rank: int = Field(16, ge=1, le=256, description="Rank of the adapter.")
    alpha: float = Field(32, gt=0, le=1024, description="Scale of the adapter in training; Full has none.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak rate; default: the recipe's.")
    steps: int | None = Field(None, ge=1, le=10_000_000, description="Optimiser steps; default: the recipe's.")
    batch_size: int | None = Field(None, ge=1, le=4096, description="Examples a step; default: the recipe's.")
    seed: int = Field(0, ge=0, le=2_147_483_647, description="Seed of everything random.")
    workers: int = Field(2, ge=1, le=64, description="Ray Train workers.")
    resources: Resources = Field(
        default_factory=lambda: Resources(cpu="1", memory="4Gi"), description="Of the training pod."
    )
    backoff_limit: int = Field(3, ge=0, le=10, description="Retries of the whole job.")
    deadline_seconds: int = Field(7200, ge=60, le=1_209_600, description="Longest training.")
    queue: Name | None = Field(None, description="Kueue LocalQueue that the training job waits in.")


class Gate(Model):
    """What it must show on held-out traffic before any call reaches it."""

    floor: float = Field(0.9, ge=0, le=1, description="Least score of the task's metric.")
    margin: float = Field(0.02, ge=0, le=0.5, description="How far below the floor the interval may reach.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the interval.")
    slice_floor: float | None = Field(
        None, ge=0, le=1, description="Least score of a label, length or language; default: the floor less 0.2."
    )
    require_non_inferiority: bool | None = Field(
        None,
        description="Refuse what agrees with the LLM less, by the margin, than the LLM with itself; default: tell.",
    )
    maximum_latency_seconds: float | None = Field(
        None, gt=0, le=600, description="Most, at the 95th percentile of single calls; default: not judged."
    )


_CRON_FIELD = r"[0-9A-Za-z*,/#-]+"


class Retrain(Model):
    """When it is trained again, from the newest discovery run. Each trigger stands alone; absent: not by that."""

    schedule: str | None = Field(
        None,
        max_length=100,
        description="Times, as five cron fields in UTC, e.g. 0 3 * * 1.",
        json_schema_extra=rules(
            (
                f"self.matches('^{_CRON_FIELD}( {_CRON_FIELD}){{4}}$')",
                "retrain.schedule must be five cron fields: minute, hour, day, month, weekday",
            ),
        ),
    )
    new_examples: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Calls of the task in the log that its dataset did not have."
    )
    drift_percent: float | None = Field(
        None, gt=0, le=100, description="How far the inputs moved since the run before, or the part that is new."
    )
    escalation_percent: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Conversations of the stable revision with an escalated call, surely (95 %) above this.",
    )
    agreement_percent: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Agreement with the LLM on the conversations that rollout.holdbackPercent keeps with it, surely "
        "(95 %) below this.",
    )
    window_seconds: int = Field(
        3600, ge=10, le=2_592_000, description="Time over which escalations and agreement are counted."
    )
    on_better_base: bool = Field(
        False, description="Whether a BaseModel that is new and ranks above the one in use is a reason."
    )
    minimum_interval_seconds: int = Field(
        86400,
        ge=10,
        le=31_536_000,
        description="Shortest time between two trainings; doubled for each that in a row did not make it, to 64 times.",
    )


class Serving(Model):
    """How its answers are served."""

    max_tokens: int = Field(128, ge=1, le=100_000, description="Longest answer.")
    timeout_seconds: float = Field(10, gt=0, le=600, description="Then the call goes to the LLM.")
    samples: int = Field(1, ge=1, le=9, description="Answers sampled; above 1, more than half must agree.")


class Rollout(Model):
    """How the traffic moves over."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.steps[size(self.steps) - 1] == 100", "the last of rollout.steps must be 100", ".steps"),
            ("self.steps.isSorted()", "rollout.steps must not fall", ".steps"),
        ),
    )
    shadow_percent: int = Field(100, ge=0, le=100, description="LLM calls replayed before any weight; 0: no shadow.")
    minimum_agreement: float = Field(0.8, ge=0, le=1, description="Least agreement with the LLM on shadowed calls.")
    steps: list[Annotated[int, Field(ge=1, le=100)]] = Field(
        [10, 50, 100], min_length=1, max_length=20, description="Weights, in percent; the last is 100."
    )
    holdback_percent: float = Field(
        0,
        ge=0,
        le=50,
        description="Conversations that stay with the LLM for good: they show drift, and teach the next one.",
    )
    maximum_failure: float = Field(
        0.1, gt=0, lt=1, description="Most conversations with an escalated call, as a share."
    )
    alpha: float = Field(0.05, gt=0, le=0.5, description="Error budget of the whole rollout.")
    approval: Literal["Automatic", "Manual"] = Field("Automatic", description="Manual waits for promote.")
    promote: Digest | None = Field(None, description="Artifact whose promotion is approved.")


NEEDS_HOLDBACK = (
    "!has(self.retrain) || !has(self.retrain.agreementPercent) || "
    "has(self.rollout) && self.rollout.holdbackPercent > 0",
    "retrain.agreementPercent needs rollout.holdbackPercent above 0: without it nothing is compared",
    ".retrain",
)


class SpecialistSpec(Model):
    """One task served by one small model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.artifact) || !has(self.retrain)",
                "retrain has no meaning with artifact: that adapter is trained elsewhere",
                ".retrain",
            ),
            NEEDS_HOLDBACK,
        ),
    )
    task_cluster: Name = Field(
        description="TaskCluster it serves.", json_schema_extra=rules(("self == oldSelf", "taskCluster is immutable"))
    )
    base: Base = Field(default_factory=Base, description="Which base model.")
    dataset: Dataset = Field(default_factory=Dataset, description="What is trained on.")
    training: Training = Field(default_factory=Training, description="How it is trained.")
    gate: Gate = Field(default_factory=Gate, description="What it must show.")
    serving: Serving = Field(default_factory=Serving, description="How it is served.")
    rollout: Rollout = Field(default_factory=Rollout, description="How traffic moves over.")
    retrain: Retrain | None = Field(None, description="When it is trained again; absent: when the spec changes.")
    artifact: str | None = Field(
        None,
        max_length=1024,
        pattern=r"^file:///[-\w./]+@sha256:[0-9a-f]{64}$",
        description="Serve this adapter, trained elsewhere, instead of training: file:///PATH@sha256:DIGEST.",
        json_schema_extra=rules(
            (
                "self.startsWith('file:///') && self.contains('@sha256:')",
                "artifact must be file:///PATH@sha256:DIGEST, a folder in the Router's store and its digest",
            ),
            no_parent("artifact"),
        ),
    )
    suspend: bool = Field(False, description="Start nothing new; what serves goes on.")


class Check(Model):
    """One check of the gate."""

    name: str = Field(max_length=63, description="What was checked, e.g. Floor.")
    passed: bool = Field(description="Whether it passed.")
    required: bool = Field(True, description="Whether a failure refuses the candidate.")
    reason: str = Field(min_length=1, max_length=63, pattern=r"^[A-Za-z]\w*$", description="One CamelCase word.")
    message: str = Field("", max_length=1024, description="With figures.")


class Evaluation(Model):
    """Verdict of the gate."""

    metric: Short = Field(description="Metric.")
    estimate: float = Field(description="Value on held-out traffic.")
    lower: float = Field(description="Lower bound.")
    upper: float = Field(description="Upper bound.")
    n: int = Field(ge=0, description="Examples.")
    verdict: Literal["passed", "refused"] = Field(description="passed or refused.")
    checks: list[Check] = Field(
        default_factory=list, max_length=32, description="Its checks, worst first.", json_schema_extra=list_map("name")
    )


class Trial(Model):
    """A sequential test: what was counted and what it says."""

    good: int = Field(0, ge=0, description="Agreements, or conversations without a failure.")
    bad: int = Field(0, ge=0, description="Disagreements, or conversations with a failure.")
    verdict: Literal["continue", "promote", "rollback"] = Field("continue", description="Verdict.")


class Revision(Model):
    """One adapter with its lineage: every link is a digest."""

    name: str = Field(max_length=64, description="First 12 digits of the artifact's digest.")
    artifact: Digest = Field(description="Digest of the adapter.")
    path: str = Field(max_length=1024, description="Folder in the store.")
    folders: list[Annotated[str, Field(max_length=512)]] = Field(
        default_factory=list, max_length=8, description="Its dataset and evaluation in the store."
    )
    base: Short = Field(description="BaseModel.")
    key: str | None = Field(None, max_length=64, description="Digest of the inputs it was made from.")
    trigger: Text | None = Field(None, description="Why it was trained again; absent: the spec asked for it.")
    cluster_version: str | None = Field(None, max_length=128, description="Version of the task cluster.")
    discovery_run: int | None = Field(
        None, description="Discovery run whose calls it learned from; of a declared task, the last by then."
    )
    task_calls: int | None = Field(None, ge=0, description="Calls of the task in the log by then.")
    dataset: Digest | None = Field(None, description="Dataset it was trained on.")
    training_job: str | None = Field(None, max_length=253, description="Job that trained it.")
    ray_job: str | None = Field(None, max_length=253, description="Ray's id of that job.")
    training_seconds: float | None = Field(None, description="Time the training took.")
    kept_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="What the extracted adapter keeps of what was trained; absent: an adapter was trained.",
    )
    evaluation: Evaluation | None = Field(None, description="Verdict of the gate.")
    shadow: Trial | None = Field(None, description="Verdict of the shadow.")
    canary: Trial | None = Field(None, description="Verdict of the last canary step.")
    promoted: datetime | None = Field(None, description="When it became stable.")


class TrialStatus(Model):
    """One base on trial, and what the gate's job measured of it."""

    base: Short = Field(description="BaseModel.")
    key: str = Field(max_length=64, description="Digest of the trial's inputs.")
    estimate: float | None = Field(None, description="Value of the metric on held-out traffic.")
    lower: float | None = Field(None, description="Lower bound.")
    upper: float | None = Field(None, description="Upper bound.")
    n: int | None = Field(None, ge=0, description="Examples.")
    failure: str | None = Field(None, max_length=1100, description="Why it is out, if it is.")


class TrainingStatus(Model):
    """The revision in the making."""

    key: str | None = Field(None, max_length=64, description="Digest of everything the revision depends on.")
    spec_digest: str | None = Field(None, max_length=64, description="Digest of the spec it was started for.")
    redaction: str | None = Field(
        None, max_length=64, description="Digest of the Router's redaction that its dataset is made with."
    )
    metric: str | None = Field(None, max_length=63, description="Metric of the TaskCluster that it is judged by.")
    dataset_job: str | None = Field(None, max_length=253, description="Curation job.")
    job: str | None = Field(None, max_length=253, description="Training job.")
    evaluation_job: str | None = Field(None, max_length=253, description="Evaluation job.")
    cluster_version: str | None = Field(None, max_length=128, description="Version of the task cluster used.")
    discovery_run: int | None = Field(None, description="Discovery run used; of a declared task, the last by then.")
    until: datetime | None = Field(
        None, description="Only calls before this time are in its dataset; absent where a discovery run says which."
    )
    log_calls: int | None = Field(None, ge=0, description="Calls in the whole log by then; of a declared task.")
    task_calls: int | None = Field(None, ge=0, description="Calls of the task in the log by then.")
    trigger: Text | None = Field(None, description="Why it is trained again; absent: the spec asked for it.")
    started: datetime | None = Field(None, description="When its inputs were fixed.")
    bases: list[Annotated[str, Field(max_length=253)]] = Field(
        default_factory=list, max_length=64, description="BaseModels that could have been used then."
    )
    trials: list[TrialStatus] = Field(
        default_factory=list, max_length=8, description="Bases on trial, best ranked first.",
        json_schema_extra=list_map("base"),
    )
    trial_winner: str | None = Field(None, max_length=253, description="The base that they chose.")
    ray_job: str | None = Field(None, max_length=253, description="Ray's id.")
    percent: float = Field(0, ge=0, le=100, description="Progress of the training.")
    loss: float | None = Field(None, description="Loss a token of the answers, smoothed.")
    eta_seconds: float | None = Field(None, description="Time left.")
    restarts: int = Field(0, ge=0, description="Restarts of the training.")
    refused: Evaluation | None = Field(None, description="Verdict of the gate, where it refused this revision.")


class ArmCount(Model):
    """What one gateway process counted in the step (or window) under way."""

    instance: Short = Field(description="Gateway process.")
    good_start: int = Field(0, ge=0, description="Count when the step began.")
    bad_start: int = Field(0, ge=0, description="Count when the step began.")
    good: int = Field(0, ge=0, description="Count now.")
    bad: int = Field(0, ge=0, description="Count now.")


class RolloutStatus(Model):
    """Where the candidate stands."""

    stage: Literal["Placing", "Shadow", "Canary", "Approval", "Done", "RolledBack"] = Field(
        "Placing", description="Stage of the rollout."
    )
    step: int = Field(0, ge=0, description="Index into rollout.steps.")
    weight_percent: int = Field(0, ge=0, le=100, description="Conversations that the candidate answers.")
    since: datetime | None = Field(None, description="When the stage or step began.")
    counts: list[ArmCount] = Field(
        default_factory=list, max_length=200, description="Counts of this step.", json_schema_extra=list_map("instance")
    )
    trial: Trial = Field(default_factory=Trial, description="The test of this step.")


class CountWindow(Model):
    """Counts of the stable revision when a window began; what came since is in no status."""

    revision: str = Field(max_length=64, description="Revision counted.")
    since: datetime = Field(description="When the window began.")
    counts: list[ArmCount] = Field(
        default_factory=list,
        max_length=200,
        description="Counts by gateway process at that time.",
        json_schema_extra=list_map("instance"),
    )


class RetrainStatus(Model):
    """What speaks for training again, as last measured: by the newest discovery run, or over the last whole window."""

    schedule: str | None = Field(None, max_length=100, description="Schedule that the next time follows.")
    next_schedule_time: datetime | None = Field(None, description="When the schedule asks for it next.")
    new_examples: int | None = Field(None, ge=0, description="Calls of the task that the last dataset did not have.")
    drift: float | None = Field(None, description="Largest drift, in percent, that a run since then found.")
    drift_run: int | None = Field(None, ge=0, description="Newest discovery run looked at.")
    escalation_percent: float | None = Field(None, description="Conversations with an escalated call, last window.")
    escalation_lower_percent: float | None = Field(None, description="Lower bound (95 %) of it.")
    window: CountWindow | None = Field(None, description="The window under way.")
    agreement_percent: float | None = Field(None, description="Agreement with the LLM, last window.")
    agreement_upper_percent: float | None = Field(None, description="Upper bound (95 %) of it.")
    llm_window: CountWindow | None = Field(
        None, description="The window under way of what the LLM answered; of a declared task without a discovery."
    )
    agreement_window: CountWindow | None = Field(None, description="The window of the agreement under way.")
    last_trigger: datetime | None = Field(None, description="When it was last trained again.")
    reason: Text | None = Field(None, description="Why.")
    failures: int = Field(0, ge=0, description="Trainings in a row, before the last, that did not make it.")


class HistoryEntry(Model):
    """A revision that came to an end."""

    revision: str = Field(max_length=64, description="Revision.")
    artifact: Digest | None = Field(None, description="Digest of the adapter.")
    key: str | None = Field(None, max_length=64, description="Digest of its inputs.")
    outcome: Literal["Promoted", "Refused", "RolledBack", "Superseded"] = Field(description="How.")
    reason: Text = Field("", description="Why.")
    trigger: Text | None = Field(None, description="Why it was trained again; absent: the spec asked for it.")
    time: datetime | None = Field(None, description="When.")


class SpecialistStatus(Status):
    """What serves, what is on its way, and why."""

    base: str | None = Field(None, max_length=253, description="BaseModel in use.")
    base_reason: Text | None = Field(None, description="Why this base.")
    router: str | None = Field(None, max_length=253, description="Router of the task.")
    stage: str | None = Field(None, max_length=63, description="Short summary for kubectl get.")
    weight_percent: int = Field(0, ge=0, le=100, description="Task's conversations that specialists answer.")
    score: str | None = Field(None, max_length=63, description="Gate's figure, for kubectl get.")
    stable: Revision | None = Field(None, description="What serves.")
    candidate: Revision | None = Field(None, description="What is being tried.")
    training: TrainingStatus = Field(default_factory=TrainingStatus, description="The revision in the making.")
    rollout: RolloutStatus = Field(default_factory=RolloutStatus, description="Where the candidate stands.")
    retrain: RetrainStatus | None = Field(None, description="What speaks for training again.")
    history: list[HistoryEntry] = Field(
        default_factory=list, max_length=20, description="Ended revisions, newest first."
    )


class Specialist(Model):
    """One task served by one small model."""

    spec: SpecialistSpec = Field(description="The wish.")
    status: SpecialistStatus = Field(default_factory=SpecialistStatus, description="The state.")
