"""A simulated fleet: what is conserved, what repeats, and small days worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate_builders import fleet, poisson, run, trace

from slmfleet.simulate.fleetfile import Fleet
from slmfleet.simulate.outcomes import SERVED, Outcomes
from slmfleet.simulate.results import quantiles
from slmfleet.simulate.run import PoolRun
from slmfleet.simulate.simulation import simulate
from slmfleet.simulate.systems import BY_NAME, OURS, SYSTEMS
from slmfleet.simulate.trace import Trace

every_system = pytest.mark.parametrize("system", [system.name for system in SYSTEMS])

calls_ = st.lists(st.tuples(st.floats(0, 40), st.sampled_from("abcde"), st.integers(0, 3000), st.integers(0, 900)),
                  min_size=1, max_size=60).map(lambda calls: trace(*sorted(calls)))
pools = st.fixed_dictionaries({"minReplicas": st.integers(0, 2), "maxReplicas": st.integers(2, 4),
                               "targetInFlight": st.integers(1, 4), "maxInFlight": st.integers(1, 6),
                               "queueSeconds": st.sampled_from([0, 0.5, 5]), "idleSeconds": st.sampled_from([1, 20]),
                               "adapterSlots": st.integers(1, 6)})
services = st.fixed_dictionaries({"slots": st.integers(1, 6), "coldStartSeconds": st.sampled_from([0, 3]),
                                  "adapterLoadSeconds": st.sampled_from([0, 0.3, 2]),
                                  "prefillTokensPerSecond": st.sampled_from([500, 5000])})


@settings(max_examples=60, deadline=None)
@given(calls_, pools, services, st.sampled_from(SYSTEMS), st.booleans())
def test_every_call_has_one_end_and_no_server_works_without_being_paid(
    calls: Trace, pool: dict[str, Any], service: dict[str, Any], system: Any, with_llm: bool
) -> None:
    declared = fleet(pool, **service) if with_llm else fleet(pool, llm=None, **service)
    found = simulate(calls, declared, 1, [system]).systems[0]  # a call that ends twice raises
    for figures in (found.figures, *found.specialists.values()):
        assert figures.arrivals == figures.served + figures.spilled + figures.unserved
        assert sum(figures.turned_away_for.values()) == figures.spilled + figures.unserved
        assert (figures.unserved if with_llm else figures.spilled) == 0
    assert found.figures.arrivals == len(calls.times) == sum(f.arrivals for f in found.specialists.values())
    used = found.pools["p"]
    assert used.busy_seconds <= used.replica_seconds + 1e-3
    if system.scale != "fixed":
        assert used.most_servers <= pool["maxReplicas"]
    assert used.adapter_loads == sum(f.adapter_loads for f in found.specialists.values())


@settings(max_examples=40, deadline=None)
@given(calls_, services, st.sampled_from(SYSTEMS))
def test_no_answer_is_faster_than_its_server(calls: Trace, service: dict[str, Any], system: Any) -> None:
    declared, outcomes = fleet({"minReplicas": 1, "maxReplicas": 3}, **service), Outcomes(len(calls.times), None)
    PoolRun(declared.pools[0], declared.adapters_of(calls.specialists), system, outcomes, 0).simulate(calls)
    for index, code in enumerate(outcomes.codes):
        if code == SERVED:
            least = calls.input_tokens[index] / service["prefillTokensPerSecond"]
            assert outcomes.first_token[index] >= least - 1e-6
            least += max(0, calls.output_tokens[index] - 1) / 100
            assert outcomes.latency[index] >= least - 1e-6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 300)), min_size=1, max_size=50), st.integers(1, 5))
def test_a_larger_bound_turns_no_further_call_away(calls: list[tuple[float, int]], bound: int) -> None:
    """A theorem where calls do not slow each other down and none waits: hunt the places in order, and the first
    `bound` of `bound` + 1 places take what they took before; the last one only adds."""
    arrivals = trace(*((at, "a", 0, tokens) for at, tokens in sorted(calls)))
    away = []
    for places in (bound, bound + 1):
        declared = fleet({"minReplicas": 1, "maxReplicas": 1, "maxInFlight": places}, slots=8,
                         decodeTokensPerSecond={1: 100, 8: 800})
        outcomes = Outcomes(len(arrivals.times), None)
        PoolRun(declared.pools[0], declared.adapters_of(["a"]), BY_NAME[OURS], outcomes, 0).simulate(arrivals)
        away.append({index for index, code in enumerate(outcomes.codes) if code != SERVED})
    assert away[1] <= away[0]


@every_system
def test_one_seed_gives_one_result(system: str) -> None:
    calls = poisson(800, 12, 60, 1, names="abcdefgh")
    declared = fleet({"minReplicas": 1, "maxReplicas": 6, "adapterSlots": 3, "targetInFlight": 2, "queueSeconds": 1})
    first, again, other = (run(calls, declared, system, seed) for seed in (3, 3, 4))
    assert first == again
    if system in (OURS, "least-loaded"):
        assert first.systems != other.systems, "the seed decides the choice"


def one(calls: Trace, declared: Fleet, system: str = OURS) -> Any:
    return run(calls, declared, system).systems[0]


def test_a_pool_at_zero_spills_starts_serves_and_goes_back_to_zero() -> None:
    """Call at 0 is cold; looked at after 1 s, up at 11 s, its adapter is there half a second later. Idle since 20."""
    calls = trace((0, "a", 0, 101), (11.2, "a", 0, 101), (20, "a", 0, 101), (300, "a", 0, 101))
    found = one(calls, fleet({"minReplicas": 0, "maxReplicas": 2, "idleSeconds": 30}))
    assert found.figures.turned_away_for == {"cold": 3}
    assert found.figures.served == 1
    assert found.figures.pool_latency_seconds.mean == pytest.approx(1.0)
    assert found.figures.latency_seconds.p99 == pytest.approx(0.5 + 100 / 50)
    assert found.pools["p"].replica_seconds == pytest.approx(52 - 1 + 5)  # last call seen at 21, gone at 52, drains


def test_a_call_that_takes_too_long_goes_to_the_next_tier() -> None:
    declared = fleet({"minReplicas": 1}, adapters=[{"specialist": "a", "pool": "p", "timeoutSeconds": 3}])
    found = one(trace((0, "a", 0, 1001), (50, "a", 0, 101)), declared)
    assert found.figures.turned_away_for == {"timeout": 1}
    assert found.figures.latency_seconds.p99 == pytest.approx(3 + 0.5 + 1000 / 50)
    assert found.pools["p"].busy_seconds == pytest.approx(3 + 1)


def test_a_load_on_demand_makes_the_call_wait_and_drops_the_oldest() -> None:
    declared = fleet({"minReplicas": 1, "adapterSlots": 2}, adapterLoadSeconds=2)
    calls = trace((0, "a", 0, 1), (10, "b", 0, 1), (20, "a", 0, 1), (30, "c", 0, 1), (40, "b", 0, 1), (50, "b", 0, 1))
    found = one(calls, declared, "round-robin")
    loads = {name: figures.adapter_loads for name, figures in found.specialists.items()}
    assert loads == {"a": 1, "b": 2, "c": 1}
    assert found.figures.adapter_evictions == 2
    assert found.specialists["b"].latency_seconds.mean == pytest.approx((2 + 2 + 0) / 3)


def test_long_answers_of_one_specialist_turn_no_other_away() -> None:
    """Seen on the first golden trace: the server's latency was everybody's, and a short timeout met others' answers."""
    declared = fleet({"minReplicas": 1}, adapters=[{"specialist": "short", "pool": "p", "timeoutSeconds": 2},
                                                   {"specialist": "long", "pool": "p"}])
    calls = trace(*((float(at), *kind) for at in range(20) for kind in (("long", 0, 401), ("short", 0, 11))))
    assert one(calls, declared).specialists["short"].turned_away_for == {}


def test_each_specialist_on_its_own_server_never_meets_another() -> None:
    calls = trace(*((0.0, name, 0, 101) for name in "abc"))
    found = one(calls, fleet({"maxInFlight": 1}), "one-server-each")
    assert (found.figures.served, found.pools["p"].most_servers) == (3, 3)
    assert found.pools["p"].replica_seconds == pytest.approx(3.0)


def test_costs_are_server_hours_and_the_next_tiers_tokens() -> None:
    llm = {"timeToFirstTokenSeconds": 0, "tokensPerSecond": 1000,
           "prices": {"inputPerMillion": 2.0, "outputPerMillion": 10.0}}
    calls = trace((0, "a", 1_000_000, 500_000), (100, "a", 0, 1))
    found = one(calls, fleet({"minReplicas": 0}, llm=llm, serverHourPrice=3.0))
    assert found.cost.llm == pytest.approx(2.0 + 5.0)
    assert found.cost.servers == pytest.approx(3.0 * found.replica_seconds / 3600, rel=1e-4)
    assert one(calls, fleet({"minReplicas": 0})).cost is None


def test_percentiles_are_values_that_occurred() -> None:
    found = quantiles([0.4, 0.1, 0.3, 0.2])
    assert found is not None
    assert (found.p50, found.p95, found.p99, found.mean) == (0.2, 0.4, 0.4, 0.25)
    assert quantiles([]) is None
