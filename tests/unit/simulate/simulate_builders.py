"""Traces and fleets in a line."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from slmfleet.simulate.fleetfile import Fleet
from slmfleet.simulate.results import Result
from slmfleet.simulate.simulation import simulate
from slmfleet.simulate.systems import BY_NAME, OURS
from slmfleet.simulate.trace import Trace

LLM = {"timeToFirstTokenSeconds": 0.5, "tokensPerSecond": 50}


def fleet(pool: dict[str, Any] | None = None, *, llm: dict[str, Any] | None = LLM,
          adapters: list[dict[str, Any]] | None = None, **service: Any) -> Fleet:
    """One pool, called p."""
    speed = {"prefillTokensPerSecond": 1e12, "decodeTokensPerSecond": {1: 100, 4: 400}, "slots": 4,
             "coldStartSeconds": 10, "adapterLoadSeconds": 0.5} | service
    return Fleet.model_validate({"pools": [{"name": "p", "pool": pool or {}, "service": speed}], "llm": llm,
                                 "adapters": adapters}, extra="forbid")


def trace(*calls: tuple[float, str, int, int]) -> Trace:
    """Calls as (seconds, specialist, input tokens, output tokens), in order."""
    names = list(dict.fromkeys(call[1] for call in calls))
    return Trace(tuple(names), [call[0] for call in calls], [names.index(call[1]) for call in calls],
                 [call[2] for call in calls], [call[3] for call in calls], "sha256:test")


def poisson(count: int, rate: float, mean_tokens: float, seed: int, *, fixed: bool = False,
            names: Sequence[str] = ("a",)) -> Trace:
    """Poisson arrivals; answers of exponential (or fixed) length. The first token costs nothing, hence one more."""
    rng, now, calls = random.Random(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        tokens = mean_tokens if fixed else rng.expovariate(1 / mean_tokens)
        calls.append((now, rng.choice(names), 0, 1 + round(tokens)))
    return trace(*calls)


def run(calls: Trace, declared: Fleet, system: str = OURS, seed: int = 0) -> Result:
    return simulate(calls, declared, seed, [BY_NAME[system]])
