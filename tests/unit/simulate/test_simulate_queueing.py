"""The engine and the gateway's bound against closed forms of queueing theory, each with a 99.9 % interval.

Intervals are of batch means (20 batches; Student's t with 19 degrees of freedom), so that they hold for waits that
depend on each other. Seeds are fixed: a run is the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, factorial, sqrt
from statistics import mean, stdev

import pytest
from simulate_builders import fleet, poisson

from slmfleet.simulate.fleetfile import Fleet
from slmfleet.simulate.outcomes import SERVED, Outcomes
from slmfleet.simulate.run import PoolRun
from slmfleet.simulate.systems import BY_NAME
from slmfleet.simulate.trace import Trace

CALLS, WARM, BATCHES, T_19 = 21_000, 1_000, 20, 3.883
TOKENS, RATE = 1000, 100_000.0
UNIT = TOKENS / RATE  # seconds that a call takes alone: small, so that the operator looks seldom


def played(calls: Trace, declared: Fleet, system: str) -> Outcomes:
    outcomes = Outcomes(len(calls.times), declared.llm)
    PoolRun(declared.pools[0], declared.adapters_of(calls.specialists), BY_NAME[system], outcomes, 0).simulate(calls)
    return outcomes


def holds(values: Sequence[float], theory: float) -> bool:
    """Whether the 99.9 % interval of the mean, after the warm-up, has the value of the theory in it."""
    size = (len(values) - WARM) // BATCHES
    batches = [mean(values[WARM + i * size : WARM + (i + 1) * size]) for i in range(BATCHES)]
    half = T_19 * stdev(batches) / sqrt(BATCHES)
    print(f"measured {mean(batches):.5f} +- {half:.5f}, theory {theory:.5f}")
    return half < 0.7 * theory and abs(mean(batches) - theory) <= half


def erlang_b(servers: int, offered: float) -> float:
    """Share of calls lost by M/G/c/c (Erlang 1917)."""
    terms = [offered**k / factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


def erlang_c(servers: int, offered: float) -> float:
    """Share of calls that wait in M/M/c (Erlang 1917)."""
    blocked = erlang_b(servers, offered)
    return blocked / (1 - offered / servers * (1 - blocked))


def apart(slots: int, pool: dict[str, object]) -> Fleet:
    """One server whose calls do not slow each other down: `slots` servers of queueing theory."""
    return fleet(pool, slots=slots, decodeTokensPerSecond={1: RATE, slots: slots * RATE},
                 adapters=[{"specialist": "a", "pool": "p", "timeoutSeconds": 1e9}])


@pytest.mark.parametrize("servers, offered", [(1, 0.6), (4, 2.6), (16, 12.0)])
def test_waits_in_a_server_are_those_of_erlang_c(servers: int, offered: float) -> None:
    """No prompt to read: the time to the first token is the wait for a slot."""
    declared = apart(servers, {"maxInFlight": 10_000})
    waits = played(poisson(CALLS, offered / UNIT, TOKENS, servers), declared, "one-server-each").first_token
    waiting = erlang_c(servers, offered)
    assert holds([float(wait > 1e-9) for wait in waits], waiting)
    assert holds(waits, waiting / (servers - offered) * UNIT)
    late = 0.5 / (servers - offered)
    tail = waiting * exp(-0.5)  # the wait of those that wait is exponential
    assert holds([float(wait > late * UNIT) for wait in waits], tail)


@pytest.mark.parametrize("servers, offered", [(1, 0.5), (8, 6.0)])
@pytest.mark.parametrize("fixed", [False, True], ids=["exponential", "fixed"])
def test_calls_turned_away_by_a_full_pool_are_those_of_erlang_b(servers: int, offered: float, fixed: bool) -> None:
    """Which holds for any length of answer (M/G/c/c is insensitive)."""
    declared = apart(servers, {"maxInFlight": servers, "minReplicas": 1, "maxReplicas": 1})
    codes = played(poisson(CALLS, offered / UNIT, TOKENS, 7, fixed=fixed), declared, "slmfleet").codes
    assert holds([float(code != SERVED) for code in codes], erlang_b(servers, offered))


def test_calls_that_wait_at_the_gateway_are_those_of_a_queue_with_bounded_room() -> None:
    """M/M/c/2c: the gateway lets as many calls wait as the pool has slots."""
    servers, offered = 4, 3.6
    declared = apart(servers, {"maxInFlight": servers, "minReplicas": 1, "maxReplicas": 1, "queueSeconds": 60})
    codes = played(poisson(CALLS, offered / UNIT, TOKENS, 3), declared, "slmfleet").codes
    states = [offered**k / factorial(min(k, servers)) / servers ** max(0, k - servers) for k in range(2 * servers + 1)]
    assert holds([float(code != SERVED) for code in codes], states[-1] / sum(states))


@pytest.mark.parametrize("fixed", [False, True], ids=["exponential", "fixed"])
def test_calls_that_share_a_batch_take_as_long_as_under_processor_sharing(fixed: bool) -> None:
    """M/G/1-PS: 1 / (mu - lambda) whatever the length's distribution (Kleinrock 1976, section 4.4)."""
    declared = fleet({"maxInFlight": 10_000}, slots=5000, decodeTokensPerSecond={1: RATE},
                     adapters=[{"specialist": "a", "pool": "p", "timeoutSeconds": 1e9}])
    took = played(poisson(CALLS, 0.5 / UNIT, TOKENS, 11, fixed=fixed), declared, "one-server-each").latency
    assert holds(took, UNIT / (1 - 0.5))


def test_prompts_wait_for_each_other_as_in_m_d_1() -> None:
    """One-token answers, prompts of a fixed length: mean time s + rho s / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    calls = poisson(CALLS, 0.7, 1, 5)
    calls = Trace(calls.specialists, calls.times, calls.specialist, [2000] * CALLS, [1] * CALLS, calls.digest)
    declared = fleet({"maxInFlight": 10_000}, slots=5000, prefillTokensPerSecond=2000,
                     adapters=[{"specialist": "a", "pool": "p", "timeoutSeconds": 1e9}])
    took = played(calls, declared, "one-server-each").latency
    assert holds(took, 1 + 0.7 / (2 * (1 - 0.7)))
