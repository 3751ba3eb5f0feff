"""Listening everywhere: by IPv6 and IPv4 at once, by IPv4 alone where there is no IPv6; addresses with brackets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any

import pytest
import uvloop

from slmfleet.gateway import binding
from slmfleet.gateway.exchange import Exchange, Limits
from slmfleet.gateway.origin import parse_url
from slmfleet.gateway.protocol import Server
from slmfleet.gateway.server import address_of, listen
from slmfleet.gateway.workers import reserve
from slmfleet.wire.addresses import authority, host_and_port


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
BOTH = [pytest.param("::1", marks=needs_ipv6), "127.0.0.1"]


@pytest.mark.parametrize("caller", BOTH)
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("address", ["[::]:0", ":0"])
def test_a_listener_everywhere_answers_by_either_family(address: str, loop: Any, caller: str) -> None:
    """And says of an IPv4 caller what it says on an IPv4 socket: the log's hash of it stays the same."""

    async def handle(exchange: Exchange) -> None:
        exchange.send(200, [], exchange.request.peer.encode())

    async def call() -> bytes:
        running = asyncio.get_running_loop()
        server = Server(handle, Limits(), running)
        listener = await listen(server, address)
        assert len(listener.sockets) == 1, "one port, also where none is named"
        try:
            reader, writer = await asyncio.open_connection(caller, listener.sockets[0].getsockname()[1])
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
        finally:
            listener.close()
            server.close()
        return answer

    with asyncio.Runner(loop_factory=loop) as runner:
        answer = runner.run(call())
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(f"\r\n\r\n{caller}".encode())


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL], ids=errno.errorcode.get)
def test_without_ipv6_it_is_ipv4_alone(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says where IPv6 is not built in, and where it is switched off."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *given: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(number, "no IPv6")
            super().__init__(family, *given, **named)

    monkeypatch.setattr(binding.socket, "socket", Socket)
    with binding.everywhere(0) as made, reserve("[::]:0") as held:
        assert (made.family, held.family) == (socket.AF_INET, socket.AF_INET)
        assert made.getsockname()[0] == held.getsockname()[0] == "0.0.0.0"
        made.listen()
        with socket.create_connection(("127.0.0.1", made.getsockname()[1]), 5):
            pass


def test_a_port_that_is_taken_is_no_missing_ipv6() -> None:
    with binding.everywhere(0) as made:
        made.listen()
        port = made.getsockname()[1]
        for address in (f"[::]:{port}", f":{port}"):
            with pytest.raises(OSError, match="in use"):
                reserve(address)
        with pytest.raises(OSError, match="in use"):
            binding.everywhere(port)


def test_workers_share_a_port_of_every_address() -> None:
    with reserve("[::]:0") as held, binding.everywhere(held.getsockname()[1], shared=True) as worker:
        worker.listen()
        host, port = host_and_port(authority(*held.getsockname()[:2]))
        assert host in ("::", "0.0.0.0")
        with socket.create_connection(("127.0.0.1", port), 5):
            pass


async def test_ipv4_alone_stays_what_it_says() -> None:
    server = Server(None, Limits(), asyncio.get_running_loop())  # type: ignore[arg-type]
    with contextlib.closing(await listen(server, "0.0.0.0:0")) as listener:
        assert [s.family for s in listener.sockets] == [socket.AF_INET]


@needs_ipv6
async def test_one_ipv6_address_is_told_with_brackets() -> None:
    server = Server(None, Limits(), asyncio.get_running_loop())  # type: ignore[arg-type]
    with contextlib.closing(await listen(server, "[::1]:0")) as listener:
        assert address_of(listener).startswith("[::1]:")


ADDRESSES = [("10.0.0.9", 80, "10.0.0.9:80"), ("fd00::9", 80, "[fd00::9]:80"), ("pool", 80, "pool:80"), ("", 80, ":80")]


@pytest.mark.parametrize(("host", "port", "text"), ADDRESSES)
def test_a_host_with_its_port(host: str, port: int, text: str) -> None:
    assert authority(host, port) == text
    assert host_and_port(text) == (host, port)


@pytest.mark.parametrize("text", ["nope", "host:", "host:x", "fd00::9:80", "[::]", "[::1:80", "host:٣"])
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not HOST:PORT"):
        host_and_port(text)


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://[fd00::9]:8000/v1", b"[fd00::9]:8000"),
        ("http://[fd00::9]/v1", b"[fd00::9]"),
        ("https://llm.example/v1", b"llm.example"),
        ("https://llm.example:8443/v1", b"llm.example:8443"),
    ],
)
def test_the_host_header_of_a_server(url: str, header: bytes) -> None:
    origin, base = parse_url(url)
    assert (origin.host_header, base) == (header, b"/v1")
    assert parse_url(str(origin))[0] == origin
