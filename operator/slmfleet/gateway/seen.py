"""What was seen of one call, as values: never a prompt, an answer or a key. Access log, spans and metrics read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slmfleet.gateway.trace import Trace

OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


@dataclass(slots=True)
class Try:
    """One upstream that was asked. `time`: seconds since the epoch when it began. `error`: one word, or None."""

    tier: str
    time: float
    seconds: float
    provider: str
    model: str
    error: str | None = None
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    address: str | None = None
    port: int | None = None
    span_id: str | None = None
    answered_by: str | None = None
    answer_id: str | None = None
    finish_reason: str | None = None


@dataclass(slots=True)
class Seen:
    """One call. `note`: what the route header says. `asked`: gen_ai.request.* attributes, for a sampled trace."""

    id: str
    time: float
    seconds: float
    method: str
    path: str
    status: int
    api: str | None = None
    model: str = ""
    streamed: bool = False
    caller: str | None = None
    conversation: str | None = None
    note: list[str] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    trace: Trace | None = None

    @property
    def operation(self) -> str | None:
        """The GenAI operation, where it is one."""
        return OPERATIONS.get(self.api or "")

    def facts(self) -> dict[str, str]:
        """The route header's facts by name."""
        return dict(item.split("=", 1) for item in self.note)
