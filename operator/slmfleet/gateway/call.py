"""One call's facts, gathered once at its start and carried along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from slmfleet.gateway.arms import conversation_of
from slmfleet.gateway.deadline import patience_seconds
from slmfleet.gateway.exchange import Request
from slmfleet.gateway.headers import Header
from slmfleet.gateway.records import ORIGIN_HEADERS, Logged, is_plain
from slmfleet.gateway.relay import REQUEST_ID, ROUTE
from slmfleet.gateway.seen import Try
from slmfleet.gateway.table import Table
from slmfleet.gateway.trace import TRACEPARENT, Trace

REQUEST_ID_BYTES = 200
APIS = {
    b"/v1/chat/completions": "chat.completions",
    b"/v1/completions": "completions",
    b"/v1/responses": "responses",
    b"/v1/embeddings": "embeddings",
    b"/v1/messages": "messages",
}


@dataclass(slots=True)
class Call:
    """`started` is monotonic, `time` is seconds since the epoch. The body is parsed when somebody asks for it: a call
    that is only passed on is not."""

    id: str
    api: str | None
    http: Request
    table: Table
    started: float
    time: float
    note: list[str] = field(default_factory=list)
    escalated_from: str | None = None
    escalation_reason: str | None = None
    tries: list[Try] | None = None
    trace: Trace | None = None
    _parsed: bool = False
    _request: dict[str, Any] | None = None
    _conversation: str = ""

    @property
    def request(self) -> dict[str, Any] | None:
        """The body as an object; None for a body that is none, and for another API's."""
        if not self._parsed:
            self._parsed = True
            self._request = _parse(self.http.body) if self.api is not None else None
        return self._request

    @property
    def conversation(self) -> str:
        """The caller's id of it, or one from its first messages; the call's own where neither is there."""
        if not self._conversation:
            given = self.http.lookup.get(self.table.conversation_header) if self.api is not None else None
            self._conversation = conversation_of(given, None if given else self.request) or self.id
        return self._conversation

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting for the answer's first byte (monotonic), if it says so."""
        patience = patience_seconds(self.http.lookup)
        return None if patience is None else self.started + patience

    def tried(self, tried: Try) -> None:
        """Note an upstream that was asked, where somebody watches."""
        if self.tries is None:
            return
        if self.trace is not None:
            tried.span_id = self.trace.child
        self.tries.append(tried)

    def trace_headers(self, *, own_span: bool = True) -> list[Header]:
        """What an upstream hears of this call's trace, where it is traced."""
        if self.trace is None:
            return []
        return [(TRACEPARENT, self.trace.onward(own_span=own_span))]

    def escalate(self, to: str, reason: str) -> None:
        """The next tier takes over; what it logs points back to what was logged so far."""
        self.escalated_from, self.escalation_reason = self.id, reason
        self.id += f"-{to}"

    def route_header(self, tier: str) -> Header:
        """Why this call went where it went."""
        return ROUTE, "; ".join([f"tier={tier}", *self.note]).encode("ascii", "replace")

    def own_headers(self, tier: str) -> list[Header]:
        """What an answer carries that is not the LLM's; of the request's ids the LLM's own comes first."""
        return [self.route_header(tier), (REQUEST_ID, request_id(self.http, self.id))]

    def logged(self, *, tier: str, status: int, latency_seconds: float, response: bytes | None, **more: Any) -> Logged:
        """This call with an answer, for the log."""
        lookup = self.http.lookup
        key = next((lookup[name] for name in ORIGIN_HEADERS if name in lookup), None)
        return Logged(
            id=self.id,
            time=self.time,
            conversation=self.conversation,
            api=self.api or "",
            status=status,
            latency_seconds=latency_seconds,
            tier=tier,
            request=self.http.body,
            response=response,
            key=key,
            peer=self.http.peer,
            plain=is_plain(self._request),
            **more,
        )


def request_id(http: Request, otherwise: str) -> bytes:
    """The id that the caller gave its request, or else ours."""
    given = http.lookup.get(REQUEST_ID, b"")
    return given if 0 < len(given) <= REQUEST_ID_BYTES and given.isascii() else otherwise.encode()


class Calls:
    """Makes calls out of requests."""

    def __init__(self, instance: str, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._instance = instance
        self._clock = clock
        self._wall = wall
        self._count = 0

    def begin(self, http: Request, table: Table) -> Call:
        """A call, with an id of its own."""
        api = APIS.get(http.path) if http.method == b"POST" else None
        return Call(self.next_id(), api, http, table, self._clock(), self._wall())

    def next_id(self) -> str:
        """An id that no other request of any gateway has."""
        self._count += 1
        return f"{self._instance}-{self._count:x}"


def _parse(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


@lru_cache(maxsize=4096)
def safe(value: str) -> str:
    """A name as it may stand in the route header."""
    return "".join(c if c.isalnum() or c in "-_./:" else "_" for c in value)[:128]
