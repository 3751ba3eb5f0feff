"""What a hand-written rule asks of a call, made ready: apart from `rules`, so that the table can hold it.

Nothing here can fail on a request: a body of any shape matches or does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slmfleet.wire.routes import Rule


@dataclass(frozen=True, slots=True)
class Match:
    """One rule. `specialist` None: the LLM, or the generalist."""

    name: str
    specialist: str | None
    model: str | None
    model_prefix: str | None
    headers: tuple[tuple[bytes, bytes], ...]
    system_contains: str | None
    generalist: bool = False

    def takes(self, request: dict[str, Any], headers: Mapping[bytes, bytes]) -> bool:
        """Whether a chat call is this rule's; header names in lower case."""
        if self.model is not None and request.get("model") != self.model:
            return False
        if self.model_prefix is not None and not str(request.get("model")).startswith(self.model_prefix):
            return False
        if any(headers.get(name) != value for name, value in self.headers):
            return False
        return self.system_contains is None or self.system_contains in system_text(request)


def compile_match(rule: Rule) -> Match:
    """Make a rule ready. Raises ValueError where it can match nothing or everything, or says half of where to go."""
    match = rule.match
    if not (match.model or match.model_prefix or match.headers or match.system_contains):
        raise ValueError("match is empty and takes every call; give model, model_prefix, headers or system_contains")
    if (rule.tier == "specialist") != (rule.specialist is not None):
        raise ValueError("specialist is needed for the tier specialist, and for no other")
    return Match(
        name=rule.name,
        specialist=rule.specialist,
        model=match.model or None,
        model_prefix=match.model_prefix or None,
        headers=tuple((header.name.lower().encode(), header.value.encode()) for header in match.headers),
        system_contains=match.system_contains or None,
        generalist=rule.tier == "generalist",
    )


def system_text(request: dict[str, Any]) -> str:
    """The text of a chat call's system and developer messages."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return ""
    roles = ("system", "developer")
    return "\n".join(_text(m.get("content")) for m in messages if isinstance(m, dict) and m.get("role") in roles)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))
