"""One request and the way back to its caller: what the data path sees of HTTP, whoever parsed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from slmfleet.gateway import errors
from slmfleet.gateway.errors import ApiError
from slmfleet.gateway.frames import Frames
from slmfleet.gateway.headers import Header as Header
from slmfleet.gateway.headers import Headers, block

if TYPE_CHECKING:
    from slmfleet.gateway.protocol import Connection

STATUS_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in errors.REASONS.items()}
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may send, and how long it may take. `connections`: of all callers together."""

    head_bytes: int = 65_536
    headers: int = 200
    body_bytes: int = 33_554_432
    request_seconds: float = 60.0
    idle_seconds: float = 120.0
    stalled_seconds: float = 120.0
    connections: int = 10_000


class Flow(Protocol):
    """Something that produces an answer's bytes and can be held back."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Request:
    """One whole request as it came."""

    __slots__ = ("body", "headers", "http11", "keep_alive", "method", "peer", "target")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        keep_alive: bool,
        http11: bool,
        peer: str,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.http11 = http11
        self.peer = peer

    @property
    def lookup(self) -> dict[bytes, bytes]:
        """The headers by lower-case name."""
        return self.headers.lookup

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


class Exchange:
    """One request and the way back to its caller."""

    __slots__ = ("_chunked", "connection", "finished", "flow", "frames", "request", "started", "status")

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.started = False
        self.finished = False
        self.status = 0
        self.flow: Flow | None = None
        self.frames: Frames | None = None  # of a stream of server-sent events that has begun: an error can be one more
        self._chunked = False

    @property
    def gone(self) -> bool:
        """Whether the caller has left."""
        return self.connection.transport is None

    def send(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """A whole answer."""
        self.started = self.finished = True
        self.status = status
        self._write(self._head(status, headers, len(body)) + (b"" if self.request.method == b"HEAD" else body))

    def fail(self, error: ApiError, headers: Sequence[Header] = ()) -> None:
        """An error of ours: as the answer, as an event of a stream that has begun, or else by cutting the line."""
        if not self.started:
            self.send(error.status, [JSON, *headers], error.body(self.request.path))
            return
        if self.finished:
            return
        if self.frames is not None and not self.frames.torn:
            self.write(error.event(self.request.path))
            self.finish()
            return
        self.abort()

    def start(self, status: int, headers: Sequence[Header], length: int | None) -> None:
        """The head of an answer whose body follows in pieces; `length` None means it is not known."""
        self.started = True
        self.status = status
        bodiless = self.request.method == b"HEAD" or status in (204, 304)
        self._chunked = length is None and self.request.http11 and not bodiless
        if bodiless:
            self._write(self._head(status, headers, length))
            return
        if length is None and not self._chunked:
            self.request.keep_alive = False
        self._write(self._head(status, headers, length))

    def write(self, data: bytes) -> None:
        """A piece of the body."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._write(data)

    def finish(self) -> None:
        """The end of a body that came in pieces."""
        self.finished = True
        if self._chunked:
            self._write(b"0\r\n\r\n")

    def abort(self) -> None:
        """Cut the line: the caller must see that the answer is not whole."""
        self.finished = True
        self.request.keep_alive = False
        if self.connection.transport is not None:
            self.connection.transport.abort()

    def _head(self, status: int, headers: Sequence[Header], length: int | None) -> bytes:
        parts = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, block(headers)]
        if length is not None:
            parts.append(b"content-length: %d\r\n" % length)
        elif self._chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
        if self.connection.server.draining:
            self.request.keep_alive = False
        if not self.request.keep_alive:
            parts.append(b"connection: close\r\n")
        elif not self.request.http11:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        if self.connection.transport is not None:
            self.connection.transport.write(data)
