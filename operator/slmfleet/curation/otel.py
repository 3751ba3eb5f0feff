"""OpenTelemetry's GenAI telemetry in OTLP/JSON, as the collector's file exporter writes it.

Spans and log records of one call are joined by trace and span id: conventions up to 1.36 put messages into events,
later ones into attributes of the span, of the event `gen_ai.client.inference.operation.details`, or into files that an
upload hook wrote. A span without content (content capture is off by default everywhere, and our gateway's spans never
carry any) cannot teach: set aside.

Conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/ . Not covered: protobuf files, content in object stores
that no mount shows, the name and schema of a response format (the conventions have no place for them).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmfleet.curation.normal import Aside, Element, Json, Part, conversation_of, origin_of, record_of, time_of
from slmfleet.curation.otel_content import Content, NotReachable, content_of

_CHAT = ("chat", "text_completion", "generate_content", "completion")
_PARAMETERS = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.seed": "seed",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.stop_sequences": "stop",
}


def elements(value: Json) -> Iterator[Element]:
    """One part for each span and log record of a line."""
    for resource in _list(value, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            for span in _list(scope, "spans"):
                yield _span(span)
    for resource in _list(value, "resourceLogs"):
        for scope in _list(resource, "scopeLogs"):
            for event in _list(scope, "logRecords"):
                yield _event(event)
    for _ in _list(value, "resourceMetrics"):
        yield Aside("otel: metrics")


def _span(span: Json) -> Element:
    known = plain(span.get("attributes"))
    if not any(k.startswith(("gen_ai.", "llm.")) for k in known):
        return Aside("otel: a span of no model call")
    operation = known.get("gen_ai.operation.name") or known.get("llm.request.type")
    if operation is not None and operation not in (*_CHAT, "embeddings", "embedding"):
        return Aside("otel: a span of no model call")
    if not span.get("traceId") or not span.get("spanId"):
        return Aside("otel: a span without ids")
    events = [{"name": e.get("name"), "body": plain(e.get("attributes"))} for e in _list(span, "events")]
    body = {
        "span": True,
        "known": known,
        "events": events,
        "began": span.get("startTimeUnixNano"),
        "ended": span.get("endTimeUnixNano"),
        "failed": (span.get("status") or {}).get("code") in (2, "STATUS_CODE_ERROR"),
    }
    return Part("otel", f"{span['traceId']}.{span['spanId']}", body)


def _event(event: Json) -> Element:
    known = plain(event.get("attributes"))
    name = str(event.get("eventName") or known.get("event.name") or "")
    if not name.startswith("gen_ai."):
        return Aside("otel: a log record of no model call")
    if not event.get("traceId") or not event.get("spanId"):
        return Aside("otel: an event of no span")
    time = event.get("timeUnixNano") or event.get("observedTimeUnixNano")
    body = {"known": known, "events": [{"name": name, "body": unwrapped(event.get("body") or {})}], "began": time}
    return Part("otel", f"{event['traceId']}.{event['spanId']}", body)


def joined(key: str, bodies: list[Json], root: Path) -> Element:
    """The record of a span with its events."""
    bodies = sorted(bodies, key=lambda b: (not b.get("span"), int(b.get("began") or 0)))
    first, known = bodies[0], {}
    for body in reversed(bodies):
        known.update(body["known"])
    events = [event for body in bodies for event in body["events"]]
    operation = str(known.get("gen_ai.operation.name") or known.get("llm.request.type") or "chat")
    if operation.startswith("embedding"):
        content = Content([{"role": "user", "content": ""}])
    else:
        try:
            content = content_of(known, events, root)
        except NotReachable as reason:
            return Aside(f"otel: {reason}")
    if not content.messages:
        return Aside("otel: a call without its messages (content was not captured)")
    began, ended = int(first.get("began") or 0), int(first.get("ended") or first.get("began") or 0)
    status = _status(known, any(b.get("failed") for b in bodies))
    request = _request(known, content)
    return record_of(
        {
            "id": key,
            "time": time_of(began / 1e9) if began else None,
            "conversation": str(known.get("gen_ai.conversation.id") or "")[:512] or conversation_of(request),
            "origin": origin_of(known.get("user.id") or known.get("enduser.id")),
            "api": "embeddings" if operation.startswith("embedding") else "chat.completions",
            "status": status,
            "latency_seconds": max(0, ended - began) / 1e9,
            "tier": known.get("slmfleet.tier"),
            "streamed": known.get("gen_ai.request.stream") is True,
            "request": request,
            "response": _response(known, content) if status == 200 else None,
        },
        "otel",
    )


def _request(known: Json, content: Content) -> Json:
    request: Json = {"model": known.get("gen_ai.request.model"), "messages": content.messages}
    request |= {name: known[key] for key, name in _PARAMETERS.items() if known.get(key) is not None}
    if content.tools:
        request["tools"] = content.tools
    form = known.get("gen_ai.openai.request.response_format") or known.get("openai.request.response_format")
    if form is None and known.get("gen_ai.output.type") == "json":
        form = "json_object"
    if isinstance(form, str) and form != "text":
        request["response_format"] = {"type": form}
    return request


def _response(known: Json, content: Content) -> Json | None:
    if not content.choices:
        return None
    used = {
        "prompt_tokens": known.get("gen_ai.usage.input_tokens", known.get("gen_ai.usage.prompt_tokens")),
        "completion_tokens": known.get("gen_ai.usage.output_tokens", known.get("gen_ai.usage.completion_tokens")),
    }
    return {
        "id": known.get("gen_ai.response.id"),
        "object": "chat.completion",
        "model": known.get("gen_ai.response.model") or known.get("gen_ai.request.model"),
        "choices": content.choices,
        "usage": {k: v for k, v in used.items() if isinstance(v, int)},
    }


def _status(known: Json, failed: bool) -> int:
    given = known.get("http.response.status_code") or known.get("error.type")
    if str(given).isdecimal() and 200 <= int(str(given)) <= 599:
        return int(str(given))
    return 500 if failed or known.get("error.type") else 200


def plain(attributes: Any) -> Json:
    """Key-values of OTLP/JSON as an object."""
    listed = attributes if isinstance(attributes, list) else []
    return {str(a.get("key")): unwrapped(a.get("value")) for a in listed if isinstance(a, dict)}


def unwrapped(value: Any) -> Any:
    """The value inside an AnyValue of OTLP/JSON; 64-bit numbers are strings there."""
    if not isinstance(value, dict) or not value:
        return None if value == {} else value
    name, inner = next(iter(value.items()))
    if name == "intValue":
        return int(inner) if str(inner).lstrip("-").isdecimal() else None
    if name == "arrayValue":
        return [unwrapped(v) for v in _list(inner, "values")]
    if name == "kvlistValue":
        return plain(_list(inner, "values"))
    return inner if name in ("stringValue", "boolValue", "doubleValue", "bytesValue") else value


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []
