"""Which server of a pool holds which adapters. Pure: adapters, servers, what they hold and recent calls in, places out.

Adapters that fit are on every server. Where they do not, slots go by demand: first to each adapter, the most called
first, as many as its share of the load needs; then what is left to the most called for each copy. Places that exist are
kept as long as they may be, and a newcomer must be called twice as often as what it drives out: a load costs time, and
while it lasts the adapter is in one place less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

HALF_LIFE_SECONDS = 120.0
HEADROOM = 1.5
STAYS = 2.0
FORGOTTEN = 1e-3
LATELY = 0.5


@dataclass
class RecentCalls:
    """Calls by adapter, each worth half as much after `HALF_LIFE_SECONDS`."""

    _calls: dict[str, float] = field(default_factory=dict)
    _at: datetime | None = None

    def add(self, adapter: str, calls: float, now: datetime) -> None:
        """`calls` more arrived; `now` never goes back."""
        self._fade(now)
        self._calls[adapter] = self._calls.get(adapter, 0.0) + calls

    def seen(self, now: datetime) -> dict[str, float]:
        """By adapter; what was not called for long is not in it."""
        self._fade(now)
        return dict(self._calls)

    def _fade(self, now: datetime) -> None:
        if self._at is not None and now > self._at:
            kept = 0.5 ** ((now - self._at).total_seconds() / HALF_LIFE_SECONDS)
            self._calls = {name: left for name, calls in self._calls.items() if (left := calls * kept) > FORGOTTEN}
        self._at = now


def placement(
    adapters: Sequence[str], servers: Iterable[str], slots: int, *,
    held: Mapping[str, Iterable[str]] | None = None, calls: Mapping[str, float] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Adapters by server, at most `slots` on each.

    `held`: what servers hold now. `calls`: recent calls by adapter, in any unit.

    >>> placement(["a", "b", "c"], ["p", "q"], 2, calls={"c": 8, "a": 1})
    {'p': ('a', 'c'), 'q': ('b', 'c')}
    """
    names, pods = sorted(adapters), sorted(servers)
    if len(names) <= slots:
        return {pod: tuple(names) for pod in pods}
    now = {pod: frozenset(names).intersection((held or {}).get(pod, ())) for pod in pods}
    wanted = _copies(names, now, slots, calls or {})
    places = _keep(wanted, now, slots)
    _fill(wanted, places, slots, calls or {})
    return {pod: tuple(sorted(here)) for pod, here in places.items()}


def _copies(
    names: Sequence[str], now: Mapping[str, frozenset[str]], slots: int, calls: Mapping[str, float]
) -> dict[str, int]:
    """How many servers hold each adapter, the most called first. Highest averages (D'Hondt) share what is left."""
    total, pods = sum(calls.get(name, 0.0) for name in names), len(now)
    has = {name: sum(name in here for here in now.values()) for name in names}

    def worth(name: str, copy: int) -> float:
        return calls.get(name, 0.0) / copy * (STAYS if has[name] >= copy else 1.0)

    left, found = pods * slots, dict.fromkeys(sorted(names, key=lambda name: (-worth(name, 1), not has[name], name)), 0)
    for name in found:
        share = calls.get(name, 0.0) / total if total else 0.0
        found[name] = min(max(1, math.ceil(HEADROOM * share * pods)), pods, left)
        left -= found[name]
    while left and (open_ := [name for name in found if found[name] < pods]):
        best = max(open_, key=lambda name: (worth(name, found[name] + 1), has[name] > found[name], -found[name]))
        found[best] += 1
        left -= 1
    return found


def _keep(wanted: Mapping[str, int], now: Mapping[str, frozenset[str]], slots: int) -> dict[str, set[str]]:
    """Places that exist and are wanted."""
    places: dict[str, set[str]] = {pod: set() for pod in now}
    for name, copies in wanted.items():
        here = sorted((pod for pod in now if name in now[pod]), key=lambda pod: (len(places[pod]), pod))
        for pod in here[:copies]:
            if len(places[pod]) < slots:
                places[pod].add(name)
    return places


def _fill(wanted: Mapping[str, int], places: dict[str, set[str]], slots: int, calls: Mapping[str, float]) -> None:
    """What is missing goes to the servers with the least load so far, then the fewest adapters."""

    def load(pod: str) -> float:
        return sum(calls.get(name, 0.0) / wanted[name] for name in places[pod])

    for name, copies in wanted.items():
        for _ in range(copies - sum(name in here for here in places.values())):
            without = [pod for pod, here in places.items() if name not in here]
            pod = min(without, key=lambda pod: (len(places[pod]) >= slots, load(pod), len(places[pod]), pod))
            if len(places[pod]) >= slots:
                _make_room(pod, places, slots, calls)
            places[pod].add(name)


def _make_room(pod: str, places: dict[str, set[str]], slots: int, calls: Mapping[str, float]) -> None:
    """The free slot is on a server that has the adapter already: something called least moves there from `pod`."""
    free = next(other for other, here in sorted(places.items()) if len(here) < slots)
    least = min(places[pod] - places[free], key=lambda name: (calls.get(name, 0.0), name))
    places[pod].remove(least)
    places[free].add(least)
