"""One logged call of an agent (S1). Written by the gateway, read by curation; also our public input format."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from slmfleet.wire.base import Message

Api = Literal["chat.completions", "completions", "responses", "embeddings", "messages"]


class Outcome(Message):
    """What the agent said of the workflow afterwards."""

    success: bool


class UsageRecord(Message):
    """One call. `request` is the body as sent; `response` is what a call without streaming would have returned."""

    id: str = Field(min_length=1, max_length=256)
    time: datetime
    conversation: str | None = Field(None, max_length=512)
    origin: str | None = Field(None, max_length=512, description="Keyed hash of who called; never the caller itself.")
    api: Api = "chat.completions"
    status: int = 200
    latency_seconds: float = Field(0.0, ge=0)
    outcome: Outcome | None = None
    tier: Literal["specialist", "generalist", "llm"] | None = None
    specialist: str | None = None
    revision: str | None = None
    escalated_from: str | None = Field(None, description="Id of the record whose answer was not good enough.")
    escalation_reason: str | None = None
    streamed: bool = False
    truncated: bool = False
    size_bytes: int | None = None
    request: Any = None
    response: Any = None
