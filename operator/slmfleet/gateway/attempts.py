"""How a specialist's try went: a value, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slmfleet.gateway.answers import Answer

Hedge = Literal["", "won", "lost"]
Result = Literal["served", "spilled", "error", "timeout", "invalid", "low_confidence"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a try went. `reason` says why it did not serve; `answer` is there whenever the specialist said anything.

    `hedge`: whether a second request was sent, and what became of it.
    """

    result: Result
    reason: str = ""
    answer: Answer | None = None
    latency_seconds: float = 0.0
    response: bytes | None = None
    server_erred: bool = False
    hedge: Hedge = ""
