"""The result: figures of each system, in all and by specialist. The models are the keys of `--json` and `--out`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from pydantic import BaseModel, ConfigDict, Field

from slmfleet.simulate.fleetfile import Fleet, NextTier
from slmfleet.simulate.outcomes import REASONS, SERVED, Outcomes, PoolUse
from slmfleet.simulate.systems import System
from slmfleet.simulate.trace import Trace


class Values(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Quantiles(Values):
    """Seconds. A percentile is the smallest value that at least that share of the calls does not exceed."""

    mean: float
    p50: float
    p95: float
    p99: float


class Figures(Values):
    """Calls of one specialist, or of all. `arrivals` = `served` + `spilled` + `unserved`."""

    arrivals: int
    served: int = Field(description="Answered by its pool.")
    spilled: int = Field(description="Turned away by its pool and answered by the next tier.")
    unserved: int = Field(description="Turned away, and there is no next tier.")
    turned_away_share: float = Field(description="Spilled and unserved, of the arrivals.")
    turned_away_for: dict[str, int] = Field(description="By reason: cold, full, share, deadline, timeout.")
    latency_seconds: Quantiles | None = Field(description="Of answered calls, by whichever tier.")
    time_to_first_token_seconds: Quantiles | None = Field(description="Of the same calls.")
    pool_latency_seconds: Quantiles | None = Field(description="Of the calls that their pool answered.")
    adapter_loads: int
    adapter_evictions: int


class PoolFigures(Values):
    """One pool's servers."""

    replica_seconds: float = Field(description="Of all servers, starting and draining ones included.")
    busy_seconds: float = Field(description="With at least one call in the engine.")
    servers_started: int
    most_servers: int
    scalings: int = Field(description="Changes of the number of servers wanted.")
    adapter_loads: int
    adapter_evictions: int


class Cost(Values):
    """In the currency of the fleet file."""

    servers: float | None
    llm: float | None
    total: float


class SystemFigures(Values):
    """One system on all arrivals."""

    name: str
    description: str
    figures: Figures
    replica_seconds: float
    cost: Cost | None = Field(description="Null where the fleet file has no price.")
    pools: dict[str, PoolFigures]
    specialists: dict[str, Figures]


class TraceFigures(Values):
    """What was replayed."""

    digest: str
    arrivals: int
    seconds: float = Field(description="From the first arrival to the last.")
    specialists: int
    input_tokens: int
    output_tokens: int


class Result(Values):
    """Of one run."""

    schema_: str = Field("slmfleet/simulation-result/v1", alias="schema")
    seed: int
    trace: TraceFigures
    systems: list[SystemFigures]


def trace_figures(trace: Trace) -> TraceFigures:
    return TraceFigures(digest=trace.digest, arrivals=len(trace.times), seconds=round(trace.seconds, 6),
                        specialists=len(trace.specialists), input_tokens=sum(trace.input_tokens),
                        output_tokens=sum(trace.output_tokens))


def system_figures(
    system: System, fleet: Fleet, trace: Trace, outcomes: Outcomes, uses: Sequence[PoolUse]
) -> SystemFigures:
    """What one system did with the trace."""
    loads: Counter[str] = sum((use.loads for use in uses), Counter())
    evictions: Counter[str] = sum((use.evictions for use in uses), Counter())
    unserved = fleet.llm is None
    mine: list[list[int]] = [[] for _ in trace.specialists]
    for index, specialist in enumerate(trace.specialist):
        mine[specialist].append(index)
    whole = _figures(range(len(trace.times)), outcomes, unserved, loads.total(), evictions.total())
    return SystemFigures(
        name=system.name, description=system.description, figures=whole,
        replica_seconds=round(sum(use.replica_seconds for use in uses), 3),
        cost=_cost(fleet, trace, outcomes, uses), pools={use.name: _pool(use) for use in uses},
        specialists={name: _figures(mine[number], outcomes, unserved, loads[name], evictions[name])
                     for number, name in sorted(enumerate(trace.specialists), key=lambda pair: pair[1])})


def _figures(calls: Sequence[int], outcomes: Outcomes, unserved: bool, loads: int, evictions: int) -> Figures:
    counts = Counter(map(outcomes.codes.__getitem__, calls))
    assert not counts[0], "a call is not over"
    served = counts[SERVED]
    away = len(calls) - served
    reasons = {why: counts[SERVED + 1 + number] for number, why in enumerate(REASONS)}
    return Figures(
        arrivals=len(calls), served=served, spilled=0 if unserved else away, unserved=away if unserved else 0,
        turned_away_share=round(away / len(calls), 6) if calls else 0.0,
        turned_away_for={why: count for why, count in reasons.items() if count},
        latency_seconds=quantiles(outcomes.latency[i] for i in calls if outcomes.latency[i] >= 0),
        time_to_first_token_seconds=quantiles(outcomes.first_token[i] for i in calls if outcomes.first_token[i] >= 0),
        pool_latency_seconds=quantiles(outcomes.latency[i] for i in calls if outcomes.codes[i] == SERVED),
        adapter_loads=loads, adapter_evictions=evictions)


def quantiles(values: Iterable[float]) -> Quantiles | None:
    """Mean and nearest-rank percentiles, rounded to microseconds; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None

    def at(share: float) -> float:
        return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 6)

    return Quantiles(mean=round(sum(ordered) / len(ordered), 6), p50=at(0.50), p95=at(0.95), p99=at(0.99))


def _pool(use: PoolUse) -> PoolFigures:
    return PoolFigures(replica_seconds=round(use.replica_seconds, 3), busy_seconds=round(use.busy_seconds, 3),
                       servers_started=use.servers, most_servers=use.most_servers, scalings=use.scalings,
                       adapter_loads=use.loads.total(), adapter_evictions=use.evictions.total())


def _cost(fleet: Fleet, trace: Trace, outcomes: Outcomes, uses: Sequence[PoolUse]) -> Cost | None:
    prices = {pool.name: pool.service.server_hour_price for pool in fleet.pools}
    servers = _servers_cost(prices, uses)
    llm = None if fleet.llm is None or fleet.llm.prices is None else _llm_cost(fleet.llm, trace, outcomes)
    if servers is None and llm is None:
        return None
    return Cost(servers=servers, llm=llm, total=round((servers or 0.0) + (llm or 0.0), 6))


def _servers_cost(prices: Mapping[str, float | None], uses: Sequence[PoolUse]) -> float | None:
    """None where a pool has no price: half a sum would look like a saving."""
    paid = [(prices[use.name], use.replica_seconds) for use in uses]
    if any(price is None for price, _ in paid):
        return None
    return round(sum((price or 0.0) * seconds / 3600 for price, seconds in paid), 6)


def _llm_cost(llm: NextTier, trace: Trace, outcomes: Outcomes) -> float:
    assert llm.prices is not None
    away = [index for index, code in enumerate(outcomes.codes) if code != SERVED]
    return round((sum(trace.input_tokens[i] for i in away) * llm.prices.input_per_million
                  + sum(trace.output_tokens[i] for i in away) * llm.prices.output_per_million) / 1e6, 6)
