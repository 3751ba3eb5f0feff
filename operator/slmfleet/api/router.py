"""Router: one gateway in front of an agent fleet."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slmfleet.api.base import Model, Name, Prices, Resources, SecretKey, Short, Status, list_map, no_parent, rules
from slmfleet.api.discovery import Discovery, DiscoveryStatus
from slmfleet.api.redaction import Redaction, RedactionStatus


class Llm(Model):
    """The place to escalate to: any OpenAI-compatible URL."""

    url: str = Field(min_length=8, max_length=1024, pattern=r"^https?://.+", description="Base URL, with /v1.")
    model: str | None = Field(None, max_length=253, description="Replaces the model named in the call, where set.")
    api_key_secret_ref: SecretKey | None = Field(None, description="Key; absent: the caller's own is passed on.")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="Longest wait for the whole answer.")
    prices: Prices = Field(default_factory=Prices, description="What its tokens cost.")


class Generalist(Model):
    """A general small model between the specialists and the LLM. Where it fails, the LLM answers."""

    url: str = Field(min_length=8, max_length=1024, pattern=r"^https?://.+", description="Base URL, with /v1.")
    model: str = Field(min_length=1, max_length=253, description="Replaces the model named in the call.")
    api_key_secret_ref: SecretKey | None = Field(None, description="Key; absent: none. The caller's is never sent.")
    timeout_seconds: float = Field(
        30, gt=0, le=3600, description="Longest wait for a whole answer, or for a stream's first bytes."
    )
    prices: Prices = Field(default_factory=Prices, description="What its tokens cost.")
    share_percent: float = Field(100, ge=0, le=100, description="Share of conversations that it may answer.")
    max_request_bytes: int = Field(32768, ge=1, le=16777216, description="Longer calls stay with the LLM.")
    max_in_flight: int = Field(64, ge=1, le=100000, description="Calls of one gateway; what is above goes to the LLM.")
    tools: bool = Field(False, description="Whether it may answer calls with tools.")
    escalations: bool = Field(False, description="Whether it may answer what a specialist could not.")


class Store(Model):
    """Where logs, datasets and adapters live."""

    url: str = Field(
        "file:///",
        max_length=1024,
        pattern=r"^file:///[-A-Za-z0-9_./]*$",
        description="file:///PATH inside the claim.",
        json_schema_extra=rules(
            (
                "self.startsWith('file:///')",
                "store.url must be file:///PATH inside store.claimName; other schemes are not served yet",
            ),
            no_parent("store.url"),
        ),
    )
    claim_name: Short = Field(min_length=1, description="PersistentVolumeClaim in the same namespace.")
    artifact_retention_days: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="Days that adapters and datasets stay once no Specialist needs them; absent: for good.",
    )


class Capture(Model):
    """Usage logging (S1). The gateway seals what it writes and cannot read it back."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!self.enabled || (has(self.recipients) && size(self.recipients) > 0)",
                "capture.recipients needs at least one age public key while capture.enabled is true",
                ".recipients",
            ),
        ),
    )
    enabled: bool = Field(True, description="Whether calls are logged.")
    sample_percent: float = Field(100, ge=0, le=100, description="Share of conversations logged.")
    recipients: list[Annotated[str, Field(max_length=128, pattern=r"^age1[0-9a-z]+$")]] = Field(
        default_factory=list, max_length=16, description="age public keys that can open the log."
    )
    identity_secret_ref: SecretKey | None = Field(
        None, description="age private key, mounted by curation jobs only. Without it nothing is discovered."
    )
    body_limit_bytes: int = Field(262144, ge=1024, le=16777216, description="Longer bodies are cut.")
    segment_records: int = Field(512, ge=1, le=100000, description="Records after which a segment is sealed.")
    segment_seconds: float = Field(5, gt=0, le=3600, description="Seconds after which a segment is sealed.")
    buffer_bytes: int = Field(
        67108864, ge=1048576, le=4294967296, description="Memory for calls that the store does not have yet."
    )
    retention_days: int | None = Field(
        None, ge=1, le=36500, description="Days that the log is kept; absent: until you delete it."
    )


class Gateway(Model):
    """The gateway's pods."""

    replicas: int = Field(1, ge=1, le=100, description="Pods.")
    workers: int = Field(1, ge=1, le=64, description="Processes of one pod; at most one per core.")
    resources: Resources = Field(
        default_factory=lambda: Resources(cpu="500m", memory="512Mi"), description="Of one pod."
    )
    hedge_percent: float = Field(
        5, ge=0, le=10, description="Share of specialists' calls that may be sent to a second server when late."
    )
    access_log_percent: float = Field(0, ge=0, le=100, description="Share of calls with a line in the pod's log.")
    otlp_endpoint: str | None = Field(
        None,
        max_length=1024,
        pattern=r"^https?://.+",
        description="OTLP over HTTP, e.g. http://collector.monitoring:4318; absent: no spans and no OTLP metrics.",
    )


class HeaderMatch(Model):
    """A header of the call with exactly this value."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[-A-Za-z0-9_.]+$", description="Name, in any case.")
    value: str = Field(min_length=1, max_length=1024, description="Value, letter for letter.")


class RuleMatch(Model):
    """What a call must be; everything that is given must hold."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.model) || has(self.modelPrefix) || has(self.systemContains) || "
                "(has(self.headers) && size(self.headers) > 0)",
                "match needs at least one of model, modelPrefix, headers and systemContains",
            ),
        ),
    )
    model: str | None = Field(None, min_length=1, max_length=253, description="The call's model, exactly.")
    model_prefix: str | None = Field(
        None, min_length=1, max_length=253, description="What the call's model begins with."
    )
    headers: list[HeaderMatch] = Field(
        default_factory=list,
        max_length=8,
        description="Headers of the call.",
        json_schema_extra=rules(
            (
                "self.all(h, !(h.name.lowerAscii() in ['authorization', 'api-key', 'x-api-key', 'cookie']))",
                "match.headers must not name a header that carries a secret: a Router's spec can be read by many",
            ),
        ),
    )
    system_contains: str | None = Field(
        None, min_length=1, max_length=1024, description="Part of the system or developer messages, letter for letter."
    )


class Rule(Model):
    """A route written by hand. The first rule that matches wins over everything learned."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(self.tier == 'specialist') == has(self.specialist)",
                "specialist is needed where tier is specialist, and nowhere else",
                ".specialist",
            ),
        ),
    )
    name: Name = Field(description="Shown in the answer's x-slmfleet-route.")
    match: RuleMatch = Field(description="Which calls.")
    tier: Literal["llm", "generalist", "specialist"] = Field(description="Where they go.")
    specialist: Name | None = Field(None, description="The Specialist that answers them.")


class Limits(Model):
    """What one API key may send. Each gateway pod grants its part, rounded up."""

    requests_per_minute: int | None = Field(None, ge=1, le=10000000, description="Calls; absent: no limit.")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=1000000000, description="Input and output tokens; absent: no limit."
    )


class RouterSpec(Model):
    """One gateway, its LLM and its log."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.discovery) || !has(self.discovery.naming) || self.discovery.naming.mode != 'LLM' || "
                "has(self.discovery.naming.model) || has(self.llm.model)",
                "discovery.naming.mode LLM needs discovery.naming.model or llm.model",
                ".discovery.naming.model",
            ),
        ),
    )
    llm: Llm = Field(description="The LLM behind the gateway.")
    generalist: Generalist | None = Field(None, description="A small model before the LLM, for calls of no specialist.")
    store: Store = Field(description="Where logs and artifacts live.")
    capture: Capture = Field(default_factory=lambda: Capture(enabled=False), description="Usage logging.")
    redaction: Redaction = Field(default_factory=Redaction, description="What is replaced before anything is kept.")
    discovery: Discovery = Field(default_factory=Discovery, description="Looking for tasks.")
    gateway: Gateway = Field(default_factory=Gateway, description="The gateway's pods.")
    rules: list[Rule] = Field(
        default_factory=list,
        max_length=64,
        description="Routes written by hand, in the order in which they are tried.",
        json_schema_extra=rules(
            (
                "self.all(r, self.exists_one(other, other.name == r.name))",
                "two rules must not have one name",
            ),
        ),
    )
    limits: Limits | None = Field(None, description="What one API key may send; absent: no limit.")
    currency: str = Field("USD", max_length=3, pattern=r"^[A-Z]{3}$", description="Currency of all prices.")


class TierStatus(Model):
    """Calls that one tier answered."""

    name: Short = Field(description="specialist, generalist or llm.")
    calls: int = Field(0, ge=0, description="Calls answered.")
    share_percent: float = Field(0, ge=0, le=100, description="Of all calls.")


class WeightStatus(Model):
    """Live weights of one specialist."""

    specialist: Short = Field(description="Name.")
    stable: str | None = Field(None, max_length=64, description="Stable revision.")
    candidate: str | None = Field(None, max_length=64, description="Candidate revision.")
    candidate_percent: int = Field(0, ge=0, le=100, description="Conversations that the candidate answers.")
    shadow_percent: int = Field(0, ge=0, le=100, description="LLM calls replayed to the candidate.")


class Savings(Model):
    """What the specialists and the generalist saved so far, at the stated prices."""

    llm_cost_avoided: float = Field(0, description="Tokens served by them, at the LLM's prices.")
    specialist_cost: float = Field(0, description="The same tokens at the pools' and the generalist's prices.")


class Counted(Model):
    """Counts of gateways that are gone, so that totals never fall."""

    instance: Short = Field(description="Gateway process.")
    captured: int = Field(0, ge=0, description="Records.")
    specialist_calls: int = Field(0, ge=0, description="Calls answered by specialists.")
    generalist_calls: int = Field(0, ge=0, description="Calls answered by the generalist.")
    llm_calls: int = Field(0, ge=0, description="Calls answered by the LLM.")
    avoided: float = Field(0, description="LLM cost avoided.")
    spent: float = Field(0, description="Cost of specialists and generalist.")


class Unneeded(Model):
    """A folder of the store that no Specialist refers to."""

    path: str = Field(max_length=512, description="Folder, from the store's root.")
    since: datetime = Field(description="When it was first seen so; it goes artifactRetentionDays later.")


class CleanupStatus(Model):
    """What goes from the store, and when."""

    time: datetime | None = Field(None, description="When the folders were last listed.")
    job: str | None = Field(None, max_length=253, description="Job under way.")
    removing: list[Annotated[str, Field(max_length=512)]] = Field(
        default_factory=list, max_length=50, description="Folders that it removes."
    )
    unneeded: list[Unneeded] = Field(
        default_factory=list, max_length=500, description="Unneeded folders.", json_schema_extra=list_map("path")
    )
    removed: int = Field(0, ge=0, description="Folders removed so far.")


class RouterStatus(Status):
    """What the gateway does."""

    url: str | None = Field(None, max_length=1024, description="Where agents send their calls.")
    ready_replicas: int = Field(0, ge=0, description="Gateways ready.")
    table_version: int = Field(0, ge=0, description="Version of the route table.")
    table_digest: str | None = Field(None, max_length=71, description="Digest of the route table without its version.")
    captured: int = Field(0, ge=0, description="Calls in the log.")
    tiers: list[TierStatus] = Field(
        default_factory=list, max_length=8, description="Share of calls by tier.", json_schema_extra=list_map("name")
    )
    specialist_percent: float | None = Field(None, description="Share of calls that specialists answered.")
    weights: list[WeightStatus] = Field(
        default_factory=list, max_length=1000, description="Live weights.", json_schema_extra=list_map("specialist")
    )
    discovery: DiscoveryStatus = Field(default_factory=DiscoveryStatus, description="The last discovery.")
    redaction: RedactionStatus | None = Field(None, description="Redaction in use, beside the default.")
    cleanup: CleanupStatus | None = Field(None, description="What goes from the store, and when.")
    savings: Savings = Field(default_factory=Savings, description="Saved so far.")
    saved: str | None = Field(None, max_length=32, description="Saved so far, net, as 12.34 USD, for kubectl get.")
    counted: list[Counted] = Field(
        default_factory=list,
        max_length=200,
        description="Counters by gateway process.",
        json_schema_extra=list_map("instance"),
    )


class Router(Model):
    """One gateway in front of an agent fleet."""

    spec: RouterSpec = Field(description="One gateway, its LLM and its log.")
    status: RouterStatus = Field(default_factory=RouterStatus, description="What the gateway does.")
