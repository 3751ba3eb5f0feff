"""The one form that every kind of log is brought into: the usage record.

A line gives whole records, parts of records that other lines complete (spans and their events), or reasons why there is
none. Every element of a line is exactly one of the three, so that what was read can be added up. Pure, but for the
content files that spans refer to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from slmfleet.wire.records import Outcome, UsageRecord

Kind = Literal["records", "otel", "litellm", "openai"]
KINDS: tuple[Kind, ...] = ("records", "otel", "litellm", "openai")
Json = dict[str, Any]
DEEPEST = 250
TOO_DEEP = f"nested deeper than {DEEPEST} levels"


@dataclass(frozen=True)
class Whole:
    """A record, and the kind of log it came from. `ignored`: keys of a usage record that nobody reads."""

    record: UsageRecord
    kind: Kind
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A piece of a record: all parts with one `kind` and `key` are one."""

    kind: Kind
    key: str
    body: Json


@dataclass(frozen=True)
class Aside:
    """An element that is no record, and why."""

    reason: str


Element = Whole | Part | Aside


def kind_of(value: Json) -> Kind:
    """What wrote a line, by its own keys; a line of nobody else's is taken for a usage record."""
    if "request" in value and "time" in value:
        return "records"
    if "resourceSpans" in value or "resourceLogs" in value or "resourceMetrics" in value:
        return "otel"
    if "litellm_call_id" in value or ("call_type" in value and "startTime" in value):
        return "litellm"
    if value.get("object") in ("chat.completion", "response"):
        return "openai"
    if value.get("object") == "list" and isinstance(value.get("data"), list):
        return "openai"
    if "role" in value and str(value.get("id", "")).startswith("chatcmpl-"):
        return "openai"
    return "records"


def elements(line: bytes, kind: Kind | None) -> Iterator[Element]:
    """What a line holds; `kind` None: it says itself."""
    from slmfleet.curation import litellm_log, openai_stored, otel

    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        yield Aside("not JSON")
        return
    if too_deep(line, value):
        yield Aside(TOO_DEEP)
        return
    if not isinstance(value, dict):
        yield Aside("not a usage record: the line")
        return
    kind = kind or kind_of(value)
    if kind == "records":
        yield record_of(value, "records")
    elif kind == "otel":
        yield from otel.elements(value)
    elif kind == "litellm":
        yield litellm_log.element(value)
    else:
        yield from openai_stored.elements(value)


def too_deep(line: bytes, value: Any) -> bool:
    """Whether a value is nested deeper than what can be written again."""
    if line.count(b"[") + line.count(b"{") < DEEPEST:
        return False
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


def joined(kind: Kind, key: str, bodies: list[Json], root: Path) -> Element:
    """The record that these parts are, or why they are none."""
    from slmfleet.curation import openai_stored, otel

    if kind == "otel":
        return otel.joined(key, bodies, root)
    return openai_stored.joined(key, bodies)


def record_of(value: Json, kind: Kind) -> Whole | Aside:
    """A checked record."""
    try:
        record = UsageRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        return Aside(f"not a usage record: {'.'.join(map(str, first['loc'])) or 'the line'}")
    if record.time.tzinfo is None:
        return Aside("time without a zone")
    return Whole(record, kind, _ignored(value) if kind == "records" else ())


def _ignored(value: Json) -> tuple[str, ...]:
    """Other programs and newer gateways write records, so a key too many is no fault; a misspelt one should be seen."""
    outcome = value.get("outcome")
    inner = outcome.keys() - Outcome.model_fields.keys() if isinstance(outcome, dict) else ()
    return (*(value.keys() - UsageRecord.model_fields.keys()), *(f"outcome.{key}" for key in inner))


def time_of(value: Any) -> str | None:
    """RFC 3339 of seconds since 1970, or of text that other programs write; without a zone it is UTC."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC).isoformat()
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


def text_or_json(value: Any) -> Any:
    """A value that some writers keep as JSON in a string."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def origin_of(*given: Any) -> str | None:
    """A hash of who called; the caller itself never enters a record."""
    said = [str(v) for v in given if v]
    return hashlib.sha256("\x1f".join(said).encode()).hexdigest()[:32] if said else None


def conversation_of(request: Json) -> str:
    """Where nothing names it: a hash of the instructions and what was said first, which all its later steps repeat."""
    listed = request.get("messages") or request.get("input") or request.get("prompt")
    opening: list[Any] = [request.get("instructions")]
    for message in listed if isinstance(listed, list) else [listed]:
        opening.append(message)
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer"):
            break
    return "derived-" + hashlib.sha256(orjson.dumps(opening, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]
