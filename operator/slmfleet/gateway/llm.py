"""The last tier: pass a call on to the LLM as it came, and its answer back as it comes.

Only the credential (where the Router has its own key), Host and hop-by-hop headers change, and `model` where the Router
aliases it; then exactly those bytes of the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from slmfleet.gateway import errors
from slmfleet.gateway.bodies import decode, token_counts
from slmfleet.gateway.call import Call
from slmfleet.gateway.deadline import of_the_last
from slmfleet.gateway.endings import cut_short
from slmfleet.gateway.errors import ApiError
from slmfleet.gateway.exchange import Exchange
from slmfleet.gateway.headers import Header, block
from slmfleet.gateway.relay import TAIL_BYTES, Relay, end_to_end
from slmfleet.gateway.table import Llm
from slmfleet.gateway.trace import TRACEPARENT
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError

CONNECT_SECONDS = 5.0
STREAM_FACTOR = 10.0
_OURS = frozenset((b"host", b"content-length", b"expect"))
_CREDENTIALS = (b"authorization", b"api-key", b"x-api-key")
_OURS_WITH_KEY = _OURS | frozenset(_CREDENTIALS)
_SEQUENCE = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_MODEL = re.compile(rb'("model"\s*:\s*)("(?:[^"\\]|\\.)*")')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')
_ALIASED = ("chat.completions", "completions", "responses")


class Outcome(NamedTuple):
    """How the LLM answered. `response` is what was kept for the log; `error` is ours, if the answer is; `tail` is the
    readable end of its body."""

    status: int
    latency_seconds: float
    response: bytes | None
    encoding: bytes | None
    streamed: bool
    cut: bool
    input_tokens: int
    output_tokens: int
    error: ApiError | None = None
    tail: bytes = b""

    @property
    def failed(self) -> bool:
        return self.status >= 500


async def pass_on(client: Client, exchange: Exchange, call: Call, keep: int, clock: Callable[[], float]) -> Outcome:
    """Answer a call with the LLM. The caller has its answer (or an error) when this returns."""
    llm = call.table.llm
    relay = Relay(exchange, call.own_headers("llm"), keep)
    begun = clock()
    first_byte = of_the_last(llm.spec.timeout_seconds, call.deadline, begun)
    timeouts = Timeouts(min(CONNECT_SECONDS, first_byte), first_byte, llm.spec.timeout_seconds * STREAM_FACTOR)
    try:
        payload = request_bytes(llm, call)
        await client.send(llm.origin, payload, relay, timeouts, no_body=call.http.method == b"HEAD")
        if relay.open_ended and cut_short(relay.tail, call.api, TAIL_BYTES):
            raise UpstreamError("closed", "it closed the connection before the stream's end")
        relay.end()
    except UpstreamError as error:
        failure = explain(error, str(llm.origin), exchange.started, client.max_connections)
        failure.sequence_number = _next_event(relay.tail)
        exchange.fail(failure, call.own_headers("llm"))
        return Outcome(failure.status, clock() - begun, failure.body(call.http.path), None, False, False, 0, 0, failure)
    tail = _readable_tail(relay)
    inputs, outputs = token_counts(tail)
    return Outcome(
        relay.status,
        clock() - begun,
        relay.kept() if keep else None,
        relay.encoding,
        relay.event_stream,
        relay.cut,
        inputs,
        outputs,
        tail=tail,
    )


def request_bytes(llm: Llm, call: Call, without: frozenset[bytes] = frozenset()) -> bytes:
    """The whole request for the LLM, without the headers named (lower case)."""
    http = call.http
    body = http.body
    if llm.spec.model is not None and call.request is not None and call.api in _ALIASED:
        body = with_model(body, call.request, llm.spec.model)
    parts = [b"%b %b%b HTTP/1.1\r\nhost: %b\r\n" % (http.method, llm.base, http.target[3:], llm.origin.host_header)]
    kept = end_to_end(http.headers, (_OURS if llm.key is None else _OURS_WITH_KEY) | without)
    if call.trace is not None:
        kept = [header for header in kept if header[0].lower() != TRACEPARENT]
        kept += call.trace_headers(own_span=call.api is not None)
    if llm.key is not None:
        kept.append(credential(llm.key, call))
    parts.append(block(kept))
    if body or http.method in (b"POST", b"PUT", b"PATCH"):
        parts.append(b"content-length: %d\r\n" % len(body))
    parts.append(b"\r\n")
    parts.append(body)
    return b"".join(parts)


def credential(key: bytes, call: Call) -> Header:
    """The Router's key in the header in which the caller sent its own, or would have (Anthropic's: `x-api-key`)."""
    order = _CREDENTIALS if not call.http.path.startswith(errors.MESSAGES) else _CREDENTIALS[::-1]
    name = next((name for name in order if name in call.http.lookup), order[0])
    return name, b"Bearer " + key if name == b"authorization" else key


def with_model(body: bytes, request: dict[str, Any], model: str) -> bytes:
    """The body with its top-level `model` replaced, every other byte as it was."""
    if request.get("model") == model:
        return body
    span = _model_span(body)
    if span is None:
        return orjson.dumps({**request, "model": model})
    return body[: span[0]] + orjson.dumps(model) + body[span[1] :]


def explain(error: UpstreamError, where: str, started: bool, limit: int) -> ApiError:
    """What the caller is told of an LLM that failed."""
    if started:
        return errors.llm_broken(where, error.detail)
    if error.stage == "timeout":
        return errors.llm_timeout(where, error.detail)
    if error.stage == "busy":
        return errors.llm_busy(where, limit)
    if error.stage == "connect":
        return errors.llm_unreachable(where, error.detail)
    return errors.llm_broken(where, error.detail)


def _model_span(body: bytes) -> tuple[int, int] | None:
    found = [match.span(2) for match in _MODEL.finditer(body)]
    if not found:
        return None
    return found[0] if len(found) == 1 and body.count(b'"model"') == 1 else _top_level_span(body)


def _top_level_span(body: bytes) -> tuple[int, int] | None:
    """Where the top-level `model` stands, if `model` is a key elsewhere too. The last one counts, as for a parser."""
    depth, span = 0, None
    for match in _TOKEN.finditer(body):
        token = match.group()
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif depth == 1 and token == b'"model"' and (key := _MODEL.match(body, match.start())):
            span = key.span(2)
    return span


def _next_event(tail: bytes) -> int:
    found = _SEQUENCE.findall(tail)
    return int(found[-1]) + 1 if found else 0


def _readable_tail(relay: Relay) -> bytes:
    if relay.encoding is None:
        return relay.tail
    if len(relay.tail) < 8192 and not relay.cut:
        return (decode(relay.tail, relay.encoding) or b"")[-8192:]
    return b""
