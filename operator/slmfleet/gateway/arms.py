"""Which arm of a rollout a conversation is in. Pure: the same conversation, salt and weight give the same arm.

The unit is the conversation, so a tool loop never changes models half way. Growing the weight only ever moves
conversations towards the candidate, shrinking it only back.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

import orjson

from slmfleet.wire.routes import Revision, SpecialistRoute

Arm = Literal["candidate", "stable", "llm"]
LLM = "llm"
ENDS_CHARACTERS = 4096


def bucket(salt: str, conversation: str) -> float:
    """Where a conversation stands, in [0, 100) by hundredths of a percent."""
    return int.from_bytes(sha256((salt + conversation).encode()).digest()) % 10_000 / 100


def choose(route: SpecialistRoute, conversation: str) -> tuple[Arm, Revision | None]:
    """The arm of a conversation, and the revision that answers it (None: the LLM). Who is held back is so in every
    rollout: only then does what the LLM says of a task go on to be known."""
    if route.holdback_percent and sampled(f"holdback/{route.name}/", conversation, route.holdback_percent):
        return "llm", None
    if route.candidate is not None and bucket(route.salt, conversation) < route.weight_percent:
        return "candidate", route.candidate
    if route.stable is not None:
        return "stable", route.stable
    return "llm", None


def sampled(salt: str, conversation: str, percent: float) -> bool:
    """Whether a conversation is in a sample of `percent`; independent of its arm by the salt."""
    return bucket(salt, conversation) < percent


def conversation_of(header: bytes | None, request: Mapping[str, Any] | None) -> str:
    """A conversation's id: the caller's header, or a hash of its first system and user messages.

    Of a long text only its length and both ends count: hashing all of it takes longer than passing the call on.
    """
    if header:
        return header.decode("utf-8", "replace")[:512]
    if request is None:
        return ""
    return "h:" + sha256(orjson.dumps(_opening(request))).hexdigest()[:32]


def _opening(request: Mapping[str, Any]) -> Any:
    messages = request.get("messages", request.get("input"))
    if not isinstance(messages, list) or not any(isinstance(message, dict) for message in messages):
        return _ends(request.get("input", request.get("prompt")))
    first: dict[str, Any] = {}
    system = request.get("system", request.get("instructions"))  # Anthropic's, the Responses API's
    if system is not None:
        first["system"] = system
    for message in messages:
        if not isinstance(message, dict):
            continue
        role = "system" if message.get("role") == "developer" else message.get("role")
        if role in ("system", "user") and role not in first:
            first[role] = message.get("content")
        if len(first) == 2 or role == "user":
            break
    return [_ends(first.get("system")), _ends(first.get("user"))]


def _ends(content: Any) -> Any:
    """A content, its long texts cut to their ends."""
    if isinstance(content, str) and len(content) > 2 * ENDS_CHARACTERS:
        return [len(content), content[:ENDS_CHARACTERS], content[-ENDS_CHARACTERS:]]
    return [*map(_ends_of_part, content)] if isinstance(content, list) else content


def _ends_of_part(part: Any) -> Any:
    text = part.get("text") if isinstance(part, dict) else None
    return {**part, "text": _ends(text)} if isinstance(text, str) else part
