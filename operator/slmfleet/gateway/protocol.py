"""The caller's side of HTTP/1.1: bytes in, whole requests out, answers back in order.

The parser is llhttp (httptools); what stands here is what a parser does not decide: limits, ambiguous lengths,
pipelining (parsed at once, served one by one), 100-continue, back-pressure, and what becomes of a call whose caller
went away (its task is cancelled, which closes the upstream connection). A caller that closes its sending side counts
as gone: an abandoned LLM call costs money, a half-closing client is rare.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from itertools import chain
from typing import Any, Protocol, cast

import httptools

from slmfleet.gateway import errors
from slmfleet.gateway.binding import plain
from slmfleet.gateway.errors import ApiError
from slmfleet.gateway.exchange import JSON, Exchange, Limits, Request
from slmfleet.gateway.headers import Header, Headers
from slmfleet.gateway.log import log

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_SECONDS = 1.0
SINGLE = (b"content-length", b"transfer-encoding", b"host")  # headers that a second one makes ambiguous


class Handler(Protocol):
    """What serves a request: it must answer through the exchange before it returns."""

    def __call__(self, exchange: Exchange) -> Coroutine[Any, Any, None]: ...


class Server:
    """What all connections of one listener share."""

    def __init__(self, handler: Handler, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.limits = limits
        self.loop = loop
        self.connections: set[Connection] = set()
        self.in_flight = 0
        self.draining = False
        self.last_activity = loop.time()

    def sweep(self) -> None:
        """Close what idles, sends too slowly, or does not read its answer. Called every few seconds."""
        now = self.loop.time()
        for connection in list(self.connections):
            connection.sweep(now)

    def close(self) -> None:
        """Close all connections: idle ones at once, busy ones with an error they can tell from an answer."""
        for connection in list(self.connections):
            connection.shut()


class Connection(asyncio.Protocol):
    """One caller's connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request | ApiError] = deque()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._peer = ""
        self._version = "1.1"
        self._headers = Headers()
        self._fields: list[Header] = []
        self._fields_limit = server.limits.headers
        self._since = 0.0
        self._stalled_since: float | None = None
        self._refused: ApiError | None = None
        self._dead = False
        self._reading = False
        self._completed = False
        self._reset()

    # --- transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._peer = plain(str((transport.get_extra_info("peername") or ("",))[0]))
        self._since = self.server.loop.time()
        self.server.connections.add(self)
        if len(self.server.connections) > self.server.limits.connections:
            self._refuse(errors.too_many_connections(self.server.limits.connections))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._dead = True
        self.server.connections.discard(self)
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._dead:
            return
        if not self._reading:
            self._since = self.server.loop.time()
            self._reading = True
        self._completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._dead = True
        except httptools.HttpParserError as error:
            self._refuse(self._refused or errors.bad_request(f"The request is not valid HTTP/1.1: {error}"))
            return
        if self._head_done or self._completed:
            return
        # A header that does not end: the parser would gather it for ever. Twice the limit, since white space around
        # values is counted here and not there: a head must not pass or fail by how it was cut into pieces.
        self._raw_bytes += len(data)
        if self._raw_bytes > 2 * self.server.limits.head_bytes:
            self._refuse(errors.head_too_large(self.server.limits.head_bytes))

    def pause_writing(self) -> None:
        self._stalled_since = self.server.loop.time()
        if self._exchange is not None and self._exchange.flow is not None:
            self._exchange.flow.pause()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._exchange is not None and self._exchange.flow is not None:
            self._exchange.flow.resume()

    # --- parser ---

    def on_message_begin(self) -> None:
        self._reading = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._fields
        fields.append((name, value))
        if len(fields) > self._fields_limit or self._head_done:
            self._check_head_size(fields)

    def on_headers_complete(self) -> None:
        limits, fields = self.server.limits, self._fields
        self._check_head_size(fields)
        self._head_done = True
        self._fields = []  # what follows is trailers: counted, not passed on
        headers = self._headers = Headers(fields)
        lookup = headers.lookup
        version = self._version = self._parser.get_http_version()
        problem = ambiguity(self._url, headers, version)
        if problem:
            self._give_up(errors.bad_request(problem, "ambiguous_request"))
        if b"content-length" in lookup and int(lookup[b"content-length"]) > limits.body_bytes:
            self._give_up(errors.body_too_large(limits.body_bytes))
        expect = lookup.get(b"expect")
        if expect is None:
            return
        if expect.lower() != b"100-continue":
            self._give_up(errors.expectation_failed(expect.decode("latin-1")[:50]))
        if self._exchange is None and not self._queue and self.transport is not None:
            self.transport.write(CONTINUE)
            return
        self._owes_continue = True

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.server.limits.body_bytes:
            self._give_up(errors.body_too_large(self.server.limits.body_bytes))
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        request = Request(
            parser.get_method(),
            self._url,
            self._headers,
            self._body[0] if len(self._body) == 1 else b"".join(self._body),
            parser.should_keep_alive() and not parser.should_upgrade(),
            self._version == "1.1",
            self._peer,
        )
        self._reset()
        self._completed = True
        self._queue.append(request)
        if self._exchange is not None and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()  # a pipelining caller waits for its answers
        self._advance()

    # --- serving, one at a time ---

    def _advance(self) -> None:
        if self._exchange is not None or self.transport is None:
            return
        if not self._queue:
            if self._owes_continue:
                self._owes_continue = False
                self.transport.write(CONTINUE)
            if not self.transport.is_closing():
                self.transport.resume_reading()
            return
        item = self._queue.popleft()
        if isinstance(item, ApiError):
            self._answer_refusal(item)
            return
        self._exchange = Exchange(self, item)
        self.server.in_flight += 1
        self.server.last_activity = self.server.loop.time()
        self._task = self.server.loop.create_task(self._serve(self._exchange))

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self.server.handler(exchange)
        except ApiError as error:
            exchange.fail(error)
        except Exception as error:
            log("error", "CallFailed", error=type(error).__name__, where=_where(error))
            exchange.fail(errors.internal())
        except asyncio.CancelledError:
            if not exchange.finished:
                exchange.fail(errors.shutting_down())
        finally:
            self._served(exchange)

    def _served(self, exchange: Exchange) -> None:
        self._exchange = self._task = None
        self.server.in_flight -= 1
        self._since = self.server.last_activity = self.server.loop.time()
        if self.transport is None:
            return
        if not exchange.finished:
            exchange.abort()
            return
        if not exchange.request.keep_alive:
            self._dead = True
            self.transport.close()
            return
        if self._queue:
            self.server.loop.call_soon(self._advance)
            return
        self._advance()

    def _refuse(self, error: ApiError) -> None:
        """Answer what cannot be read, after what came before it; then read no more."""
        self._dead = True
        self._queue.append(error)
        self._advance()

    def _answer_refusal(self, error: ApiError) -> None:
        if self.transport is None:
            return
        request = Request(b"", b"", Headers(), b"", False, True, self._peer)
        Exchange(self, request).send(error.status, [JSON], error.body())
        # Closing with unread bytes in the socket would reset the line and lose the answer: linger, discarding.
        if not self.transport.is_closing():
            self.transport.resume_reading()
        self.server.loop.call_later(LINGER_SECONDS, self._close)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _give_up(self, error: ApiError) -> None:
        self._refused = error
        raise error

    def _check_head_size(self, fields: list[Header]) -> None:
        limits = self.server.limits
        size = sum(map(len, chain.from_iterable(fields))) + 4 * len(fields) + len(self._url)
        if size > limits.head_bytes or len(fields) > limits.headers:
            self._give_up(errors.head_too_large(limits.head_bytes))

    def _reset(self) -> None:
        self._url = b""
        self._fields = []
        self._body: list[bytes] = []
        self._raw_bytes = 0
        self._body_bytes = 0
        self._head_done = False
        self._reading = False
        self._owes_continue = False

    # --- upkeep ---

    def sweep(self, now: float) -> None:
        """Close this connection if it idles, sends too slowly or does not read."""
        limits = self.server.limits
        if self.transport is None or (self._dead and self._exchange is None):
            return
        if self._stalled_since is not None and now - self._stalled_since > limits.stalled_seconds:
            self.transport.abort()
            return
        if self._exchange is not None:
            return
        if self._reading and now - self._since > limits.request_seconds:
            self._refuse(errors.request_timeout())
            return
        if now - self._since > limits.idle_seconds:
            self.transport.close()

    def shut(self) -> None:
        """Stop now: an unanswered call is told so."""
        if self._task is not None:
            self._task.cancel()
            return
        self._close()


def ambiguity(url: bytes, headers: Headers, version: str) -> str | None:
    """Why this head could mean two things to two servers (request smuggling), or None.

    llhttp refuses most of it already; these are the cases that must not depend on a parser's version.
    """
    lookup = headers.lookup
    length, coding = lookup.get(b"content-length"), lookup.get(b"transfer-encoding")
    repeated = [name for name in SINGLE if len(headers.all(name)) > 1] if headers.repeats else ()
    if length is not None and (b"content-length" in repeated or not length.isdigit()):
        return "Content-Length must be one decimal number."
    if coding is not None and length is not None:
        return "Content-Length and Transfer-Encoding exclude each other."
    if coding is not None and (b"transfer-encoding" in repeated or coding.strip().lower() != b"chunked"):
        return "Transfer-Encoding must be exactly chunked."
    if coding is not None and version != "1.1":
        return "Transfer-Encoding needs HTTP/1.1."
    if b"host" in repeated or (version == "1.1" and b"host" not in lookup):
        return "Exactly one Host header is needed."
    if not url.startswith(b"/"):
        return "The request target must be a path."
    return None


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
