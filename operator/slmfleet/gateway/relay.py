"""Two ends for an upstream's answer: straight on to the caller, or collected in memory.

A JSON answer of known and moderate length is held until it is whole: one write instead of two, and an upstream that
breaks off becomes a clean 502. Everything else is passed on as it arrives, with back-pressure; of a stream of events
always whole ones, so that an error event can follow.
"""

from __future__ import annotations

from functools import lru_cache

from slmfleet.gateway.exchange import Exchange, Flow
from slmfleet.gateway.frames import Frames
from slmfleet.gateway.headers import Header, Headers
from slmfleet.gateway.upstream import UpstreamConnection

HOLD_BYTES = 4 << 20
TAIL_BYTES = 8192
LAST_BYTES = 8 * TAIL_BYTES  # pieces kept before they are cut to the tail: not after every one of a stream
SSE_FACTOR = 16  # a stream's events are this much larger than the text in them, about
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
NAMES_NOTHING = (b"keep-alive", b"close")  # values of Connection
ROUTE = b"x-slmfleet-route"
REQUEST_ID = b"x-request-id"
REPLACED = frozenset((b"content-length", ROUTE))


def end_to_end(headers: Headers, drop: frozenset[bytes]) -> list[Header]:
    """Headers without hop-by-hop ones, those named in Connection, and `drop` (lower case)."""
    drop = _with_hop_by_hop(drop)
    named = headers.lookup.get(b"connection")
    if named is not None and (headers.repeats or named not in NAMES_NOTHING):
        for value in headers.all(b"connection"):
            drop |= {token.strip() for token in value.lower().split(b",")}
    return [header for header in headers if header[0].lower() not in drop]


@lru_cache(maxsize=64)
def _with_hop_by_hop(drop: frozenset[bytes]) -> frozenset[bytes]:
    return HOP_BY_HOP | drop


def answer_headers(headers: Headers, own: list[Header], drop: frozenset[bytes] = REPLACED) -> list[Header]:
    """An upstream's headers as the caller gets them, and ours; the upstream's own request id comes before ours."""
    if REQUEST_ID in headers.lookup:
        own = [header for header in own if header[0] != REQUEST_ID]
    return end_to_end(headers, drop) + own


class Collect:
    """An answer in memory, up to a limit; what is over it is not kept."""

    __slots__ = ("_pieces", "_size", "headers", "limit", "status")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.status = 0
        self.headers = Headers()
        self._pieces: list[bytes] = []
        self._size = 0

    def on_head(self, status: int, headers: Headers, length: int | None, flow: Flow) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self.limit:
            self._pieces.append(data)

    @property
    def overflowed(self) -> bool:
        return self._size > self.limit

    def body(self) -> bytes:
        return b"".join(self._pieces)

    def header(self, name: bytes) -> bytes | None:
        """A header's value; `name` in lower case."""
        return self.headers.lookup.get(name)


class Relay:
    """An answer on its way to the caller, with a copy (up to `keep` bytes) for the log and its tail for the counts."""

    __slots__ = (
        "_exchange", "_extra", "_frames", "_held", "_keep", "_kept", "_last", "_last_bytes", "_length", "_out",
        "_size", "cut", "encoding", "event_stream", "open_ended", "status",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, extra: list[Header], keep: int) -> None:
        self._exchange = exchange
        self._extra = extra
        self._keep = keep
        self._kept: list[bytes] = []
        self._held: list[bytes] | None = None
        self._frames: Frames | None = None
        self._out: list[Header] = []
        self._length: int | None = None
        self._size = 0
        self.status = 0
        self.encoding: bytes | None = None
        self.event_stream = False
        self.open_ended = False
        self.cut = False
        self._last: list[bytes] = []
        self._last_bytes = 0

    def on_head(self, status: int, headers: Headers, length: int | None, flow: UpstreamConnection) -> None:
        self.status = status
        kind = headers.lookup.get(b"content-type", b"").lower()
        self.encoding = headers.lookup.get(b"content-encoding")
        self._out = answer_headers(headers, self._extra)
        self._length = length
        if length is not None and length <= HOLD_BYTES and kind.startswith(b"application/json"):
            self._held = []
            return
        self.event_stream = kind.startswith(b"text/event-stream")
        self._exchange.flow = flow
        if self.event_stream and length is None and self.encoding is None:
            self._exchange.frames = self._frames = Frames()
            self.open_ended = flow.ends_by_closing
        if status in (204, 304) or self._exchange.request.method == b"HEAD":
            self._held = []
            return
        self._exchange.start(status, self._out, length)

    def on_data(self, data: bytes) -> None:
        size = len(data)
        self._size += size
        self._last.append(data)
        self._last_bytes += size
        if self._last_bytes > LAST_BYTES:
            self._last = [data] if size >= TAIL_BYTES else [self.tail]
            self._last_bytes = len(self._last[0])
        if self._size <= self._keep:
            self._kept.append(data)
        else:
            self.cut = True
        if self._held is not None:
            self._held.append(data)
            return
        if self._frames is not None:
            data = self._frames.feed(data)
        if data:
            self._exchange.write(data)

    def end(self) -> None:
        """The answer is whole. Its connection may already serve another call, so nothing may hold it back now."""
        self._exchange.flow = None
        if self._held is None:
            if self._frames is not None and (rest := self._frames.rest()):
                self._exchange.write(rest)
            self._exchange.finish()
            return
        body = b"".join(self._held)
        if self._exchange.request.method == b"HEAD" or self.status in (204, 304):
            self._exchange.start(self.status, self._out, self._length if self.status != 204 else None)
            self._exchange.finished = True
            return
        self._exchange.send(self.status, self._out, body)

    @property
    def tail(self) -> bytes:
        """The answer's last bytes: TAIL_BYTES of them, or all that there are."""
        return b"".join(self._last)[-TAIL_BYTES:]

    def kept(self) -> bytes:
        return b"".join(self._kept)
