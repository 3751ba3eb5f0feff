"""The other side of HTTP/1.1: a small client for the LLM and the Triton servers.

Its own, because the answer must go to the caller as it arrives, with no queue, no task and no copy between: the
parser's callbacks call a `Sink`. Keep-alive connections are pooled by origin, with a bound; a reused connection that
closed before an answer is tried once more on a fresh one (the server's idle timeout won a race), within a budget.
No redirects, no cookies, no proxies.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, cast

import httptools

from slmfleet.gateway.budget import RetryBudget
from slmfleet.gateway.headers import Header as Header
from slmfleet.gateway.headers import Headers
from slmfleet.gateway.names import Names
from slmfleet.gateway.origin import Origin

IDLE_SECONDS = 30.0
MAX_HEAD_BYTES = 262_144


class UpstreamError(Exception):
    """A call that got no whole answer. `stage`: connect, timeout, closed, protocol or busy."""

    def __init__(self, stage: Literal["connect", "timeout", "closed", "protocol", "busy"], detail: str) -> None:
        super().__init__(detail)
        self.stage = stage
        self.detail = detail


class Sink(Protocol):
    """Where an answer goes, piece by piece, inside the event loop. `flow` holds the answer back and lets it go on."""

    def on_head(self, status: int, headers: Headers, length: int | None, flow: UpstreamConnection) -> None: ...
    def on_data(self, data: bytes) -> None: ...


class Timeouts(NamedTuple):
    """Seconds: to connect, to the first byte of the answer's body, to its last."""

    connect: float
    first_byte: float
    total: float


class Client:
    """Connection pools by origin."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_connections: int = 1024) -> None:
        self.loop = loop
        self.max_connections = max_connections
        self.budget = RetryBudget(loop.time)
        self._names = Names(loop)
        self._idle: dict[Origin, deque[UpstreamConnection]] = {}
        self._open: dict[Origin, int] = {}

    async def send(
        self,
        origin: Origin,
        payload: bytes,
        sink: Sink,
        timeouts: Timeouts,
        *,
        no_body: bool = False,
        again: bool = False,
    ) -> None:
        """Send one request's bytes and feed the answer to `sink`; returns when it is whole. Raises UpstreamError.

        Cancelling this closes the connection. `no_body`: the answer has none whatever its head says (HEAD). `again`:
        it is no first try, so the retry budget does not grow by it.
        """
        if not again:
            self.budget.call()
        connection = self._reuse(origin)
        if connection is not None:
            try:
                await connection.exchange(payload, sink, timeouts, no_body)
                return
            except UpstreamError as error:
                if error.stage != "closed" or connection.answered or not self.budget.spend():
                    raise
        connection = await self._connect(origin, timeouts.connect)
        await connection.exchange(payload, sink, timeouts, no_body)

    def close(self) -> None:
        """Close all idle connections, and look no name up any more."""
        self._names.close()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _reuse(self, origin: Origin) -> UpstreamConnection | None:
        idle, now = self._idle.get(origin), self.loop.time()
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.idle_since < IDLE_SECONDS:
                self._prune(idle, now)
                return connection
            connection.close()
        return None

    def _prune(self, idle: deque[UpstreamConnection], now: float) -> None:
        while idle and now - idle[0].idle_since >= IDLE_SECONDS:
            idle.popleft().close()

    async def _connect(self, origin: Origin, timeout: float) -> UpstreamConnection:
        count = self._open.get(origin, 0)
        if count >= self.max_connections:
            raise UpstreamError("busy", f"all {self.max_connections} connections are in use")
        self._open[origin] = count + 1
        try:
            return await self._connect_within(origin, timeout)
        except BaseException as error:
            self._open[origin] -= 1
            if isinstance(error, OSError):
                raise UpstreamError("connect", _describe(error)) from error
            raise

    async def _connect_within(self, origin: Origin, timeout: float) -> UpstreamConnection:
        """A connection to one of the host's addresses, each of which gets its part of the time that is left."""
        end = self.loop.time() + timeout
        try:
            addresses = await self._names.addresses(origin.host, timeout)
        except TimeoutError as error:
            raise UpstreamError("connect", f"its name did not resolve within {timeout:g} s") from error
        failure: BaseException | None = None
        for number, address in enumerate(addresses):
            part = (end - self.loop.time()) / (len(addresses) - number)
            try:
                async with asyncio.timeout(max(0.0, part)):
                    return await self._connect_to(address, origin)
            except OSError as error:  # of which TimeoutError
                failure = error
        self._names.unreachable(origin.host)
        if isinstance(failure, TimeoutError):
            raise UpstreamError("connect", f"no connection within {timeout:g} s") from failure
        assert failure is not None  # a name has at least one address
        raise failure

    async def _connect_to(self, address: str, origin: Origin) -> UpstreamConnection:
        _, connection = await self.loop.create_connection(
            lambda: UpstreamConnection(self, origin),
            address,
            origin.port,
            ssl=_tls_context() if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )
        return connection

    def released(self, connection: UpstreamConnection) -> None:
        """A connection finished its exchange and may serve another."""
        connection.idle_since = self.loop.time()
        self._idle.setdefault(connection.origin, deque()).append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection closed."""
        left = self._open.get(connection.origin, 1) - 1
        idle = self._idle.get(connection.origin)
        if idle is not None and connection in idle:
            idle.remove(connection)
        if left > 0:
            self._open[connection.origin] = left
            return
        self._open.pop(connection.origin, None)
        self._idle.pop(connection.origin, None)


class UpstreamConnection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, client: Client, origin: Origin) -> None:
        self.client = client
        self.origin = origin
        self.idle_since = 0.0
        self.usable = True
        self.answered = False
        self._transport: asyncio.Transport | None = None
        self._sink: Sink | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._paused = False
        self._parser: Any = None

    async def exchange(self, payload: bytes, sink: Sink, timeouts: Timeouts, no_body: bool) -> None:
        """One request and its answer."""
        loop = self.client.loop
        if self._transport is None or self._transport.is_closing():
            raise UpstreamError("closed", "the connection closed while idle")
        if self._parser is None or no_body:
            self._parser = httptools.HttpResponseParser(self)
        self._sink, self._no_body, self.answered = sink, no_body, False
        self._whole, self._begun, self._status, self._head_bytes = False, False, 0, 0
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._timeouts = timeouts
        now = loop.time()
        self._deadline = now + timeouts.total
        self._first_by = now + min(timeouts.first_byte, timeouts.total)
        if self._first_by < self._timer_at:
            self._wake_at(self._first_by)
        self._done = loop.create_future()
        self._transport.write(payload)
        try:
            await self._done
        except BaseException:
            self._abandon()
            raise
        finally:
            self._sink = self._done = None
        self._settle()

    def pause(self) -> None:
        """Hold the answer back (the caller reads slowly)."""
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Let the answer flow again."""
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def refuse(self, stage: Literal["timeout", "protocol"], detail: str) -> None:
        """The sink wants no more of this answer: the exchange ends with this error, and the connection closes."""
        self._fail(stage, detail)

    @property
    def ends_by_closing(self) -> bool:
        """Whether the answer in progress has no other end than the connection's, so that a cut looks like an end."""
        return self.answered and self._until_close

    def close(self) -> None:
        """Close an idle connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    # --- transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.usable = False
        self._stop_timer()
        self.client.lost(self)
        if self._done is None or self._done.done():
            return
        if self.answered and self._until_close:
            self._done.set_result(None)
            return
        self._fail("closed", "it closed the connection" if error is None else _describe(error))

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.close()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._done.done():
                self._flush()
                self._fail("protocol", f"its answer is not valid HTTP/1.1: {error.__context__ or error}")
            return
        if not self.answered:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self._done.done():
                self._fail("protocol", f"its answer begins with headers of more than {MAX_HEAD_BYTES} bytes")
            return
        self._flush()
        if self._whole and not self._done.done():
            self._done.set_result(None)

    # --- parser ---

    def on_message_begin(self) -> None:
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.answered:  # else a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        self.answered = True
        self._keep = self._parser.should_keep_alive()
        headers = Headers(self._headers)
        chunked = b"transfer-encoding" in headers.lookup
        length = None if chunked else _length(headers.lookup)
        bodiless = self._no_body or self._status in (204, 304)
        self._until_close = not bodiless and length is None and not chunked
        if self._sink is not None:
            self._sink.on_head(self._status, headers, length, self)
        if bodiless:
            self._whole, self._keep = True, self._keep and not self._no_body

    def on_body(self, body: bytes) -> None:
        self._begun = True
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._status >= 200:
            self._whole = True

    # --- inside ---

    def _flush(self) -> None:
        if self._pieces and self._sink is not None:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            self._sink.on_data(data)

    def _wake_at(self, when: float) -> None:
        self._stop_timer()
        self._timer_at = when
        self._timer = self.client.loop.call_at(when, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _on_timer(self) -> None:
        """One timer runs on from exchange to exchange, so most exchanges neither set nor cancel one."""
        self._timer, self._timer_at = None, math.inf
        if self._done is None:
            return
        due = self._deadline if self._begun else self._first_by
        if self.client.loop.time() < due:
            self._wake_at(due)
            return
        limit = self._timeouts.total if self._begun else min(self._timeouts.first_byte, self._timeouts.total)
        self._fail("timeout", f"no {'end' if self._begun else 'answer'} within {limit:g} s")

    def _fail(self, stage: Literal["timeout", "closed", "protocol"], detail: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(UpstreamError(stage, detail))

    def _abandon(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _settle(self) -> None:
        if self._transport is None:
            return
        if not self._keep or self._until_close or self._transport.is_closing():
            self.close()
            return
        self.resume()
        self.client.released(self)


def _length(lookup: Mapping[bytes, bytes]) -> int | None:
    value = lookup.get(b"content-length")
    return None if value is None else int(value)


def _describe(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name does not resolve ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({getattr(error, 'verify_message', '') or error.reason or error})"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (getattr(error, "strerror", None) or type(error).__name__).lower()


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
