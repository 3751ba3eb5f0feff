"""What the operator tells a gateway: where each recognised task goes. The gateway reads nothing else of the cluster.

As a file it is YAML or JSON (`slmfleet gateway --table FILE`), watched for changes. A table is always whole: the
gateway swaps it in one assignment, so no request ever sees half of a change.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from slmfleet.wire.base import Strict


class Prices(Strict):
    """What a tier costs, in the currency of the Router, per million tokens."""

    input_per_million: float = Field(0.0, ge=0)
    output_per_million: float = Field(0.0, ge=0)


class Upstream(Strict):
    """The LLM: any OpenAI-compatible URL."""

    url: str = Field(description="Base URL up to and including /v1.")
    model: str | None = Field(None, description="Replaces the request's model where set.")
    api_key_file: str | None = Field(None, description="File with the key; absent: the caller's own goes on.")
    timeout_seconds: float = Field(120.0, gt=0)
    prices: Prices = Prices()


class Generalist(Upstream):
    """A general small model between the specialists and the LLM: any OpenAI-compatible URL.

    It answers chat calls that no specialist owns; where it fails before anything was sent to the caller, the LLM does.
    """

    model: str = Field(description="Replaces the request's model.")
    timeout_seconds: float = Field(30.0, gt=0, description="Of its try: to a whole answer, or a stream's first bytes.")
    share_percent: float = Field(100.0, ge=0, le=100, description="Share of conversations that it may answer.")
    max_request_bytes: int = Field(32_768, ge=1, description="Longer calls stay with the LLM.")
    max_in_flight: int = Field(64, ge=1, description="Calls above which a call goes to the LLM.")
    tools: bool = Field(False, description="Whether it may answer calls with tools.")
    escalations: bool = Field(False, description="Whether it may answer what a specialist could not.")


class Endpoint(Strict):
    """One Triton server of a pool, and the adapters that have answered a probe there."""

    url: str = Field(description="http://HOST:PORT of Triton's HTTP endpoint.")
    adapters: list[str] = Field(default_factory=list)


class Pool(Strict):
    """The servers of one base model."""

    name: str
    model: str = Field("slm", description="Triton's model name.")
    chat_template: str = Field(description="Jinja template of the base's tokenizer, as in tokenizer_config.json.")
    bos_token: str = ""
    eos_token: str = ""
    context_tokens: int = Field(2048, ge=1)
    endpoints: list[Endpoint] = Field(default_factory=list)
    max_in_flight: int = Field(32, ge=1, description="Calls per endpoint above which a call goes to the next tier.")
    queue_seconds: float = Field(0.0, ge=0, description="How long a call may wait for a slot before it goes there.")
    prices: Prices = Prices()


class Revision(Strict):
    """One adapter of a specialist."""

    name: str = Field(description="Short digest of the revision; what is written into records and signals.")
    adapter: str = Field(description="Name of the adapter on the pool.")
    pool: str


class OutputFormat(Strict):
    """What a valid answer looks like. `json`: an object that validates against `json_schema`; `label`: one of `labels`,
    bare; `tool`: calls of the request's tools, in the strict text of `wire.toolcalls`; `text`: anything not empty."""

    type: Literal["json", "label", "tool", "text"] = "text"
    json_schema: dict[str, Any] | None = None
    labels: list[str] | None = None


VARIABLE = re.compile(r"(?<![-\w.:,/+@])[-\w.:,/+@]*(?:\{\{?\s*[A-Za-z_]\w*\s*\}?\}[-\w.:,/+@]*)+")
"""What may be any text in a declared system prompt: `{name}` or `{{ name }}`, with what is glued to it."""


class Signature(Strict):
    """How the calls of a declared task are recognised: by `fingerprints` alone where there are any, else by all of the
    other fields that are given."""

    fingerprints: list[str] = Field(default_factory=list, description="Digests of exact frames.")
    tools: list[str] = Field(default_factory=list, description="Tools that the call must offer.")
    response_format: str | None = Field(None, description="TYPE or TYPE:NAME of the response_format.")
    system_prompt: str | None = Field(None, description="The system prompt; {name} stands for any text.")

    @property
    def given(self) -> tuple[str, ...]:
        """The fields that tell a call apart; none: no call is recognised. A prompt of variables alone tells nothing."""
        prompt = VARIABLE.sub("", self.system_prompt or "")
        told = {
            "fingerprints": any(self.fingerprints),
            "systemPrompt": any(c.isalpha() for c in prompt),
            "tools": any(self.tools),
            "responseFormat": bool(self.response_format),
        }
        return tuple(name for name, is_given in told.items() if is_given)


class Declared(Strict):
    """A task that a person declared: its calls are nobody else's, whether a specialist serves it or not."""

    cluster: str
    signature: Signature


class SpecialistRoute(Strict):
    """One specialist: which calls it owns, and which revision answers them."""

    name: str
    cluster: str = Field(description="The class the classifier gives to its calls.")
    fingerprints: list[str] = Field(default_factory=list, description="Exact frames that are always this task.")
    output: OutputFormat = OutputFormat()
    stable: Revision | None = None
    candidate: Revision | None = None
    weight_percent: int = Field(0, ge=0, le=100, description="Share of conversations that the candidate answers.")
    shadow_percent: int = Field(0, ge=0, le=100, description="Share of the LLM's calls replayed to the candidate.")
    holdback_percent: float = Field(0.0, ge=0, le=50, description="Share of conversations that stay with the LLM.")
    salt: str = Field("", description="Makes the arm of a conversation independent between rollouts.")
    max_tokens: int = Field(128, ge=1)
    timeout_seconds: float = Field(10.0, gt=0, description="Of the specialist's try; then the call escalates.")
    samples: int = Field(1, ge=1, le=9, description="Answers sampled; above 1, more than half must agree.")
    min_logprob: float | None = Field(None, description="Mean log-probability under which an answer escalates.")


class ClassifierRef(Strict):
    """The learned part of routing, by digest: the table never carries its data."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    path: str = Field(description="Path of the file, relative to the gateway's --store.")


class HeaderMatch(Strict):
    """A header of the call with exactly this value."""

    name: str = Field(min_length=1, description="In any case.")
    value: str


class RuleMatch(Strict):
    """What a call must be for a rule: everything that is given must hold."""

    model: str | None = Field(None, description="The call's `model`, exactly.")
    model_prefix: str | None = Field(None, description="What the call's `model` begins with.")
    headers: list[HeaderMatch] = Field(default_factory=list)
    system_contains: str | None = Field(None, description="Part of the system or developer messages, exactly.")


class Rule(Strict):
    """A route written by hand. The first rule that matches wins, over everything learned and over explicit names."""

    name: str = Field(min_length=1)
    match: RuleMatch
    tier: Literal["llm", "generalist", "specialist"] = Field(description="Where such calls go.")
    specialist: str | None = Field(None, description="Which one, for the tier `specialist`.")


class Limits(Strict):
    """What one API key may send in a minute, to all gateways together. Absent: no limit."""

    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1, description="Input and output together.")
    replicas: int = Field(1, ge=1, description="Gateways that the calls are spread over: each grants its part.")


class Capture(Strict):
    """How calls are logged (S1)."""

    enabled: bool = True
    sample_percent: float = Field(100.0, ge=0, le=100)
    recipients: list[str] = Field(default_factory=list, description="age public keys (age1…).")
    body_limit_bytes: int = Field(262_144, ge=1024)
    segment_records: int = Field(512, ge=1, le=100_000)
    segment_seconds: float = Field(5.0, gt=0, le=3600, description="With segment_records, what a kill may lose.")
    buffer_bytes: int = Field(
        64 << 20, ge=1 << 20, le=4 << 30, description="Bound on calls in memory that are not yet in the store."
    )
    retention_days: int | None = Field(None, ge=1, le=36_500, description="Older days of the log are deleted.")


class RouteTable(Strict):
    """Everything a gateway needs to know."""

    version: int = Field(0, ge=0, description="Grows with every change; a gateway never goes back.")
    router: str = Field(
        pattern=r"^(?:[^/]+/)?[A-Za-z0-9][-A-Za-z0-9_.]*$",
        description="namespace/name of the Router; the name is its log's folder.",
    )
    llm: Upstream
    generalist: Generalist | None = None
    classifier: ClassifierRef | None = None
    capture: Capture = Capture(enabled=False)
    pools: list[Pool] = Field(default_factory=list)
    specialists: list[SpecialistRoute] = Field(default_factory=list)
    rules: list[Rule] = Field(default_factory=list)
    declared: list[Declared] = Field(default_factory=list, description="Declared tasks, asked before fingerprints.")
    limits: Limits | None = None
    hedge_percent: float = Field(
        5.0, ge=0, le=10, description="Share of specialists' calls that may be sent to a second server when late."
    )
    conversation_header: str = "x-conversation-id"
