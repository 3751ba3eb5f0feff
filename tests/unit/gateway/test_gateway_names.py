"""Names to addresses: what callers get while the name server answers, hangs, fails, and changes its mind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop
from gateway_virtual import VirtualLoop, virtual

from slmfleet.gateway.names import FRESH_SECONDS, LOOKUP_SHARE, STALE_SECONDS, Names
from slmfleet.gateway.origin import Origin
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError

HOST = "llm.team.svc"


class Resolver:
    """A name server: `says` is its answer (an OSError it fails with), which takes `seconds`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.says: list[str] | OSError = ["198.18.0.1"]
        self.seconds = 0.01
        self.asked = 0
        self._loop = loop

    async def getaddrinfo(self, host: str, port: object, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if isinstance(self.says, OSError):
            raise self.says
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.says]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual() as loop:
        yield loop
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def resolver(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver(loop)
    monkeypatch.setattr(loop, "getaddrinfo", resolver.getaddrinfo)
    return resolver


@pytest.fixture
def ask(loop: VirtualLoop, resolver: Resolver) -> Callable[..., tuple[str, ...]]:
    names = Names(loop)

    def addresses(host: str = HOST, seconds: float = 5.0, *, after: float = 0.0) -> tuple[str, ...]:
        loop.now += after
        return loop.run_until_complete(names.addresses(host, seconds))

    return addresses


def gone() -> OSError:
    return socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize("host", ["198.18.0.7", "::1"])
def test_an_address_is_no_name(ask: Callable[..., tuple[str, ...]], resolver: Resolver, host: str) -> None:
    assert ask(host) == (host,)
    assert resolver.asked == 0


def test_many_callers_are_one_lookup(loop: VirtualLoop, resolver: Resolver) -> None:
    names = Names(loop)

    async def many() -> list[tuple[str, ...]]:
        return await asyncio.gather(*(names.addresses(HOST, 5) for _ in range(50)))

    assert set(loop.run_until_complete(many())) == {("198.18.0.1",)}
    assert resolver.asked == 1


def test_a_fresh_answer_is_not_asked_for_again(ask: Callable[..., tuple[str, ...]], resolver: Resolver) -> None:
    ask()
    ask(after=FRESH_SECONDS / 2)
    assert resolver.asked == 1


def test_an_older_answer_is_used_at_once_and_renewed_beside(
    loop: VirtualLoop, ask: Callable[..., tuple[str, ...]], resolver: Resolver
) -> None:
    ask()
    resolver.says = ["198.18.0.2"]
    before = loop.now + FRESH_SECONDS
    assert ask(after=FRESH_SECONDS) == ("198.18.0.1",)
    assert loop.now == before
    loop.run_until_complete(asyncio.sleep(1))
    assert ask() == ("198.18.0.2",)


def test_an_old_answer_waits_for_a_new_one(ask: Callable[..., tuple[str, ...]], resolver: Resolver) -> None:
    ask()
    resolver.says = ["198.18.0.2"]
    assert ask(after=STALE_SECONDS) == ("198.18.0.2",)


@pytest.mark.parametrize("age", [FRESH_SECONDS, STALE_SECONDS, 100 * STALE_SECONDS])
def test_a_failing_name_server_leaves_the_last_answer(
    ask: Callable[..., tuple[str, ...]], resolver: Resolver, age: float
) -> None:
    ask()
    resolver.says = gone()
    assert ask(after=age) == ("198.18.0.1",)
    assert ask(after=age) == ("198.18.0.1",)


def test_a_hanging_name_server_costs_a_part_of_the_time_to_connect(
    loop: VirtualLoop, ask: Callable[..., tuple[str, ...]], resolver: Resolver
) -> None:
    ask()
    resolver.seconds = 1000.0
    before = loop.now + STALE_SECONDS
    assert ask(after=STALE_SECONDS, seconds=4) == ("198.18.0.1",)
    assert loop.now - before == pytest.approx(4 * LOOKUP_SHARE)
    ask()
    assert resolver.asked == 2, "a lookup under way is not asked for again"


def test_a_name_that_never_resolved_is_an_error_and_then_asked_for_again(
    ask: Callable[..., tuple[str, ...]], resolver: Resolver
) -> None:
    resolver.says = gone()
    with pytest.raises(socket.gaierror):
        ask()
    resolver.says = ["198.18.0.3"]
    assert ask() == ("198.18.0.3",)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".svc"])
def test_what_cannot_be_a_name_does_not_resolve(host: str) -> None:
    async def ask() -> tuple[str, ...]:
        return await Names(asyncio.get_running_loop()).addresses(host, 5)

    with pytest.raises(socket.gaierror):
        uvloop.run(ask())
    with pytest.raises(socket.gaierror):
        asyncio.run(ask())


def test_a_caller_who_gives_up_leaves_the_lookup_to_the_others(loop: VirtualLoop, resolver: Resolver) -> None:
    names = Names(loop)
    resolver.seconds = 3.0

    async def two() -> list[Any]:
        return await asyncio.gather(names.addresses(HOST, 1), names.addresses(HOST, 5), return_exceptions=True)

    short, long = loop.run_until_complete(two())
    assert isinstance(short, TimeoutError)
    assert long == ("198.18.0.1",)
    assert resolver.asked == 1


def test_addresses_take_turns_within_the_family_that_comes_first(
    ask: Callable[..., tuple[str, ...]], resolver: Resolver
) -> None:
    resolver.says = ["198.18.0.1", "198.18.0.2", "fd00::1"]
    ask()
    seen = [ask() for _ in range(4)]
    assert {addresses[0] for addresses in seen} == {"198.18.0.1", "198.18.0.2"}
    assert all(sorted(addresses) == sorted(resolver.says) and addresses[-1] == "fd00::1" for addresses in seen)


class _Nothing:
    def on_head(self, *_: object) -> None: ...
    def on_data(self, data: bytes) -> None: ...


def _failure(loop: VirtualLoop, client: Client) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        loop.run_until_complete(client.send(Origin(HOST, 80, False), b"", _Nothing(), Timeouts(5, 5, 5)))
    return caught.value


def test_the_error_says_whether_name_or_connection_took_the_time(
    loop: VirtualLoop, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(loop)
    resolver.seconds = 1000.0
    assert _failure(loop, client).detail == "its name did not resolve within 5 s"

    client, resolver.seconds = Client(loop), 0.0
    resolver.says = ["198.18.0.1", "198.18.0.2"]
    tried: list[tuple[str, float]] = []

    async def hangs(make: object, address: str, *_: object, **__: object) -> None:
        tried.append((address, loop.now))
        await asyncio.sleep(1000)

    monkeypatch.setattr(loop, "create_connection", hangs)
    begun = loop.now
    assert _failure(loop, client).detail == "no connection within 5 s"
    assert loop.now - begun == pytest.approx(5, abs=0.1)
    assert [round(at - begun, 1) for _, at in tried] == [0.0, 2.5]


def test_after_no_address_took_a_connection_the_name_is_asked_for_anew(
    loop: VirtualLoop, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, tried = Client(loop), []

    async def refuses(make: object, address: str, *_: object, **__: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(loop, "create_connection", refuses)
    assert _failure(loop, client).detail == "connection refused"
    resolver.says = ["198.18.0.2"]
    _failure(loop, client)
    assert tried == ["198.18.0.1", "198.18.0.2"]
