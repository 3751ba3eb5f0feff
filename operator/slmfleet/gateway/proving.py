"""Holds an answer until it has proven itself, then passes it on: what makes a failure invisible to the caller.

A whole answer is held until its form is checked, a stream until its first event (until its end where JSON or tool
calls must be checked). Bounded: an answer that would have to be held beyond that bound is refused.
"""

from __future__ import annotations

from typing import Any

import orjson

from slmfleet.gateway.bodies import assemble
from slmfleet.gateway.call import Call
from slmfleet.gateway.endings import cut_short
from slmfleet.gateway.exchange import Exchange
from slmfleet.gateway.headers import Headers
from slmfleet.gateway.proof import must_be_whole, problem_of
from slmfleet.gateway.relay import HOLD_BYTES, TAIL_BYTES, Relay, answer_headers
from slmfleet.gateway.upstream import UpstreamConnection, UpstreamError


class Proving:
    """The sink. `keep`: bytes of the answer kept for the log; `invalid`: the answer was whole, and not good enough."""

    def __init__(self, exchange: Exchange, call: Call, keep: int) -> None:
        assert call.request is not None
        self._exchange = exchange
        self._request = call.request
        self._extra = call.own_headers("generalist")
        self._keep = keep
        self._head: tuple[int, Headers, int | None] = (0, Headers(), None)
        self._flow: UpstreamConnection | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self.wants_stream = bool(call.request.get("stream"))
        self.whole = not self.wants_stream or must_be_whole(call.request)
        self.relay: Relay | None = None
        self.invalid = False

    def on_head(self, status: int, headers: Headers, length: int | None, flow: UpstreamConnection) -> None:
        self._head, self._flow = (status, headers, length), flow

    def on_data(self, data: bytes) -> None:
        if self.relay is not None:
            self.relay.on_data(data)
            return
        self._size += len(data)
        self._pieces.append(data)
        if self._size > HOLD_BYTES and self._flow is not None:
            self._flow.refuse("protocol", f"an answer of more than {HOLD_BYTES} bytes")
        elif not self.whole and self.status == 200:
            self._try_first_event()

    def end(self) -> None:
        """The answer is over. Raises UpstreamError where it is not good enough."""
        if self.relay is not None:
            if self.relay.open_ended and cut_short(self.relay.tail, "chat.completions", TAIL_BYTES):
                raise UpstreamError("closed", "it closed the connection before the stream's end")
            self.relay.end()
            return
        problem = self._problem()
        if problem is not None:
            raise UpstreamError("protocol", problem)
        self._exchange.send(200, answer_headers(self._head[1], self._extra), self.body())

    @property
    def status(self) -> int:
        return self._head[0]

    @property
    def streamed(self) -> bool:
        return any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in self._head[1]
        )

    @property
    def tail(self) -> bytes:
        return self.relay.tail if self.relay is not None else self.body()[-8192:]

    @property
    def cut(self) -> bool:
        return self.relay.cut if self.relay is not None else self._size > self._keep

    def body(self) -> bytes:
        """What is held."""
        return b"".join(self._pieces)

    def kept(self) -> bytes | None:
        """What is kept of the answer for the log."""
        if not self._keep:
            return None
        return self.relay.kept() if self.relay is not None else self.body()[: self._keep]

    def _problem(self) -> str | None:
        if self.status != 200:
            return f"status {self.status}"
        if self.streamed != self.wants_stream:
            return "not a stream" if self.wants_stream else "a stream, unasked"
        body = self.body()
        if self.streamed:
            *events, last = _events(body) or [b""]
            if last != b"[DONE]":
                return "it ended before [DONE]"
            answer = assemble(body, "chat.completions") if None not in map(_parsed, events) else None
        else:
            answer = _parsed(body)
        if not isinstance(answer, dict):
            return "not JSON"
        if answer.get("error"):
            return "an error"
        problem = problem_of(answer, self._request)
        self.invalid = problem is not None
        return problem

    def _try_first_event(self) -> None:
        """Pass on from the first event that is an object and no error; comments before it prove nothing."""
        assert self._flow is not None
        if not self.streamed:
            return
        body = self.body()
        events = _events(body)
        if not events:
            return
        event = _parsed(events[0])
        if not isinstance(event, dict) or "error" in event:
            self._flow.refuse("protocol", "its first event is not an answer")
            return
        self.relay = Relay(self._exchange, self._extra, self._keep)
        self.relay.on_head(*self._head, self._flow)
        self.relay.on_data(body)


def _events(body: bytes) -> list[bytes]:
    """The data of the whole events in a stream; comments are none."""
    found = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(b"\n".join(lines))
    return found


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
