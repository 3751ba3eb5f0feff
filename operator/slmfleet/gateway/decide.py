"""Who owns a call: by its model's name, a declared signature, its exact frame, the classifier; else nobody does.

Nobody means the LLM. Rules written by hand come before all of it (`rules`). A call that asks for something that no
specialist of the table can give (several choices, images, …) stays with the LLM before anything is classified.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from slmfleet.gateway.demands import unmet
from slmfleet.gateway.log import log
from slmfleet.gateway.table import CompiledRoute, Fingerprint, Table

Rule = Literal[
    "hand", "explicit", "signature", "fingerprint", "classifier", "abstain", "unsupported", "unserved", "none"
]

_UNSUPPORTED = (
    "tools",
    "functions",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "audio",
    "prediction",
    "web_search_options",
)
_ASKED_FOR = frozenset((*_UNSUPPORTED, "n", "modalities"))
TOOLS = ("tools", "functions")
OF_TOOLS = (*TOOLS, "tool_choice", "tool_messages")
"""Reasons of `unsupported` that a model with tools does not share."""
_ROLES = ("system", "developer", "user", "assistant")


class Chosen(NamedTuple):
    """The owner of a call, if any, and how that was found. `generalist`: a rule by hand names it."""

    route: CompiledRoute | None
    rule: Rule
    score: float | None = None
    detail: str | None = None
    generalist: bool = False


NOBODY = Chosen(None, "none")


def decide(table: Table, request: dict[str, Any] | None, fingerprint: Fingerprint | None) -> Chosen:
    """Who owns this chat call."""
    if request is None or not table.by_name:
        return NOBODY
    explicit = table.by_name.get(str(request.get("model")))
    reason = unsupported(table, request)
    if reason is not None:
        return Chosen(None, "unsupported", detail=reason)
    if explicit is not None:
        return fitting(Chosen(explicit, "explicit"), request)
    declared = table.declared.owner_of(request)
    if declared is not None:
        route = table.by_cluster.get(declared)
        if route is None:
            return Chosen(None, "unserved", detail=declared)
        return fitting(Chosen(route, "signature"), request)
    if fingerprint is not None and table.by_fingerprint:
        route = table.by_fingerprint.get(fingerprint(request))
        if route is not None:
            return fitting(Chosen(route, "fingerprint"), request)
    return _classified(table, request)


def unsupported(table: Table, request: dict[str, Any]) -> str | None:
    """What this call asks for that no specialist of the table gives, or None."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages"
    if not _ASKED_FOR.isdisjoint(request):
        for field in _UNSUPPORTED:
            if request.get(field) and not (field == "tools" and table.calls_tools):
                return field
        if request.get("n") not in (None, 1):
            return "n"
        if request.get("modalities") not in (None, ["text"]):
            return "modalities"
    if all(map(_is_text, messages)):
        return None
    return "tool_messages" if any(map(_is_of_a_tool, messages)) else "content"


def _classified(table: Table, request: dict[str, Any]) -> Chosen:
    if table.classifier is None:
        return Chosen(None, "abstain")
    try:
        decision = table.classifier.classify(request)
    except Exception as error:
        log("error", "ClassifierFailed", error=type(error).__name__)
        return Chosen(None, "abstain", detail="classifier failed")
    if decision.label is None:
        return Chosen(None, "abstain", decision.score, decision.runner_up)
    route = table.by_cluster.get(decision.label)
    if route is None:
        return Chosen(None, "unserved", decision.score, decision.label)
    return fitting(Chosen(route, "classifier", decision.score), request)


def fitting(chosen: Chosen, request: dict[str, Any]) -> Chosen:
    """A call that demands JSON, its own schema or tools is not for a specialist that cannot meet that."""
    reason = unmet(request, chosen.route.spec.output) if chosen.route is not None else None
    return chosen if reason is None else Chosen(None, "unsupported", chosen.score, reason)


def _is_of_a_tool(message: Any) -> bool:
    """Training writes no tool calls before the answer, so a specialist has never seen such a turn whole."""
    if not isinstance(message, dict):
        return False
    return message.get("role") in ("tool", "function") or bool(message.get("tool_calls"))


def _is_text(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in _ROLES or message.get("tool_calls"):
        return False
    content = message.get("content")
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )
