"""Which texts of a call somebody wrote, and which are its form: names of models, ids, schemas, settings.

A model that finds names reads what was written alone: it was trained on sentences, and takes "gpt-4o-mini" for a place.
In the form, values are found that a form with its checks vouches for, and the tenant's own.

Told by the key that a text stands under, for the APIs of OpenAI, Anthropic, Google and Cohere. Not covered: what
another API calls otherwise, a person's name in `metadata`, `user` or a message's `name`, and the single tokens of
`logprobs`.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slmfleet.curation.detect import tells
from slmfleet.curation.redact import mapped

Change = Callable[[str], str]
_WRITTEN_WORDS = (
    "content input prompt instructions arguments text output system refusal thinking reasoning_content suffix args "
    "query preamble message texts delta transcript partial_json"
)
_WRITTEN = frozenset(_WRITTEN_WORDS.split())
# An object under one of these is what a program handed over: every text of it was written.
_HANDED_OVER = frozenset(("arguments", "args", "input", "output", "variables"))
_FORM_WORDS = (
    "tools functions response_format format schema json_schema parameters tool_choice metadata usage error logprobs "
    "moderation"
)
_FORM = frozenset(_FORM_WORDS.split())
# Whole numbers of fewer digits are times and counts.
MIN_FORM_NUMBER = 10**14


def changed(value: Any, text: Change, form: Change, key: str = "") -> Any:
    """A request, a response or a message with `text` done to what was written, and `form` to every other text. `key`:
    under which the value stands."""
    if isinstance(value, str):
        return text(value) if key in _WRITTEN else form(value)
    if key in _FORM:
        return _form(value, form)
    if isinstance(value, list):
        return [changed(v, text, form, key if isinstance(v, str) else "") for v in value]
    if isinstance(value, dict):
        if key in _HANDED_OVER:
            return mapped(value, text)
        return {form(k) if tells(k) else k: changed(v, text, form, k) for k, v in value.items()}
    return _form(value, form)


def _form(value: Any, form: Change) -> Any:
    if isinstance(value, int) and abs(value) < MIN_FORM_NUMBER:
        return value
    if isinstance(value, list):
        return [_form(v, form) for v in value]
    if isinstance(value, dict):
        return {form(k) if tells(k) else k: _form(v, form) for k, v in value.items()}
    return mapped(value, form)


def texts_of(value: Any) -> tuple[list[str], list[str]]:
    """(what was written, the other texts) of a request, a response or a message."""
    return collected(lambda text, form: changed(value, text, form))


def collected(walk: Callable[[Change, Change], Any]) -> tuple[list[str], list[str]]:
    """The texts that `walk` gives to its first and to its second argument."""
    written: list[str] = []
    others: list[str] = []
    walk(lambda text: _kept(text, written), lambda text: _kept(text, others))
    return written, others


def _kept(text: str, texts: list[str]) -> str:
    texts.append(text)
    return text
