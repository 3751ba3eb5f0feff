"""BaseModel: a candidate small model (S4), and the shared pool that serves it once a Specialist chose it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slmfleet.api.base import Digest, Model, Prices, Resources, Short, Status, Text, list_map, no_parent, rules


class Source(Model):
    """Where the weights are."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.huggingFace) != has(self.storePath)", "exactly one of source.huggingFace and source.storePath"),
            (
                "has(self.huggingFace) == has(oldSelf.huggingFace) && has(self.storePath) == has(oldSelf.storePath)"
                " && (!has(self.huggingFace) || self.huggingFace == oldSelf.huggingFace)"
                " && (!has(self.storePath) || self.storePath == oldSelf.storePath)",
                "source is immutable: adapters fit only the base they were trained on; make another BaseModel",
            ),
        ),
    )
    hugging_face: str | None = Field(None, max_length=253, pattern=r"^[\w.-]+/[\w.-]+$", description="org/name.")
    store_path: str | None = Field(
        None,
        max_length=1024,
        pattern=r"^bases/[-\w./]+$",
        description="Folder in the store, e.g. bases/tiny.",
        json_schema_extra=rules(no_parent("source.storePath")),
    )
    revision: str | None = Field(
        None, max_length=64, pattern=r"^[-\w.]+$", description="Commit, tag or branch on the hub; default: main."
    )
    digest: Digest | None = Field(
        None, description="Digest of the base; what was trained on another one is refused where this is given."
    )

    @property
    def reference(self) -> str:
        """The folder in the store, or ORG/NAME on the hub, with its @REVISION where one is given."""
        if self.store_path is not None:
            return self.store_path
        return f"{self.hugging_face}@{self.revision}" if self.revision else self.hugging_face or ""


class Score(Model):
    """A published benchmark result."""

    task: Short = Field(description="Type of task, e.g. instruction-following, tool-calling.")
    benchmark: Short = Field(description="Name and whose protocol; only one name's values are compared.")
    value: float = Field(description="Score as published, 0 to 100.")
    source: str = Field(max_length=1024, description="Where it is published.")


CapabilityName = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Capability(Model):
    """Something that the model was made for, as its maker says."""

    name: CapabilityName = Field(description="E.g. tool-calling, structured-output, code, multilingual, reasoning.")
    source: str = Field(max_length=1024, description="Where it is said.")


class Speed(Model):
    """How fast it answers, as published or measured."""

    conditions: str = Field(max_length=253, description="Engine, hardware, precision and how many calls at once.")
    tokens_per_second: float = Field(gt=0, description="Tokens of answers, of all calls together.")
    source: str = Field(max_length=1024, description="Who measured it, and where that is shown.")


class EnvVar(Model):
    """One environment variable of the pool's container."""

    name: str = Field(max_length=128, pattern=r"^[A-Z_][A-Z0-9_]*$", description="Name.")
    value: str = Field(max_length=4096, description="Value.")


class ClaimVolume(Model):
    """A claim mounted into the pool's container, read-only."""

    claim_name: Short = Field(min_length=1, description="PersistentVolumeClaim in the same namespace.")
    mount_path: str = Field(
        max_length=1024,
        pattern=r"^/(opt|mnt|data)/[-\w./]+$",
        description="Where.",
        json_schema_extra=rules(no_parent("mountPath")),
    )


class Overlay(Model):
    """What may be changed of the pool's pods. Never a service account, a hostPath or a security context."""

    env: list[EnvVar] = Field(
        default_factory=list, max_length=64, description="Environment.", json_schema_extra=list_map("name")
    )
    volumes: list[ClaimVolume] = Field(
        default_factory=list, max_length=16, description="Claims, read-only.", json_schema_extra=list_map("mountPath")
    )
    node_selector: dict[Annotated[str, Field(max_length=253)], Annotated[str, Field(max_length=63)]] = Field(
        default_factory=dict, max_length=16, description="Node labels."
    )


class PoolSpec(Model):
    """The servers of this base."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.minReplicas <= self.maxReplicas",
                "pool.minReplicas must not exceed pool.maxReplicas",
                ".minReplicas",
            ),
            (
                "!has(self.replicas) || (self.replicas >= self.minReplicas && self.replicas <= self.maxReplicas)",
                "pool.replicas must lie between minReplicas and maxReplicas",
                ".replicas",
            ),
        ),
    )
    runtime: Literal["transformers"] = Field("transformers", description="Engine inside Triton.")
    image: str | None = Field(None, max_length=1024, description="Image of the pool; default: the chart's.")
    resources: Resources = Field(default_factory=Resources, description="Of one server.")
    replicas: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Servers, for an HPA or KEDA through the scale subresource; absent: the planner decides. "
        "The subresource answers once it has a first value.",
    )
    min_replicas: int = Field(0, ge=0, le=1000, description="Fewest servers; 0 scales to zero when idle.")
    max_replicas: int = Field(1, ge=1, le=1000, description="Most servers.")
    target_in_flight: float = Field(8, gt=0, le=10000, description="Calls in flight per server to aim for.")
    max_in_flight: int = Field(32, ge=1, le=10000, description="Calls per server above which a call goes elsewhere.")
    queue_seconds: float = Field(0, ge=0, le=60, description="How long a call waits for a slot before it goes there.")
    idle_seconds: int = Field(300, ge=1, le=604800, description="Seconds without a call before a server is removed.")
    adapter_slots: int = Field(16, ge=1, le=1024, description="Adapters resident on one server.")
    max_rank: int = Field(16, ge=1, le=256, description="Largest adapter rank.")
    prices: Prices = Field(default_factory=Prices, description="What its tokens cost.")
    overlay: Overlay = Field(default_factory=Overlay, description="Changes to the pods.")


class BaseModelSpec(Model):
    """One candidate small model."""

    source: Source = Field(description="Where the weights are.")
    parameters: int = Field(ge=1, le=10_000_000_000, description="Number of parameters; under 10 billion.")
    context_tokens: int = Field(ge=16, le=10_000_000, description="Longest context.")
    licence: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9.+-]+$", description="SPDX identifier.")
    outputs_may_train: Literal["Allowed", "Conditional", "Forbidden"] | None = Field(
        None, description="What the licence says of outputs that train another model; absent: not known."
    )
    memory: str = Field(max_length=16, pattern=r"^[0-9]+(Mi|Gi)$", description="Memory of one server.")
    scores: list[Score] = Field(default_factory=list, max_length=64, description="Published results.")
    capabilities: list[Capability] = Field(
        default_factory=list,
        max_length=32,
        description="What it was made for; a Specialist's limits may ask for some.",
        json_schema_extra=list_map("name"),
    )
    speeds: list[Speed] = Field(
        default_factory=list,
        max_length=16,
        description="How fast it answers; shown in the ranking, and no part of the score.",
        json_schema_extra=list_map("conditions"),
    )
    pool: PoolSpec = Field(default_factory=PoolSpec, description="The servers.")


class PoolEndpoint(Model):
    """One server of the pool."""

    pod: Short = Field(description="Name of the pod.")
    address: str = Field(max_length=253, description="IP address.")
    ready: bool = Field(description="Whether a real inference answered.")
    adapters: list[Annotated[str, Field(max_length=253)]] = Field(
        default_factory=list, max_length=1024, description="Adapters that answered a probe."
    )
    message: Text | None = Field(None, description="What is wrong, if anything.")


class ScalingEvent(Model):
    """One change of the number of servers."""

    time: str = Field(max_length=32, description="When (RFC 3339).")
    previous: int = Field(ge=0, description="Servers before.")
    replicas: int = Field(ge=0, description="Servers after.")
    reason: Text = Field(description="Why.")


class BaseModelStatus(Status):
    """The pool as it is."""

    chosen: bool = Field(False, description="Whether a Specialist uses it.")
    replicas: int = Field(0, ge=0, description="Servers wanted now.")
    ready_replicas: int = Field(0, ge=0, description="Servers that answered.")
    selector: str | None = Field(None, max_length=253, description="Label selector of the pods, for autoscalers.")
    endpoints: list[PoolEndpoint] = Field(
        default_factory=list, max_length=1000, description="Servers.", json_schema_extra=list_map("pod")
    )
    adapters: int = Field(0, ge=0, description="Adapters placed.")
    idle_since: str | None = Field(None, max_length=32, description="When the last call was seen (RFC 3339).")
    scaling_history: list[ScalingEvent] = Field(default_factory=list, max_length=20, description="Latest changes.")


class BaseModel_(Model):
    """A candidate small model and the pool that serves it."""

    spec: BaseModelSpec = Field(description="One candidate small model.")
    status: BaseModelStatus = Field(default_factory=BaseModelStatus, description="The pool as it is.")


BaseModel_.__name__ = "BaseModel"
