"""One call as OTLP spans: a SERVER span for what the caller saw, and a CLIENT span for each upstream that was asked.

CLIENT spans follow OpenTelemetry's GenAI conventions (version 1.37, status: development), the SERVER span those of
HTTP; what only this gateway knows is under `slmfleet.`. Content is never in a span: no messages, no stop sequences, no
tool definitions. The encoding is OTLP/JSON: ids in hex, 64-bit numbers as strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmfleet.gateway.seen import Seen, Try

SERVER, CLIENT = 2, 3
ERROR = 2
_FACTS = ("rule", "detail", "specialist", "revision", "arm", "spilled", "hedge", "escalated")

Json = dict[str, Any]


def spans_of(seen: Seen) -> list[Json]:
    """The spans of a sampled call, the server's first."""
    if seen.trace is None or not seen.trace.sampled:
        return []
    tries = seen.tries if seen.operation is not None else []
    return [_server(seen), *(_client(seen, tried) for tried in tries if tried.span_id is not None)]


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Key-values of OTLP/JSON; None is left out."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _server(seen: Seen) -> Json:
    assert seen.trace is not None
    facts = seen.facts()
    route = seen.path if seen.api is not None else None
    failed = str(seen.status) if seen.status >= 500 or seen.status == 499 else None
    known = {
        "http.request.method": seen.method,
        "http.route": route,
        "url.path": seen.path,
        "url.scheme": "http",
        "http.response.status_code": seen.status,
        "error.type": failed,
        "slmfleet.call.id": seen.id,
        "slmfleet.tier": seen.tries[-1].tier if seen.tries else None,
        **{f"slmfleet.{name}": facts.get(name) for name in _FACTS},
        "slmfleet.score": float(facts["score"]) if "score" in facts else None,
    }
    name = f"{seen.method} {route}" if route else seen.method
    return _span(seen, name, SERVER, seen.trace.span_id, seen.trace.parent_id, seen.time, seen.seconds, known, failed)


def _client(seen: Seen, tried: Try) -> Json:
    assert seen.trace is not None and tried.span_id is not None
    operation = seen.operation or "chat"
    known = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": tried.provider,
        "gen_ai.request.model": tried.model or None,
        "gen_ai.conversation.id": seen.conversation,
        **seen.asked,
        "gen_ai.response.model": tried.answered_by,
        "gen_ai.response.id": tried.answer_id,
        "gen_ai.response.finish_reasons": [tried.finish_reason] if tried.finish_reason else None,
        "gen_ai.usage.input_tokens": tried.input_tokens or None,
        "gen_ai.usage.output_tokens": tried.output_tokens or None,
        "server.address": tried.address,
        "server.port": tried.port,
        "error.type": tried.error,
        "slmfleet.tier": tried.tier,
    }
    name = f"{operation} {tried.model}" if tried.model else operation
    return _span(
        seen, name, CLIENT, tried.span_id, seen.trace.span_id, tried.time, tried.seconds, known, tried.error
    )


def _span(
    seen: Seen, name: str, kind: int, span_id: str, parent: str | None, began: float, seconds: float,
    known: Mapping[str, Any], failed: str | None,
) -> Json:  # fmt: skip
    assert seen.trace is not None
    start = int(began * 1e9)
    span: Json = {
        "traceId": seen.trace.trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + int(seconds * 1e9)),
        "attributes": attributes(known),
    }
    if parent is not None:
        span["parentSpanId"] = parent
    if failed is not None:
        span["status"] = {"code": ERROR}
    return span
