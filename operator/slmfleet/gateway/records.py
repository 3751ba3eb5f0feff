"""From what the data path noted of a call to its usage record (wire.records.UsageRecord), as one JSON line.

Runs in the capture thread. Who called is replaced here by keyed hashes, in the body too, before anything is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import orjson

from slmfleet.gateway.bodies import assemble, decode

ORIGIN_FIELDS = ("user", "safety_identifier")
ORIGIN_HEADERS = (b"authorization", b"api-key", b"x-api-key")


@dataclass(slots=True)
class Logged:
    """One call as the data path noted it: raw bytes, nothing computed."""

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

    @property
    def size(self) -> int:
        """What it holds in memory, about."""
        return len(self.request) + len(self.response or b"") + 512


def to_record(logged: Logged, origin_key: bytes, body_limit: int) -> bytes:
    """The record's JSON, on one line."""
    request, request_cut = _request(logged.request, origin_key, body_limit)
    response, response_cut = _response(logged, body_limit)
    record: dict[str, Any] = {
        "id": logged.id,
        "time": datetime.fromtimestamp(logged.time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "conversation": logged.conversation,
        "origin": _origin(logged, origin_key),
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
        record["size_bytes"] = len(logged.request) + len(logged.response or b"")
    return orjson.dumps(record)


def keyed_hash(value: bytes, key: bytes) -> str:
    """What stands for an origin in the log: the same for the same caller, nothing to anybody without the key."""
    return blake2b(value, key=key[:64], digest_size=12).hexdigest()


def _request(body: bytes, key: bytes, limit: int) -> tuple[Any, bool]:
    if len(body) > limit:
        return _cut(body, limit), True
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace"), False
    if not isinstance(parsed, dict) or not any(field in parsed for field in ORIGIN_FIELDS):
        return _fragment(body, parsed), False
    for field in ORIGIN_FIELDS:
        if parsed.get(field) is not None:
            parsed[field] = keyed_hash(str(parsed[field]).encode(), key)
    return parsed, False


def _response(logged: Logged, limit: int) -> tuple[Any, bool]:
    if logged.response is None:
        return None, False
    body = decode(logged.response, logged.encoding)
    if body is None:
        return None, True
    if logged.streamed and body.lstrip()[:1] != b"{":
        whole = assemble(body, logged.api)
        if not logged.cut and (len(body) <= limit or len(orjson.dumps(whole)) <= limit):
            return whole, False
        return _cut(orjson.dumps(whole), limit), True
    if len(body) > limit or logged.cut:
        return _cut(body, limit), True
    try:
        return _fragment(body, orjson.loads(body)), False
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace"), False


def _fragment(body: bytes, parsed: Any) -> Any:
    """The body as it was, number for number, unless it has line breaks that would break a line of JSONL."""
    return parsed if b"\n" in body or b"\r" in body else orjson.Fragment(body)


def _cut(body: bytes, limit: int) -> str:
    return body[:limit].decode("utf-8", "replace")


def _origin(logged: Logged, key: bytes) -> str:
    parts = {"key": logged.key, "address": logged.peer.encode() if logged.peer else None}
    return ",".join(f"{name}={keyed_hash(value, key)}" for name, value in parts.items() if value)
