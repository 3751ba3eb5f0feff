"""What `slmfleet discover` writes: clusters.json (and result.json, its summary for the operator)."""

from __future__ import annotations

from pydantic import Field

from slmfleet.wire.base import Message
from slmfleet.wire.routes import OutputFormat


class Signature(Message):
    """How a call of this task is recognised."""

    fingerprints: list[str] = Field(default_factory=list, description="Digests of exact frames.")
    api: str = "chat.completions"
    tools: list[str] = Field(default_factory=list)
    response_format: str | None = None
    system_prompt: str | None = Field(None, description="The commonest, redacted, cut to 2,000 characters.")


class Example(Message):
    """One redacted call."""

    prompt: str
    response: str


class FoundCluster(Message):
    """One recurring task."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="Stable from run to run.")
    version: str = Field(description="sha256: of its members' ids and its signature.")
    description: str
    size: int = Field(ge=0)
    share: float = Field(ge=0, le=1, description="Of all calls.")
    token_share: float = Field(0.0, ge=0, le=1)
    cohesion: float = Field(0.0, ge=-1, le=1)
    input_tokens_p95: int = 0
    output_tokens_p95: int = 0
    signature: Signature
    output_format: OutputFormat
    examples: list[Example] = Field(default_factory=list, max_length=5)


class ClustersFile(Message):
    """clusters.json."""

    schema_: str = Field("slmfleet/clusters/v1", alias="schema")
    records: int
    skipped: int = Field(0, description="Records set aside: broken, truncated, failed.")
    unassigned: int = 0
    records_digest: str
    clusters: list[FoundCluster]


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


class DiscoveryResult(Message):
    """result.json: what the operator needs to know of a run. Written last, so its presence says the run is whole."""

    schema_: str = Field("slmfleet/discovery-result/v1", alias="schema")
    clusters: ClustersFile
    classifier: ClassifierResult | None = None
