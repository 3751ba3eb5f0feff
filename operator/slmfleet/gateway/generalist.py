"""The middle tier: a general small model answers what no specialist owns, where the Router has one and its rule allows.

It is trusted less than the LLM, so its answer is held until it has proven itself (`proving`). Until then any failure is
a value, and the LLM answers; after it, a break is an error event, as with the LLM.

Its request is made anew: none of the caller's headers but trace context goes to it, above all no Authorization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from slmfleet.gateway import seen
from slmfleet.gateway.arms import sampled
from slmfleet.gateway.balance import Server, share_of
from slmfleet.gateway.bodies import token_counts
from slmfleet.gateway.call import Call
from slmfleet.gateway.capture import Capture
from slmfleet.gateway.counters import Counters
from slmfleet.gateway.deadline import of_a_try
from slmfleet.gateway.decide import OF_TOOLS, TOOLS, Chosen
from slmfleet.gateway.exchange import Exchange
from slmfleet.gateway.headers import block
from slmfleet.gateway.llm import STREAM_FACTOR, explain, with_model
from slmfleet.gateway.proving import Proving
from slmfleet.gateway.ratelimit import RateLimits
from slmfleet.gateway.relay import SSE_FACTOR
from slmfleet.gateway.table import Llm
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError
from slmfleet.wire.routes import Generalist

CONNECT_SECONDS = 1.0
_PASSED_ON = (b"traceparent", b"tracestate", b"x-request-id")
Result = Literal["served", "spilled", "error", "timeout", "invalid"]


@dataclass(frozen=True, slots=True)
class Try:
    """How a try went. Where it did not serve, nothing has been sent to the caller."""

    result: Result
    reason: str = ""
    status: int = 0
    latency_seconds: float = 0.0
    response: bytes | None = None
    streamed: bool = False
    cut: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    hurried: bool = False


def takes(rule: Generalist | None, call: Call, chosen: Chosen) -> bool:
    """Whether the generalist may try a call that no specialist owns."""
    if rule is None or call.request is None or chosen.rule == "explicit" or not _may_see(rule, call.request):
        return False
    if chosen.rule == "hand":
        return chosen.generalist and len(call.http.body) <= rule.max_request_bytes
    if chosen.rule == "unsupported" and not (rule.tools and chosen.detail in OF_TOOLS):
        return False
    return _fits(rule, call)


def stands_in(rule: Generalist | None, call: Call) -> bool:
    """Whether the generalist may try a call that a specialist could not answer."""
    if rule is None or call.request is None or not rule.escalations:
        return False
    return _may_see(rule, call.request) and _fits(rule, call)


def _may_see(rule: Generalist, request: dict[str, Any]) -> bool:
    """A call with tools is for a generalist that may answer such."""
    return rule.tools or not any(request.get(field) for field in TOOLS)


def _fits(rule: Generalist, call: Call) -> bool:
    return len(call.http.body) <= rule.max_request_bytes and sampled(
        "generalist/", call.conversation, rule.share_percent
    )


@dataclass(slots=True)
class Generalists:
    """Tries the generalist of a table, counts and logs what came of it."""

    client: Client
    counters: Counters
    capture: Capture
    clock: Callable[[], float]
    limits: RateLimits
    processes: int = 1
    _server: Server | None = field(default=None)

    async def answered(self, exchange: Exchange, call: Call, captures: bool) -> bool:
        """Let the generalist answer. False: nothing has been sent to the caller, and the LLM must."""
        begun = self.clock()
        try:
            found = await self.attempt(exchange, call, self.capture.body_limit * SSE_FACTOR if captures else 0)
        except BaseException:
            left = Try("error", "", 499, self.clock() - begun)
            call.tried(_seen(call, left, "cancelled", begun))
            if captures:  # the caller left: it must still be seen that the call was made
                self._log(call, left)
            raise
        if found.result != "spilled":
            failed = found.result if found.result != "served" else str(found.status) if found.status != 200 else None
            call.tried(_seen(call, found, failed, begun))
        tier = self.counters.tiers["generalist"]
        if found.result == "spilled":
            call.note.append(f"generalist={found.reason}")
            return False
        if found.result == "served":
            tier.calls += 1
            tier.latency.observe(self.clock() - call.started)
            if self.limits.on:
                self.limits.spent(call.http.lookup, found.input_tokens + found.output_tokens, len(call.http.body))
        tier.errors += found.result != "served" or found.status != 200
        tier.input_tokens += found.input_tokens
        tier.output_tokens += found.output_tokens
        if captures or (found.result != "served" and self.capture.enabled):
            self._log(call, found)
        if found.result == "served":
            return True
        call.note.append(f"generalist={found.result}")
        call.escalate("llm", f"{found.result}: {found.reason}")
        return False

    def _log(self, call: Call, found: Try) -> None:
        self.capture.add(
            call.logged(
                tier="generalist",
                status=found.status or (504 if found.result == "timeout" else 502),
                latency_seconds=found.latency_seconds,
                response=found.response,
                streamed=found.streamed,
                cut=found.cut,
                escalated_from=call.escalated_from,
                escalation_reason=call.escalation_reason,
            )
        )

    async def attempt(self, exchange: Exchange, call: Call, keep: int) -> Try:
        """One try. `keep`: bytes of the answer kept for the log."""
        generalist, rule = call.table.generalist, call.table.spec.generalist
        assert generalist is not None
        assert rule is not None
        begun = self.clock()
        server = self._state_of(generalist)
        if server.ejected_until > begun:
            return Try("spilled", "down")
        if server.expected_seconds(begun) >= of_a_try(generalist.spec.timeout_seconds, call.deadline, begun):
            return Try("spilled", "deadline")
        if server.in_flight >= share_of(rule.max_in_flight, self.processes):
            return Try("spilled", "full")
        server.in_flight += 1
        try:
            found = await self._ask(generalist, exchange, call, keep, begun)
        finally:
            server.in_flight -= 1
        self._remember(server, found)
        return found

    async def _ask(self, generalist: Llm, exchange: Exchange, call: Call, keep: int, begun: float) -> Try:
        assert call.request is not None
        proving = Proving(exchange, call, keep)
        limit = generalist.spec.timeout_seconds
        seconds = of_a_try(limit, call.deadline, begun)
        timeouts = Timeouts(min(CONNECT_SECONDS, seconds), seconds, seconds * (1 if proving.whole else STREAM_FACTOR))
        try:
            await self.client.send(generalist.origin, request_bytes(generalist, call), proving, timeouts)
            proving.end()
        except UpstreamError as error:
            if proving.relay is not None:
                return self._broken_off(generalist, exchange, call, error, begun)
            result: Result = "timeout" if error.stage == "timeout" else "spilled" if error.stage == "busy" else "error"
            if proving.invalid:
                result = "invalid"
            hurried = seconds < min(CONNECT_SECONDS, limit)  # too short to blame the server
            return Try(
                result,
                error.detail,
                proving.status,
                self.clock() - begun,
                proving.body() or None,
                proving.streamed,
                hurried=hurried,
            )
        inputs, outputs = token_counts(proving.tail)
        return Try(
            "served", "", 200, self.clock() - begun, proving.kept(), proving.streamed, proving.cut, inputs, outputs
        )

    def _broken_off(self, generalist: Llm, exchange: Exchange, call: Call, error: UpstreamError, begun: float) -> Try:
        """It failed in the middle of what the caller has already seen the start of."""
        failure = explain(error, str(generalist.origin), True, self.client.max_connections)
        exchange.fail(failure, call.own_headers("generalist"))
        return Try("served", error.detail, failure.status, self.clock() - begun, failure.body())

    def _remember(self, server: Server, found: Try) -> None:
        now = self.clock()
        unanswered = found.result == "error" and not found.status
        if found.hurried:
            return
        if unanswered or found.result == "timeout" or (found.result == "served" and found.status != 200):
            server.failed(now)
        elif found.result == "error" and (found.status in (200, 429) or found.status >= 500):
            server.erred(now)
        elif found.result in ("served", "invalid"):
            server.observe(found.latency_seconds, now)

    def _state_of(self, generalist: Llm) -> Server:
        """What is known of its server; forgotten when the Router names another."""
        if self._server is None or self._server.origin != generalist.origin:
            self._server = Server(generalist.origin)
        return self._server


def request_bytes(generalist: Llm, call: Call) -> bytes:
    """The whole request for the generalist: the caller's body under the generalist's model, and headers of our own."""
    assert call.request is not None
    assert generalist.spec.model is not None
    body = with_model(call.http.body, call.request, generalist.spec.model)
    parts = [
        b"POST %b%b HTTP/1.1\r\nhost: %b\r\n" % (generalist.base, call.http.path[3:], generalist.origin.host_header),
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
    ]
    passed = {name: call.http.lookup[name] for name in _PASSED_ON if name in call.http.lookup}
    passed.update(call.trace_headers())
    parts.append(block(passed.items()))
    if generalist.authorization is not None:
        parts.append(b"authorization: %b\r\n" % generalist.authorization)
    return b"".join([*parts, b"\r\n", body])


def _seen(call: Call, found: Try, error: str | None, begun: float) -> seen.Try:
    """The try as spans and the access log tell of it."""
    generalist = call.table.generalist
    assert generalist is not None
    return seen.Try(
        tier="generalist",
        time=call.time + begun - call.started,
        seconds=found.latency_seconds,
        provider="openai",
        model=generalist.spec.model or "",
        error=error,
        status=found.status,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        address=generalist.origin.host,
        port=generalist.origin.port,
    )
