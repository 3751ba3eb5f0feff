"""TaskCluster: one recurring task, found in the traffic or declared by hand."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slmfleet.api.base import Digest, Model, Name, OutputFormat, Short, Status, Text, list_map, rules


class Signature(Model):
    """How a call of this task is recognised: of a declared one by this alone, else beside the learned classifier."""

    fingerprints: list[Annotated[str, Field(max_length=128)]] = Field(
        default_factory=list,
        max_length=64,
        description="Digests of frames that are always this task; of a declared one, nothing else is asked then.",
        json_schema_extra=rules(
            (
                "self.all(digest, digest.matches('^sha256:[0-9a-f]{64}$'))",
                "fingerprints must be sha256:DIGEST, as `slmfleet explain-route --json` prints them; without them "
                "systemPrompt, tools and responseFormat say how a call is recognised",
            ),
        ),
    )
    tools: list[Short] = Field(
        default_factory=list, max_length=128, description="Names of the tools offered; of a declared task, all of them."
    )
    response_format: str | None = Field(
        None, max_length=253, description="The response_format asked for: TYPE, or TYPE:NAME."
    )
    system_prompt: str | None = Field(
        None,
        max_length=20_000,
        description="The system prompt: as declared, {name} standing for any text; as found, the commonest, redacted.",
    )


class TaskClusterSpec(Model):
    """What the task is."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.outputFormat) || self.outputFormat.type != 'label'"
                " || (has(self.outputFormat.labels) && size(self.outputFormat.labels) > 0)",
                "outputFormat.labels is required when outputFormat.type is label",
                ".outputFormat.labels",
            ),
        ),
    )
    router: Name = Field(
        description="Router whose traffic has the task.",
        json_schema_extra=rules(("self == oldSelf", "router is immutable")),
    )
    title: str | None = Field(None, max_length=80, description="The task in a few words, where an LLM was asked.")
    description: Text = Field("", description="What the task is, for people.")
    signature: Signature = Field(default_factory=Signature, description="How a call is recognised.")
    output_format: OutputFormat = Field(default_factory=OutputFormat, description="What a valid answer looks like.")
    metric: Literal["auto", "label", "macro_f1", "fields", "tool_call", "code", "text", "rouge_l", "exact"] = Field(
        "auto", description="How an answer is scored; auto: by the form of the recorded answers."
    )


class Example(Model):
    """One redacted call."""

    prompt: str = Field(max_length=2048, description="End of the prompt, redacted.")
    response: str = Field(max_length=2048, description="The answer, redacted.")


class RankedBase(Model):
    """One BaseModel as a candidate for this task."""

    name: Short = Field(description="Name of the BaseModel.")
    suitable: bool = Field(description="Whether it may be used.")
    score: float | None = Field(None, description="Its score, where it may be used; the terms are in the reason.")
    reason: Text = Field(description="Why, or why not.")


class Drift(Model):
    """How the task differs from what an earlier discovery run found under its name."""

    share_before_percent: float = Field(ge=0, le=100, description="Share of all calls, in the earlier run.")
    share_percent: float = Field(ge=0, le=100, description="Share of all calls, in the last run that saw it.")
    distance_percent: float = Field(ge=0, le=100, description="Of its inputs from those before; 0: the same.")
    unlike_percent: float = Field(ge=0, le=100, description="Of its calls, those unlike any that the earlier run saw.")
    unlike_before_percent: float | None = Field(
        None, ge=0, le=100, description="The same of the earlier run's own calls: what is above it is new."
    )

    @property
    def percent(self) -> float:
        """The larger of the two: inputs that moved as a whole, or the part of them that is new."""
        if self.unlike_before_percent is None:
            return self.distance_percent
        return round(max(self.distance_percent, self.unlike_percent - self.unlike_before_percent), 1)


class Suitability(Model):
    """Whether a specialist is worth making of the task, as the last discovery that saw it judged."""

    verdict: Literal["Specialise", "Wait", "Keep"] = Field(
        description="Wait: more calls are needed. Keep: with the LLM."
    )
    reason: Text = Field(description="Why.")
    narrowness_percent: float = Field(ge=0, le=100, description="How alike its inputs and how short its answers are.")
    format_percent: float = Field(ge=0, le=100, description="Answers that fit the output format.")
    agreement_percent: float | None = Field(
        None, ge=0, le=100, description="Near-identical prompts with the same answer; absent: too few pairs."
    )
    saving_tokens_percent: float = Field(ge=0, le=100, description="Of the log's tokens, what would leave the LLM.")


class TaskClusterStatus(Status):
    """What was measured of the task."""

    version: str | None = Field(None, max_length=128, description="Digest of the members at the last discovery.")
    run: int | None = Field(None, ge=0, description="Discovery run that last saw it.")
    share_percent: float | None = Field(None, ge=0, le=100, description="Share of all calls.")
    token_share_percent: float | None = Field(None, ge=0, le=100, description="Share of all tokens.")
    calls: int | None = Field(None, ge=0, description="Calls in the log.")
    teachable: int | None = Field(None, ge=0, description="Calls in the log that an LLM answered: they can teach.")
    drift: Drift | None = Field(None, description="Against the run before; absent: that run did not have the task.")
    drift_trained: Drift | None = Field(
        None,
        description="Against the run that its Specialist's stable revision learned from, where that is an earlier one.",
    )
    suitability: Suitability | None = Field(None, description="Whether a specialist is worth making of it.")
    cohesion: float | None = Field(None, description="Mean similarity to the centre, -1 to 1.")
    input_tokens_p95: int | None = Field(None, ge=0, description="95th percentile of the input length.")
    input_tokens_p99: int | None = Field(None, ge=0, description="99th percentile of the input length.")
    labels: int | None = Field(None, ge=0, description="Number of distinct answers, where they are a closed set.")
    examples: list[Example] = Field(default_factory=list, max_length=5, description="A few calls, redacted.")
    candidates: list[RankedBase] = Field(
        default_factory=list,
        max_length=64,
        description="Base models, best first, with reasons.",
        json_schema_extra=list_map("name"),
    )
    specialist: str | None = Field(None, max_length=253, description="The Specialist that serves it.")
    dataset: Digest | None = Field(
        None, description="Digest of the dataset that its Specialist's newest revision learned from."
    )


class TaskCluster(Model):
    """One recurring task in an agent fleet's traffic."""

    spec: TaskClusterSpec = Field(description="What the task is.")
    status: TaskClusterStatus = Field(default_factory=TaskClusterStatus, description="What was measured.")
