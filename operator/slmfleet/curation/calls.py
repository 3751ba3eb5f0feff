"""One logged call in the form that every later stage works on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from slmfleet.recognise.frame import Frame, fingerprint_of, frame_of, text_of
from slmfleet.wire.records import UsageRecord


@dataclass(frozen=True)
class Call:
    """A record taken apart: its frame, and its answer as text and tool calls."""

    record: UsageRecord
    frame: Frame
    fingerprint: str
    answer: str
    tool_calls: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def conversation(self) -> str:
        """The unit of every split; a record that names none is a conversation of its own."""
        return self.record.conversation or f"record-{self.record.id}"

    @property
    def set_aside(self) -> str | None:
        """Why this call says nothing of a task, or None."""
        if self.record.api == "embeddings":
            return "embeddings"
        if not 200 <= self.record.status < 300:
            return "failed"
        if self.record.truncated:
            return "truncated"
        if not self.answer.strip() and not self.tool_calls:
            return "no answer"
        return None

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output tokens: as reported, else estimated at 4 characters each."""
        usage = self.record.response.get("usage") if isinstance(self.record.response, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        given = usage.get("prompt_tokens", usage.get("input_tokens"))
        made = usage.get("completion_tokens", usage.get("output_tokens"))
        size = self.frame.input_characters + len(self.frame.system)
        written = len(self.answer) + sum(len(a) for _, a in self.tool_calls)
        return (
            given if isinstance(given, int) else max(1, size // 4),
            made if isinstance(made, int) else max(1, written // 4),
        )


def call_of(record: UsageRecord) -> Call:
    """Take a record apart."""
    frame = frame_of(record.request)
    answer, tools = _answer_of(record.response)
    return Call(record, frame, fingerprint_of(frame), answer, tools)


def _answer_of(response: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    if not isinstance(response, dict):
        return "", ()
    choices = response.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        if isinstance(message, dict):
            return text_of(message.get("content")), _chat_tools(message)
        return text_of(choices[0].get("text")), ()
    output = response.get("output")
    if isinstance(output, list):
        return _responses_answer(output)
    content = response.get("content")
    if isinstance(content, list):
        tools = tuple(
            (str(p.get("name")), json.dumps(p.get("input"), sort_keys=True))
            for p in content
            if isinstance(p, dict) and p.get("type") == "tool_use"
        )
        return text_of([p for p in content if isinstance(p, dict) and p.get("type") == "text"]), tools
    return "", ()


def _chat_tools(message: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    listed = message.get("tool_calls")
    calls = [c.get("function") for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    for function in [*calls, message.get("function_call")]:
        if isinstance(function, dict) and function.get("name"):
            found.append((str(function["name"]), str(function.get("arguments") or "{}")))
    return tuple(found)


def _responses_answer(output: list[Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    texts, tools = [], []
    for item in output:
        if not isinstance(item, dict):
            continue
        if item.get("type") == "function_call":
            tools.append((str(item.get("name")), str(item.get("arguments") or "{}")))
            continue
        texts.append(text_of(item.get("content")))
    return "\n".join(t for t in texts if t), tuple(tools)


def answered_by_llm(record: UsageRecord) -> bool:
    """Whether the LLM answered: an adapter that learned from a small model's answers would learn its mistakes."""
    return record.tier == "llm" or (record.tier is None and not (record.specialist or record.revision))
