"""The board: what the gateways last said, asked once a second. Demand and verdicts are read from here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import ValidationError

from slmfleet.plan.demand import PoolLoad
from slmfleet.plan.fleet import SHORTEST_PEAK_SECONDS, Demand
from slmfleet.plan.gateway import ADMIN
from slmfleet.plan.placement import RecentCalls
from slmfleet.plan.pool import adapter_name
from slmfleet.wire.addresses import authority
from slmfleet.wire.signals import GatewaySignals

LLM_SECONDS = 30.0
log = logging.getLogger("slmfleet.signals")


def _now() -> datetime:
    return datetime.now(UTC)


class Board:
    """Signals of all gateways of this namespace."""

    def __init__(self, gateways: Callable[[], Mapping[str, str]], changed: Callable[[str], None],
                 clock: Callable[[], datetime] = _now) -> None:
        """`gateways()`: pod name and address by "router/pod". `changed(router)`: called when a counter moved."""
        self._gateways = gateways
        self._changed = changed
        self._clock = clock
        self._since = clock()
        self._last: dict[str, GatewaySignals] = {}
        self._seen: dict[str, datetime] = {}
        self._pools: dict[str, PoolLoad] = {}
        self._calls = RecentCalls()
        self._llm_errors: dict[str, deque[tuple[datetime, int]]] = {}

    def of(self, router: str) -> tuple[GatewaySignals, ...]:
        """The last signals of each live gateway of one Router."""
        return tuple(s for key, s in sorted(self._last.items()) if key.split("/", 1)[0] == router)

    def demand(self, pool: str, peak_seconds: float = SHORTEST_PEAK_SECONDS) -> Demand:
        """Load of one pool over the last seconds, all gateways together."""
        now, found = self._clock(), self._pools.get(pool)
        if found is None:
            return Demand(watched_since=self._since)
        return found.demand(now, self._since, peak_seconds)

    def calls(self) -> dict[str, float]:
        """Recent calls by adapter, served or not, all gateways together."""
        return self._calls.seen(self._clock())

    def llm_errors(self, router: str) -> int:
        """Calls that the LLM failed in the last `LLM_SECONDS`."""
        now = self._clock()
        return sum(n for at, n in self._llm_errors.get(router, ()) if now - at < timedelta(seconds=LLM_SECONDS))

    async def run(self, every_seconds: float) -> None:
        """Ask every gateway, for ever."""
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:  # a proxy knows no pods
            while True:
                try:
                    await self.look(client)
                except Exception:  # one gateway, or one object that cannot be read, must not end it for all
                    log.exception("a look at the gateways failed; looking again")
                await asyncio.sleep(every_seconds)

    async def look(self, client: httpx.AsyncClient) -> None:
        gateways = dict(self._gateways())
        for gone in set(self._last) - set(gateways):
            del self._last[gone]
        await asyncio.gather(*(self._ask(client, key, address) for key, address in gateways.items()))

    async def _ask(self, client: httpx.AsyncClient, key: str, address: str) -> None:
        try:
            answer = await client.get(f"http://{authority(address, ADMIN)}/signals")
            signals = GatewaySignals.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            log.debug("gateway %s gave no signals: %s", key, str(error).splitlines()[0] if str(error) else error)
            return
        self.take(key, signals)

    def _count_calls(self, before: GatewaySignals, after: GatewaySignals, now: datetime) -> None:
        for name, specialist in after.specialists.items():
            was = before.specialists.get(name)
            for revision, arm in specialist.arms.items():
                old = was.arms.get(revision) if was else None
                if (new := arm.assigned - (old.assigned if old else 0)) > 0:
                    self._calls.add(adapter_name(name, revision), new, now)

    def _count_llm(self, router: str, before: GatewaySignals | None, after: GatewaySignals, now: datetime) -> None:
        known = self._llm_errors.setdefault(router, deque(maxlen=100))
        new = _llm_failures(after) - _llm_failures(before)
        if before is not None and new > 0:
            known.append((now, new))

    def take(self, key: str, signals: GatewaySignals) -> None:
        """Fold one answer in."""
        before = self._last.get(key)
        if before is not None and before.instance != signals.instance:
            before = None
        now = self._clock()
        seconds = signals.uptime_seconds - (before.uptime_seconds if before else signals.uptime_seconds)
        for name, pool in signals.pools.items():
            was = before.pools.get(name) if before else None
            known = self._pools.setdefault(name, PoolLoad())
            if was is not None and seconds > 0:
                known.add(now, pool.in_flight_seconds - was.in_flight_seconds, pool.spilled - was.spilled)
            if pool.arrivals > (was.arrivals if was else 0) and (was is not None or before is not None):
                known.last_call = now
        if before is not None:
            self._count_calls(before, signals, now)
        self._count_llm(key.split("/", 1)[0], before, signals, now)
        self._last[key] = signals
        if before is None or before.model_copy(update={"uptime_seconds": signals.uptime_seconds}) != signals:
            self._changed(key.split("/", 1)[0])


def _llm_failures(signals: GatewaySignals | None) -> int:
    tier = signals.tiers.get("llm") if signals else None
    return tier.errors if tier else 0
