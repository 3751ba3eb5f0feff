"""From what the data path noted of a call to its usage record (wire.records.UsageRecord), as one JSON line.

Runs in the capture thread, which shares the interpreter with the event loop: a body that the data path has parsed is
not parsed again. Who called is replaced here by keyed hashes, in the bodies too, before anything is sealed.

Not covered: a caller's name in fields or texts of its own making; in a body that was cut or is no JSON, keys written
with escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson

from slmfleet.gateway.bodies import assemble, decode

ORIGIN_FIELDS = ("user", "safety_identifier")  # of OpenAI's bodies, and echoed in answers of /v1/responses
ORIGIN_METADATA = "user_id"  # of Anthropic's `metadata`
ORIGIN_HEADERS = (b"authorization", b"api-key", b"x-api-key")
_ORIGIN_KEYS = frozenset((*ORIGIN_FIELDS, "metadata"))
_ORIGIN_TEXT = re.compile(rb'("(?:user|safety_identifier|user_id)"\s*:\s*)"((?:[^"\\]|\\.)*)"?')

Origins = dict[tuple[bytes | None, str], str]
"""What stands for whom, while a batch is written: no longer, since it holds the callers' keys."""


@dataclass(slots=True)
class Logged:
    """One call as the data path noted it: raw bytes, nothing computed.

    `plain`: the request is known to be a JSON object that names no origin. `noted`: when, in monotonic seconds.
    """

    id: str
    time: float
    conversation: str
    api: str
    status: int
    latency_seconds: float
    tier: str
    request: bytes
    response: bytes | None
    key: bytes | None = None
    peer: str = ""
    specialist: str | None = None
    revision: str | None = None
    escalated_from: str | None = None
    escalation_reason: str | None = None
    streamed: bool = False
    encoding: bytes | None = None
    cut: bool = False
    plain: bool = False
    noted: float = 0.0
    size: int = 0
    request_bytes: int = 0
    response_bytes: int = 0

    def cut_to(self, limit: int) -> int:
        """Let go of what is over the limit on a body; what it then holds in memory, about, in bytes."""
        response = self.response or b""
        self.request_bytes, self.response_bytes = len(self.request), len(response)
        if self.request_bytes > limit:
            self.request = self.request[:limit]
        if self.response_bytes > limit and not self.streamed and self.encoding is None:
            self.response = response = response[:limit]
            self.cut = True
        self.size = len(self.request) + len(response) + 512
        return self.size


def is_plain(request: Mapping[str, Any] | None) -> bool:
    """Whether a parsed request may be written as it came: it is an object, and names no origin."""
    return request is not None and _ORIGIN_KEYS.isdisjoint(request)


def to_record(logged: Logged, origin_key: bytes, body_limit: int, origins: Origins | None = None) -> bytes:
    """The record's JSON, on one line. `logged` has been cut to the limit of its time. `origins`: those of a batch."""
    request, request_cut = _request(logged, origin_key)
    response, response_cut = _response(logged, origin_key, body_limit)
    record: dict[str, Any] = {
        "id": logged.id,
        "time": datetime.fromtimestamp(logged.time, UTC).replace(tzinfo=None),  # orjson asks a zone much
        "conversation": logged.conversation,
        "origin": _origin(logged, origin_key, {} if origins is None else origins),
        "api": logged.api,
        "status": logged.status,
        "latency_seconds": round(logged.latency_seconds, 6),
        "tier": logged.tier,
        "specialist": logged.specialist,
        "revision": logged.revision,
        "streamed": logged.streamed,
        "request": request,
        "response": response,
    }
    if logged.escalated_from is not None:
        record["escalated_from"] = logged.escalated_from
        record["escalation_reason"] = logged.escalation_reason
    if request_cut or response_cut:
        record["truncated"] = True
        record["size_bytes"] = logged.request_bytes + logged.response_bytes
    return orjson.dumps(record, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def keyed_hash(value: bytes, key: bytes) -> str:
    """What stands for an origin in the log: the same for the same caller, nothing to anybody without the key."""
    return blake2b(value, key=key[:64], digest_size=12).hexdigest()


def _request(logged: Logged, key: bytes) -> tuple[Any, bool]:
    body = logged.request
    if logged.request_bytes > len(body):
        return _text(body, key), True
    if logged.plain and _one_line(body):
        return orjson.Fragment(body), False
    return _json(body, key), False


def _response(logged: Logged, key: bytes, limit: int) -> tuple[Any, bool]:
    if logged.response is None:
        return None, False
    body = decode(logged.response, logged.encoding)
    if body is None:
        return None, True
    if logged.streamed and body.lstrip()[:1] != b"{":
        whole = _assembled(body, logged.api)
        if whole is None:
            return _text(body[:limit], key) if body else None, logged.cut or len(body) > limit
        _replace_origins(whole, key)
        if not logged.cut and (len(body) <= limit or len(orjson.dumps(whole)) <= limit):
            return whole, False
        return orjson.dumps(whole)[:limit].decode("utf-8", "replace"), True
    if len(body) > limit or logged.cut:
        return _text(body[:limit], key), True
    return _json(body, key), False


def _assembled(stream: bytes, api: str) -> Any:
    """The object that a stream stands for; None for one that is not of its API's form."""
    try:
        return assemble(stream, api)
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


def _json(body: bytes, key: bytes) -> Any:
    """The body as it was, number for number, but for origins and for line breaks, which would break a line of JSONL."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _text(body, key)
    if _replace_origins(parsed, key) or not _one_line(body):
        return parsed
    return orjson.Fragment(body)


def _one_line(body: bytes) -> bool:
    return b"\n" not in body and b"\r" not in body


def _replace_origins(body: Any, key: bytes) -> bool:
    """Put hashes in the place of who called; whether there was anything to replace."""
    if not isinstance(body, dict) or _ORIGIN_KEYS.isdisjoint(body):
        return False
    named = [(body, field) for field in ORIGIN_FIELDS]
    if isinstance(body.get("metadata"), dict):
        named.append((body["metadata"], ORIGIN_METADATA))
    found = [(part, field) for part, field in named if part.get(field) is not None]
    for part, field in found:
        part[field] = keyed_hash(str(part[field]).encode("utf-8", "replace"), key)
    return bool(found)


def _text(body: bytes, key: bytes) -> str:
    """A body that is no JSON, or no longer."""
    hashed = _ORIGIN_TEXT.sub(lambda found: b'%b"%b"' % (found[1], keyed_hash(found[2], key).encode()), body)
    return hashed.decode("utf-8", "replace")


def _origin(logged: Logged, key: bytes, known: Origins) -> str:
    who = logged.key, logged.peer
    origin = known.get(who)
    if origin is None:
        parts = {"key": logged.key, "address": logged.peer.encode() if logged.peer else None}
        origin = known[who] = ",".join(f"{name}={keyed_hash(value, key)}" for name, value in parts.items() if value)
    return origin
