"""Names to addresses, kept: a name server that falters for a while takes no call with it.

The system's resolver (`getaddrinfo`: search domains, /etc/hosts) tells no time to live, so an answer is taken for
`FRESH_SECONDS`, as Envoy does. After that the next caller gets the old answer at once while one lookup runs beside it;
after `STALE_SECONDS` callers wait for the lookup, and get the old answer only where it fails or takes too long. However
many callers wait, there is one lookup a name: a resolver that hangs holds one of the loop's few resolver threads.
"""

from __future__ import annotations

import asyncio
import math
import socket
from dataclasses import dataclass
from ipaddress import ip_address

FRESH_SECONDS = 5.0
STALE_SECONDS = 60.0
LOOKUP_SHARE = 0.5  # of the time to connect, for a lookup that an old answer can stand in for
MAX_NAMES = 1024


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...]
    at: float  # loop seconds of the answer
    turn: int = 0


class Names:
    """One event loop's cache of resolved names."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: dict[str, _Known] = {}
        self._lookups: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def addresses(self, host: str, seconds: float) -> tuple[str, ...]:
        """Addresses of a host, the one to try first at the front, within `seconds`.

        That is another one each time, where a name has several of one family. Raises OSError (of which gaierror) where
        the name never resolved and does not now, TimeoutError where nobody said within `seconds`.
        """
        if _is_address(host):
            return (host,)
        known = self._known.get(host)
        if known is None:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self._lookup(host))
        age = self._loop.time() - known.at
        if age >= STALE_SECONDS:
            await asyncio.wait([self._lookup(host)], timeout=seconds * LOOKUP_SHARE)
        elif age >= FRESH_SECONDS:
            self._lookup(host)
        return _in_turn(self._known.get(host, known))

    def unreachable(self, host: str) -> None:
        """None of a host's addresses took a connection: the next caller waits for a new answer."""
        known = self._known.get(host)
        if known is not None:
            known.at = -math.inf

    def close(self) -> None:
        """Give up the lookups under way."""
        for running in self._lookups.values():
            running.cancel()

    def _lookup(self, host: str) -> asyncio.Task[tuple[str, ...]]:
        running = self._lookups.get(host)
        if running is None:
            running = self._lookups[host] = self._loop.create_task(self._ask(host))
            running.add_done_callback(lambda done: self._looked_up(host, done))
        return running

    async def _ask(self, host: str) -> tuple[str, ...]:
        try:
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # an empty or too long label, which no name server is asked for
            raise socket.gaierror(socket.EAI_NONAME, "not a host's name") from error
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))

    def _looked_up(self, host: str, done: asyncio.Task[tuple[str, ...]]) -> None:
        del self._lookups[host]
        if done.cancelled() or done.exception() is not None:
            return  # whoever waits for it is told; an old answer stays
        if len(self._known) >= MAX_NAMES and host not in self._known:
            self._known.clear()
        before = self._known.get(host)
        self._known[host] = _Known(done.result(), self._loop.time(), before.turn if before else 0)


def _in_turn(known: _Known) -> tuple[str, ...]:
    """All addresses, each time beginning with another one of the family that the resolver puts first."""
    first = [address for address in known.addresses if (":" in address) == (":" in known.addresses[0])]
    known.turn = (known.turn + 1) % len(first)
    turned = (*first[known.turn :], *first[: known.turn])
    return (*turned, *(address for address in known.addresses if address not in turned))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
