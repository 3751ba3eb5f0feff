"""What one call is to a task: whose it is, whether its answer teaches, and the few bytes by which it is compared.

The per-record stage of curation: a pure function of one record, so that one process, or as many workers as there are
blocks, do the same. What needs more than one record is decided afterwards (`decide`), on these results alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from slmfleet.curation import formats, signs
from slmfleet.curation.calls import Call, call_of
from slmfleet.curation.duplicates import print_of
from slmfleet.curation.language import UNDETERMINED, language_of
from slmfleet.curation.repair import repaired
from slmfleet.curation.rows import answer_of, broken_calls, messages_of, new_text, other_than_text, tools_of
from slmfleet.curation.sources import Read
from slmfleet.recognise.classifier import Classifier
from slmfleet.recognise.signature import Signatures
from slmfleet.wire.discovery import FoundCluster
from slmfleet.wire.routes import OutputFormat

# The order in which a call passes them; a reason belongs to the first that refused it.
STAGES = ("time", "answered by", "success", "form", "duplicates", "origin", "split")


@dataclass(frozen=True)
class Task:
    """The task that a dataset is made for, and the limits of a call."""

    cluster: FoundCluster
    assigned: dict[str, str | None]
    classifier: Classifier | None
    since: datetime | None = None
    until: datetime | None = None
    languages: frozenset[str] = frozenset()
    max_tokens: int = 0
    declared: Signatures = field(default_factory=Signatures)

    def owns(self, call: Call) -> bool:
        """Whether the call is its own: a declared task's by its signature, before all else, as in the gateway; else
        where discovery gave it the call, or its classifier does where discovery did not see it."""
        claimed = self.declared.owner(call.frame, call.fingerprint)
        if self.cluster.declared or claimed is not None:
            return claimed == self.cluster.name
        if call.id in self.assigned:
            return self.assigned[call.id] == self.cluster.name
        return self.classifier is not None and self.classifier.classify_frame(call.frame).label == self.cluster.name


class Examined(NamedTuple):
    """One call. `reason` empty: nothing speaks against it alone. `line` empty: a call of another task.

    `prompt`, `answer`, `exact` are 64-bit digests; `signature` is a MinHash. `against`: what its history says of
    earlier answers. `outcome`: -1 not declared, else 0 or 1. `answered`: llm, generalist or specialist. `named`: the
    log names its conversation. `tool`: the first that it calls. `returned`: it brings a tool's answer.
    """

    id: str
    where: str
    conversation: str
    origin: str
    time: float
    outcome: int
    against: tuple[tuple[int, str], ...]
    named: bool = False
    tool: str = ""
    returned: bool = False
    line: bytes = b""
    stage: str = ""
    reason: str = ""
    answered: str = ""
    model: str = ""
    repaired: str = ""
    escalated_from: str = ""
    prompt: int = 0
    answer: int = 0
    exact: int = 0
    signature: bytes = b""


def examine(read: Read, task: Task) -> Examined:
    """A record of the log, as the task sees it."""
    record = read.record
    call = call_of(record)
    messages = messages_of(call)
    seen = Examined(
        id=record.id,
        where=read.where,
        conversation=call.conversation,
        origin=record.origin or "",
        time=record.time.timestamp(),
        outcome=-1 if record.outcome is None else int(record.outcome.success),
        against=tuple(dict.fromkeys(signs.against(messages))) if len(messages) > 2 else (),
        named=bool(record.conversation),
        tool=call.tool_calls[0][0] if call.tool_calls else "",
        returned=signs.brings_an_answer(messages),
    )
    if not task.owns(call):
        return seen
    seen = seen._replace(
        line=orjson.dumps([read.kind, read.where]) + b"\n" + record.model_dump_json(exclude_defaults=True).encode(),
        answered=answered_by(call),
        model=str(record.response.get("model") or "") if isinstance(record.response, dict) else "",
        escalated_from=record.escalated_from or "",
    )
    stage, reason = refusal(call, task)
    if reason:
        return seen._replace(stage=stage, reason=reason)
    mended, how = mend(call, task.cluster.output_format)
    said = answer_of(call, mended)
    mark = print_of(new_text(messages))
    return seen._replace(
        repaired=how,
        prompt=signs.prompt_digest(messages),
        answer=signs.answer_digest(said),
        exact=mark.exact,
        signature=mark.signature,
    )


def answered_by(call: Call) -> str:
    """Who wrote the answer; a record that does not say is the LLM's, unless it names a specialist."""
    if call.record.tier is not None:
        return call.record.tier
    return "specialist" if call.record.specialist or call.record.revision else "llm"


def refusal(call: Call, task: Task) -> tuple[str, str]:
    """(stage, why) where this call's answer does not teach, else empty."""
    record = call.record
    if task.since is not None and record.time < task.since:
        return "time", "before --since"
    if task.until is not None and record.time >= task.until:
        return "time", "after --until"
    if answered_by(call) != "llm":
        return "answered by", f"answered by a {answered_by(call)}"
    if call.set_aside is not None:
        return "success", call.set_aside
    if record.outcome is not None and not record.outcome.success:
        return "success", "the workflow failed"
    if cut_short(record.response):
        return "success", "the answer was cut short"
    return "form", form_fault(call, task)


def form_fault(call: Call, task: Task) -> str:
    """What of length, language or format is not as it should be."""
    if task.max_tokens and sum(call.tokens) > task.max_tokens:
        return f"longer than {task.max_tokens} tokens"
    messages = messages_of(call)
    if other_than_text(messages):
        return "content other than text"
    if broken_calls(messages):
        return "a broken call of a tool in its history"
    if task.languages:
        found = language_of(call.frame.user)
        if found != UNDETERMINED and found not in task.languages:
            return f"language: {found}"
    if call.tool_calls:
        return tool_fault(call)
    fault = formats.fault(call.answer, task.cluster.output_format)
    if fault is None or repaired(call.answer, task.cluster.output_format) is not None:
        return ""
    return f"format: {fault}"


def mend(call: Call, expected: OutputFormat) -> tuple[str | None, str]:
    """(answer as it should have been written, what was mended)."""
    if call.tool_calls or formats.fault(call.answer, expected) is None:
        return None, ""
    found = repaired(call.answer, expected)
    return found if found is not None else (None, "")


def tool_fault(call: Call) -> str:
    """Calls of tools must be of tools that were offered, with arguments that their schemas accept."""
    schemas = {}
    for tool in tools_of(call):
        inner = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            schemas[inner["name"]] = inner.get("parameters") or {}
    for name, arguments in call.tool_calls:
        if schemas and name not in schemas:
            return "format: a tool that was not offered"
        schema = schemas.get(name) or {"type": "object"}
        expected = OutputFormat(type="json", json_schema=schema if isinstance(schema, dict) else {"type": "object"})
        fault = formats.fault(arguments, expected)
        if fault is not None:
            return f"format: arguments of a tool: {fault}"
    return ""


def cut_short(response: Any) -> bool:
    """Whether the model stopped at a limit and not at the end."""
    choices = response.get("choices") if isinstance(response, dict) else None
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0].get("finish_reason") in ("length", "content_filter")
    return isinstance(response, dict) and (
        response.get("status") == "incomplete" or response.get("stop_reason") == "max_tokens"
    )
