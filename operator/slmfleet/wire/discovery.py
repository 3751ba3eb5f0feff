"""What `slmfleet discover` writes: clusters.json (and result.json, its summary for the operator)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slmfleet.wire.base import Message
from slmfleet.wire.routes import OutputFormat


class Signature(Message):
    """How a call of this task is recognised."""

    fingerprints: list[str] = Field(default_factory=list, description="Digests of exact frames.")
    api: str = "chat.completions"
    tools: list[str] = Field(default_factory=list)
    response_format: str | None = None
    system_prompt: str | None = Field(
        None, description="The commonest, redacted, cut to 2,000 characters; of a declared task as it was declared."
    )


class Example(Message):
    """One redacted call."""

    prompt: str
    response: str


class Drift(Message):
    """How a task differs from what an earlier run (`--previous`, `--trained`) found under its name."""

    share_before: float = Field(ge=0, le=1, description="Of all calls, in the earlier run.")
    share_now: float = Field(ge=0, le=1)
    distance: float = Field(ge=0, le=1, description="1 - likeness of the two runs' centroids: 0 is the same inputs.")
    noise_share: float = Field(ge=0, le=1, description="Of its calls, those unlike any that the earlier run saw.")
    noise_before: float | None = Field(
        None, ge=0, le=1, description="The same of the earlier run's own calls: what is above it is new."
    )


class Suitability(Message):
    """Whether a specialist is worth making of a task, and why. Shares are 0 to 1."""

    verdict: Literal["Specialise", "Wait", "Keep"] = Field(
        description="Wait: more calls are needed. Keep: with the LLM."
    )
    reason: str = Field(description="One line for people.")
    narrowness: float = Field(ge=0, le=1, description="How alike the inputs and how short and strict the answers are.")
    format_share: float = Field(ge=0, le=1, description="Answers that fit the output format.")
    agreement: float | None = Field(
        None, ge=0, le=1, description="How often near-identical prompts had the same answer; None: too few pairs."
    )
    agreement_pairs: int = Field(0, ge=0, description="Pairs of near-identical prompts that agreement was measured on.")
    saving_tokens_percent: float = Field(ge=0, le=100, description="Of the log's tokens, what would leave the LLM.")


class Part(Message):
    """Calls of one meaning within a task."""

    name: str
    size: int = Field(ge=0)
    terms: list[str] = Field(default_factory=list, max_length=8, description="Words that tell it from the other parts.")


class Change(Message):
    """A task of the run before that is several now, or several that are one."""

    kind: Literal["Split", "Merged", "New", "Gone"]
    before: list[str] = Field(default_factory=list)
    now: list[str] = Field(default_factory=list)
    narrow: bool = Field(True, description="False: of free calls alone.")


class FoundCluster(Message):
    """One recurring task."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Stable from run to run.")
    version: str = Field(description="sha256: of its members' ids and its signature.")
    description: str
    title: str = Field("", description="By the LLM that was asked (`--name-with`); else empty.")
    size: int = Field(ge=0)
    teachable: int | None = Field(None, description="Of its calls, those that an LLM answered: they can teach.")
    share: float = Field(ge=0, le=1, description="Of all calls.")
    token_share: float = Field(0.0, ge=0, le=1)
    cohesion: float = Field(0.0, ge=-1, le=1)
    input_tokens_p95: int = 0
    input_tokens_p99: int | None = None
    output_tokens_p95: int = 0
    signature: Signature
    output_format: OutputFormat
    examples: list[Example] = Field(default_factory=list, max_length=5)
    narrow: bool = Field(True, description="False: calls of one meaning, and no task for a specialist.")
    declared: bool = Field(False, description="By a person: its calls are those that its signature takes, no others.")
    parts: list[Part] = Field(default_factory=list, max_length=200)
    drift: Drift | None = Field(None, description="None without a run before, or for a task that it did not have.")
    drift_trained: Drift | None = Field(
        None, description="Against the run that its specialist learned from (`--trained`); None where none was named."
    )
    suitability: Suitability | None = None


class Naming(Message):
    """What came of asking an LLM for names."""

    model: str
    asked: int = Field(0, ge=0, description="Tasks that it was asked about.")
    named: int = Field(0, ge=0, description="Of these, those with an answer of use.")
    kept: int = Field(0, ge=0, description="Tasks with the title of an earlier run: it was not asked again.")
    own_words: dict[str, int] = Field(default_factory=dict, description="Tasks left to their own words, by reason.")


class ClustersFile(Message):
    """clusters.json."""

    schema_: str = Field("slmfleet/clusters/v1", alias="schema")
    records: int
    skipped: int = Field(0, description="Records set aside: broken, truncated, failed.")
    unassigned: int = 0
    records_digest: str
    clusters: list[FoundCluster]
    embedder: str = Field("lexical", description="What the inputs' meaning was read by.")
    naming: Naming | None = Field(None, description="None where no LLM was asked.")
    changes: list[Change] = Field(default_factory=list, description="Against the run before.")
    sample_share: float = Field(
        1.0, gt=0, le=1, description="Of the conversations, those that tasks were sought in; below 1 for a large log."
    )


class ClassifierRates(Message):
    """Another classifier on the same held-out calls."""

    foreign_rate: float
    missed_rate: float
    foreign_calls: int
    members: int


class ClassifierResult(Message):
    """The classifier that discovery trained."""

    digest: str
    path: str
    classes: list[str]
    foreign_rate: float = Field(description="Measured on held-out calls of no cluster.")
    foreign_rate_upper: float
    missed_rate: float
    foreign_calls: int = Field(0, description="How many foreign calls foreign_rate was measured on.")
    members: int = Field(0, description="How many of the clusters' own calls missed_rate was measured on.")
    in_use: ClassifierRates | None = Field(None, description="The one that gateways use (`--in-use`), for comparison.")


class DiscoveryResult(Message):
    """result.json: what the operator needs to know of a run. Written last, so its presence says the run is whole."""

    schema_: str = Field("slmfleet/discovery-result/v1", alias="schema")
    clusters: ClustersFile
    classifier: ClassifierResult | None = None
