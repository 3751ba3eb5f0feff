"""What the jobs of a specialist write for the operator: each ends with one small JSON file, written last."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from slmfleet.wire.base import Message

# What the jobs leave in the store, and a clean-up may remove: KIND/NAME-DIGEST, as the operator names it.
FOLDER_KINDS = ("artifacts", "datasets", "evaluations", "training")
FOLDER = re.compile(rf"({'|'.join(FOLDER_KINDS)})/[a-z0-9][-a-z0-9]*-[0-9a-f]{{10}}")


class RedactionRules(Message):
    """What a run was asked to redact with, beside the patterns that are always used."""

    model: str = Field(description="default, none, or LIBRARY:NAME.")
    denied: int = Field(0, ge=0, description="Values of the deny lists.")
    patterns: list[str] = Field(default_factory=list, description="Kinds of the tenant's patterns, in their order.")
    digest: str = Field(description="sha256: of model and patterns; of the denied values nothing is told.")


class CurationStage(Message):
    """One filter: `read` went in, `dropped` left with their reasons, `kept` went on to the next."""

    name: str
    read: int
    dropped: dict[str, int] = Field(default_factory=dict)
    kept: int


class CurationResult(Message):
    """report.json of `slmfleet curate`."""

    schema_: str = Field("slmfleet/curation-result/v1", alias="schema")
    dataset_digest: str
    train: int
    heldout: int
    conversations: int = 0
    redacted: dict[str, int] = Field(default_factory=dict, description="Replaced values by type.")
    redaction: RedactionRules | None = Field(None, description="None in reports of old jobs.")
    leaks: int = Field(0, description="Values of the log found in the output after redaction; above 0: not trained on.")
    dropped: dict[str, int] = Field(default_factory=dict, description="Records left out, by reason.")
    output_labels: int | None = None
    funnel: list[CurationStage] = Field(default_factory=list, description="From elements read to rows written.")
    repaired: dict[str, int] = Field(default_factory=dict, description="Rows whose format was mended, by how.")
    answered: dict[str, int] = Field(default_factory=dict, description="Calls of the task, by who answered them.")
    escalations: int = Field(0, description="Rows that a specialist could not answer, with the LLM's answer.")
    overlap: int = Field(0, description="Training rows later than the first held-out row.")
    unfinished: int = Field(0, description="Calls of conversations that may not be over: too many to drop.")
    heldout_harder: bool = Field(False, description="The held-out side is mostly escalations.")
    origins: int = Field(0, description="That calls of the rows name.")
    origin_share: float | None = Field(
        None, description="Most rows of one origin, as it was kept to; 1: no cap; None: no call names an origin."
    )
    largest_origin_share: float | None = Field(None, description="Of the rows, that the largest origin gives.")
    llm_agreement: float | None = Field(
        None, description="How often near-identical prompts had the same answer in the log; None: too few pairs."
    )
    llm_agreement_pairs: int = Field(0, description="Pairs that llm_agreement was measured on.")
    lineage_digest: str | None = Field(None, description="Of lineage.jsonl: which log records each row stands for.")


class TrainingProgress(Message):
    """progress.json, replaced while a training job runs."""

    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    seconds: float = 0.0
    percent: float = 0.0
    eta_seconds: float | None = None
    ray_job_id: str | None = None
    restarts: int = 0
    resumed_from_step: int | None = None


class TrainingResult(Message):
    """result.json beside an adapter."""

    method: str
    steps: int
    examples: int
    loss: float | None = None
    seconds: float
    base_digest: str
    dataset_digest: str
    artifact_digest: str
    ray_job_id: str | None = None
    restarts: int = 0
    resumed_from_step: int | None = None


class GateCheck(Message):
    """One check of the gate. `required`: its failure refuses the candidate."""

    name: str
    passed: bool
    required: bool = True
    reason: str
    message: str = ""


class EvaluationResult(Message):
    """evaluation.json of the gate."""

    metric: str
    estimate: float
    interval: tuple[float, float]
    n: int
    floor: float
    margin: float
    confidence: float
    verdict: Literal["passed", "refused"]
    reasons: list[str] = Field(default_factory=list)
    checks: list[GateCheck] = Field(default_factory=list, description="Worst first; none in results of old trainers.")
    valid_format_share: float | None = None
    latency_seconds: dict[str, float] = Field(default_factory=dict)


class JobFailure(Message):
    """/dev/termination-log of a job that failed: one object, at most 4 KiB."""

    reason: str = Field(description="CamelCase, e.g. StoreUnreachable, OutOfMemory, TooFewExamples.")
    message: str = Field(description="What, where, and what to do.")
    retry: bool = Field(False, description="Whether running it again may help.")
    details: dict[str, Any] = Field(default_factory=dict)
