"""The protocol under fuzzing: however bytes are split, they mean one thing; whatever they are, nothing breaks or hangs.

The connection runs on a transport in memory that hands on pieces as the test cut them, and holds them back while the
connection has paused reading, as a socket does.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.gateway.exchange import Exchange, Limits
from slmfleet.gateway.protocol import Connection, Server

LIMITS = Limits(head_bytes=2048, headers=20, body_bytes=4096)
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"


class Pipe(asyncio.Transport):
    """A transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


@dataclass
class Outcome:
    """What a connection made of its bytes."""

    served: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


async def converse(pieces: list[bytes]) -> Outcome:
    """Feed the pieces, as far as the connection reads; check every byte it writes."""
    outcome = Outcome()

    async def handler(exchange: Exchange) -> None:
        request = exchange.request
        outcome.served.append((request.method, request.target, request.body))
        exchange.send(200, [], b"%d" % len(request.body))

    connection, pipe = Connection(Server(handler, LIMITS, asyncio.get_running_loop())), Pipe()
    connection.connection_made(pipe)
    for piece in pieces:
        await _settled(connection, pipe)
        if pipe.closing:
            break
        connection.data_received(piece)
    await _settled(connection, pipe)
    outcome.statuses = list(_statuses(pipe.written))
    connection.connection_lost(None)
    return outcome


async def _settled(connection: Connection, pipe: Pipe) -> None:
    for _ in range(500):
        await asyncio.sleep(0)
        if pipe.closing or (pipe.reading and connection._exchange is None and not connection._queue):
            return
    raise AssertionError("the connection hangs")


def _statuses(written: bytes) -> Iterator[int]:
    """The statuses of the answers; fails where a byte is no part of one."""
    place = 0
    while place < len(written):
        found = ANSWER.match(written, place)
        assert found, written[place:]
        length = re.search(rb"content-length: (\d+)", found[2])
        place = found.end() + (int(length[1]) if length else 0)
        if int(found[1]) != 100:
            yield int(found[1])
    assert place == len(written)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


def chunked(body: bytes, sizes: list[int], extension: bytes, trailer: bytes) -> bytes:
    out, place = b"", 0
    for size in sizes:
        piece = body[place : place + size]
        place += size
        if piece:
            out += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
    if body[place:]:
        out += b"%x\r\n%b\r\n" % (len(body[place:]), body[place:])
    return out + b"0\r\n" + trailer + b"\r\n"


@st.composite
def valid_request(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid request and the body that it carries."""
    body = draw(st.binary(max_size=60))
    names = draw(st.lists(st.from_regex(rb"x-[a-z]{1,9}", fullmatch=True), max_size=4))
    head = POST + b"".join(name + b":" + draw(st.sampled_from([b" a\r\n", b"\r\n", b"\tb c \r\n"])) for name in names)
    if draw(st.booleans()):
        head += b"expect: 100-continue\r\n"
    if draw(st.booleans()):
        return head + b"content-length: %d\r\n\r\n" % len(body) + body, body
    sizes = draw(st.lists(st.integers(1, 30), max_size=4))
    extension = draw(st.sampled_from([b"", b";a", b";a=b", b';a="b;c"']))
    trailer = draw(st.sampled_from([b"", b"x-t: 1\r\n"]))
    return head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, sizes, extension, trailer), body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


INSERTS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b":", b";", b"\xff", b"0\r\n\r\n",
    b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: xchunked\r\n",
    b"connection: close\r\n", b"host: h\r\n", b"expect: 100-continue\r\n", b"upgrade: x\r\nconnection: upgrade\r\n",
    b"HTTP/1.1", b"GET /v1/x HTTP/1.0\r\n\r\n",
    b"x: " + b"y" * 2048,
]  # fmt: skip
change = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "repeat"]),
    st.integers(0, 4000),
    st.integers(1, 12),
    st.sampled_from(INSERTS),
)


def mutated(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, where, length, insert in changes:
        place = where % (len(data) + 1)
        if kind == "insert":
            data = data[:place] + insert + data[place:]
        elif kind == "delete":
            data = data[:place] + data[place + length :]
        elif kind == "replace":
            data = data[:place] + insert[:1] + data[place + 1 :]
        else:
            data = data[: place + length] + data[place:]
    return data


def test_a_request_means_the_same_cut_at_any_byte(runner: asyncio.Runner) -> None:
    body = b'{"model": "m"}'
    plain = POST + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    pieces = POST + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, [1, 5], b";a=b", b"x-t: 1\r\n")
    expect = POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    data = plain + pieces + expect + b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n"
    target = b"/v1/chat/completions"
    expected = [(b"POST", target, body)] * 3 + [(b"GET", b"/v1/models", b"")]
    for place in range(len(data) + 1):
        outcome = runner.run(converse([piece for piece in (data[:place], data[place:]) if piece]))
        assert (outcome.served, outcome.statuses) == (expected, [200] * 4), place
    assert runner.run(converse([bytes([byte]) for byte in data])).served == expected


@settings(max_examples=150)
@given(st.lists(valid_request(), min_size=1, max_size=4), st.lists(st.integers(0, 4000), max_size=12))
def test_valid_requests_are_served_in_order_however_they_are_cut(
    runner: asyncio.Runner, requests: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    outcome = runner.run(converse(cut(b"".join(data for data, _ in requests), places)))
    assert [body for _, _, body in outcome.served] == [body for _, body in requests]
    assert outcome.statuses == [200] * len(requests)


@settings(max_examples=400)
@given(
    st.lists(valid_request(), min_size=1, max_size=3),
    st.lists(change, min_size=1, max_size=4),
    st.lists(st.integers(0, 4000), max_size=8),
)
def test_mutated_requests_break_nothing_and_mean_the_same_however_they_are_cut(
    runner: asyncio.Runner,
    requests: list[tuple[bytes, bytes]],
    changes: list[tuple[str, int, int, bytes]],
    places: list[int],
) -> None:
    data = mutated(b"".join(data for data, _ in requests), changes)
    if not data:
        return
    whole = runner.run(converse([data]))
    assert len(whole.statuses) - len(whole.served) in (0, 1)  # each request's answer, then at most one refusal
    assert whole.statuses[: len(whole.served)] == [200] * len(whole.served)
    assert all(status in (400, 413, 417, 431) for status in whole.statuses[len(whole.served) :])
    for pieces in (cut(data, places), [bytes([byte]) for byte in data]):
        again = runner.run(converse(pieces))
        # Which refusal may differ: a head that is both malformed and too large.
        assert (again.served, len(again.statuses)) == (whole.served, len(whole.statuses))
