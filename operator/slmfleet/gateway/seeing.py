"""What the data path tells of its calls, for the access log and OpenTelemetry. The app has a `Watch` only if one is on.

A call is noted as it begins, at each upstream that it tried, and as it ends; then its facts go to the queues of those
who want them. The request and the answer stay behind: nothing here keeps a body.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from slmfleet.gateway.accesslog import GONE, AccessLog
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.call import Call, safe
from slmfleet.gateway.exchange import Exchange
from slmfleet.gateway.llm import Outcome
from slmfleet.gateway.otlp import Exporter
from slmfleet.gateway.records import ORIGIN_HEADERS, keyed_hash
from slmfleet.gateway.seen import Seen, Try
from slmfleet.gateway.trace import TRACEPARENT, continue_trace
from slmfleet.wire.routes import Revision

PATH_CHARACTERS = 200
# Of a request: the convention's attributes that are numbers. Stop sequences are words of the prompt's author.
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
_WHOLE = frozenset(("gen_ai.request.max_tokens", "gen_ai.request.seed"))
_ANSWER = {
    name: re.compile(rb'"%s"\s*:\s*"([\w.:/@+-]{1,128})"' % name) for name in (b"model", b"id", b"finish_reason")
}


class Watch:
    """Sees every call. `clock`: the same monotonic seconds as the calls'."""

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        origin_key: bytes,
        *,
        access_log: AccessLog | None = None,
        exporter: Exporter | None = None,
        trace_percent: float = 100.0,
        rng: random.Random | None = None,
    ) -> None:
        self.access_log = access_log
        self.exporter = exporter
        self._clock, self._wall = clock, wall
        self._origin_key = origin_key
        self._trace_percent = trace_percent
        self._bits = (rng or random.Random()).getrandbits
        self._open: dict[Exchange, Call] = {}

    def start(self) -> None:
        """Begin to write and send."""
        for part in (self.access_log, self.exporter):
            if part is not None:
                part.queue.start()

    def close(self, seconds: float) -> None:
        """Write and send what is left."""
        if self.access_log is not None:
            self.access_log.queue.close(seconds)
        if self.exporter is not None:
            self.exporter.close(seconds)

    # --- one call ---

    def begun(self, exchange: Exchange, call: Call) -> None:
        """A call is read and not decided yet."""
        self._open[exchange] = call
        call.tries = []
        if self.exporter is not None:
            call.trace = continue_trace(call.http.lookup.get(TRACEPARENT), self._trace_percent, self._bits)

    def asked_specialist(self, call: Call, revision: Revision, attempt: Attempt) -> None:
        """A specialist was tried, and this is how it went. One that was passed over was not asked."""
        if attempt.result == "spilled":
            return
        answer = attempt.answer
        call.tried(
            Try(
                tier="specialist",
                time=self._wall() - attempt.latency_seconds,
                seconds=attempt.latency_seconds,
                provider="slmfleet",
                model=revision.adapter,
                error=None if attempt.result == "served" else attempt.result,
                input_tokens=answer.input_tokens if answer is not None else 0,
                output_tokens=answer.output_tokens if answer is not None else 0,
                finish_reason=answer.finish_reason if answer is not None else None,
            )
        )

    def asked_llm(self, call: Call, outcome: Outcome | None) -> None:
        """The LLM was asked; `outcome` None: its caller left before it had answered."""
        if outcome is None:
            seconds = self._clock() - call.started
            call.tried(self._llm_try(call, seconds, "cancelled"))
            return
        error = outcome.error.code if outcome.error is not None else None
        if error is None and outcome.status >= 400:
            error = str(outcome.status)
        tried = self._llm_try(call, outcome.latency_seconds, error)
        tried.status = outcome.status
        tried.input_tokens, tried.output_tokens = outcome.input_tokens, outcome.output_tokens
        if call.trace is not None and call.trace.sampled:
            tried.answered_by = _last(_ANSWER[b"model"], outcome.tail)
            tried.answer_id = _last(_ANSWER[b"id"], outcome.tail)
            tried.finish_reason = _last(_ANSWER[b"finish_reason"], outcome.tail)
        call.tried(tried)

    def ended(self, exchange: Exchange) -> None:
        """A request has its answer, or nobody waits for it any more."""
        call = self._open.pop(exchange, None)
        seen = self._request(exchange) if call is None else self._seen(exchange, call)
        if self.access_log is not None:
            self.access_log.offer(seen)
        if self.exporter is not None:
            self.exporter.offer(seen)

    # --- inside ---

    def _llm_try(self, call: Call, seconds: float, error: str | None) -> Try:
        llm, request = call.table.llm, call.request or {}
        return Try(
            tier="llm",
            time=self._wall() - seconds,
            seconds=seconds,
            provider="anthropic" if call.api == "messages" else "openai",
            model=_name(llm.spec.model or request.get("model")),
            error=error,
            address=llm.origin.host,
            port=llm.origin.port,
        )

    def _request(self, exchange: Exchange) -> Seen:
        """A request that was answered before it was a call: an unknown path, no table yet."""
        http = exchange.request
        path = http.path.decode("latin-1")[:PATH_CHARACTERS]
        return Seen("", self._wall(), 0.0, http.method.decode("latin-1"), path, _status(exchange))

    def _seen(self, exchange: Exchange, call: Call) -> Seen:
        http, request = call.http, call.request or {}
        key = next((http.lookup[name] for name in ORIGIN_HEADERS if name in http.lookup), None)
        sampled = call.trace is not None and call.trace.sampled
        return Seen(
            id=call.escalated_from or call.id,
            time=call.time,
            seconds=self._clock() - call.started,
            method=http.method.decode("latin-1"),
            path=http.path.decode("latin-1")[:PATH_CHARACTERS],
            status=_status(exchange),
            api=call.api,
            model=_name(request.get("model")),
            streamed=bool(request.get("stream")),
            caller=keyed_hash(key, self._origin_key) if key is not None else None,
            conversation=_named_conversation(call) if sampled else None,
            note=call.note,
            tries=call.tries or [],
            asked=_asked(request) if sampled else {},
            trace=call.trace,
        )


def _status(exchange: Exchange) -> int:
    if exchange.gone and not exchange.finished:
        return GONE
    return exchange.status or 500


def _named_conversation(call: Call) -> str | None:
    """What the caller calls it; not the hash that stands for one without a name."""
    given = call.http.lookup.get(call.table.conversation_header)
    return call.conversation if given else None


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """gen_ai.request.* of a body."""
    found: dict[str, Any] = {}
    for field, name in _ASKED.items():
        value = request.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = int(value) if name in _WHOLE else float(value)
    choices = request.get("n")
    if isinstance(choices, int) and choices > 1:
        found["gen_ai.request.choice.count"] = choices
    wanted = request.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(kind, str):
        found["gen_ai.output.type"] = "json" if kind.startswith("json") else "text"
    return found


def _name(model: Any) -> str:
    return safe(model) if isinstance(model, str) else ""


def _last(pattern: re.Pattern[bytes], tail: bytes) -> str | None:
    found = pattern.findall(tail)
    return found[-1].decode() if found else None
