"""What a conversation says of the answers in it: a tool that refused its call, a user who corrected it.

The evidence against an answer stands in later calls, which repeat it in their history, so it is gathered from every
call of the log and looked up by conversation and answer. Signs are words; they are conservative (a bare "no" answers a
question) and miss what a person would read between the lines. Languages of the corrections: English, German, French,
Spanish, Italian, Portuguese, Dutch, Chinese, Japanese.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from slmfleet.curation.rows import Row
from slmfleet.recognise.frame import text_of

TOOL_ERROR = "a tool refused its call"
CORRECTED = "the user corrected it"
_FAILED = re.compile(
    r"^\W*(?:error|exception|traceback|fatal|failed|failure|invalid|unknown (?:tool|function)|tool not found"
    r"|http(?: status)? ?[45]\d\d|[45]\d\d (?:client|server) error)\b",
    re.I,
)
_WRONG = re.compile(
    r"^\W*(?:(?:no|nope|sorry|nein|non|não|nee)\b[,.!: ]+)?(?:but )?(?:"
    r"(?:that|this|it)(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct|what i|true))|wrong\b|incorrect\b"
    r"|you (?:misunderstood|got (?:it|that) wrong|are wrong|made a mistake|did(?:n't| not) (?:understand|answer))"
    r"|(?:that's |this is )?not what i (?:asked|meant|said|wanted)|i (?:said|asked for|meant)\b|try again\b"
    r"|(?:das|es) (?:ist|war) (?:falsch|nicht richtig|nicht das)|das stimmt nicht|falsch\b|nochmal\b|versuch es noch"
    r"|c'est (?:faux|incorrect)|ce n'est pas (?:ça|ce que|correct)|(?:eso|esto) (?:no es|está mal)|incorrecto\b"
    r"|(?:è|e') sbagliato|non è (?:corretto|quello)|(?:isso|está) (?:está )?errado|não é isso|dat is (?:fout|niet)"
    r"|不对|不對|错了|錯了|不是这个|違います|違う|間違)",
    re.I,
)


def digest(*texts: str) -> int:
    """64 bits of what was said; equal texts have equal ones in every run."""
    return int.from_bytes(blake2b("\x1f".join(texts).encode("utf-8", "replace"), digest_size=8).digest(), "little")


def answer_digest(message: Row) -> int:
    """Of an answer, however a client writes it into its history."""
    calls = message.get("tool_calls")
    called = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            called.append(f"{function.get('name')}{json.dumps(function.get('arguments'), sort_keys=True)}")
    return digest(text_of(message.get("content")).strip(), *called)


def prompt_digest(messages: list[Row]) -> int:
    """Of what was said, without instructions, which may hold the time of day."""
    found = 0
    for message in messages:
        found = _after(found, message)
    return found


def step(prompt: int, answer: int) -> int:
    """One answer to one prompt: the same label at another step is another answer."""
    return digest(str(prompt), str(answer))


def against(messages: list[Row]) -> Iterator[tuple[int, str]]:
    """(step in this history, what speaks against its answer)."""
    before, answered = 0, None
    for message in messages:
        role = message.get("role")
        if role == "assistant":
            answered = step(before, answer_digest(message))
        elif answered is not None and role == "tool" and tool_failed(message):
            yield answered, TOOL_ERROR
        elif answered is not None and role == "user":
            if _WRONG.match(text_of(message.get("content"))[:200]):
                yield answered, CORRECTED
            answered = None
        before = _after(before, message)


def _after(before: int, message: Row) -> int:
    role = str(message.get("role"))
    if role in ("system", "developer"):
        return before
    return digest(str(before), role, str(answer_digest(message)))


def brings_an_answer(messages: list[Row]) -> bool:
    """Whether a tool's answer is among what came after the last answer of the model."""
    for message in reversed(messages):
        if message.get("role") in ("tool", "function"):
            return True
        if message.get("role") == "assistant":
            return False
    return False


def tool_failed(message: Row) -> bool:
    """Whether a tool's answer says that it did not do what it was asked."""
    if message.get("is_error") is True or message.get("status") == "error":
        return True
    text = text_of(message.get("content")).strip()
    if text.startswith("{"):
        try:
            return _says_error(json.loads(text))
        except (ValueError, RecursionError):
            return False
    return bool(_FAILED.match(text[:200]))


def _says_error(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    named = any(value.get(k) for k in ("error", "errors", "exception", "is_error", "isError"))
    denied = value.get("success") is False or value.get("ok") is False
    return named or denied or str(value.get("status")).lower() in ("error", "failed", "failure")
