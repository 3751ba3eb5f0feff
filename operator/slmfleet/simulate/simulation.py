"""The whole comparison: every system on the same arrivals. Pools share nothing but the next tier, which is never full,
so each is simulated by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmfleet.simulate.fleetfile import Fleet
from slmfleet.simulate.outcomes import Outcomes
from slmfleet.simulate.results import Result, SystemFigures, system_figures, trace_figures
from slmfleet.simulate.run import PoolRun
from slmfleet.simulate.systems import SYSTEMS, System
from slmfleet.simulate.trace import Trace

Progress = Callable[[str, int], None]


def simulate(
    trace: Trace, fleet: Fleet, seed: int, systems: Sequence[System] = SYSTEMS,
    progress: Progress = lambda system, calls: None,
) -> Result:
    """Raises InputProblem where the trace names a specialist that the fleet has not."""
    return Result(seed=seed, trace=trace_figures(trace),
                  systems=[run_system(system, trace, fleet, seed, progress) for system in systems])


def run_system(system: System, trace: Trace, fleet: Fleet, seed: int, progress: Progress) -> SystemFigures:
    """One system. Same inputs and seed, same figures."""
    adapters, outcomes, uses = fleet.adapters_of(trace.specialists), Outcomes(len(trace.times), fleet.llm), []
    for pool in fleet.pools:
        mine = {name: adapter for name, adapter in adapters.items() if adapter.pool == pool.name}
        run = PoolRun(pool, mine, system, outcomes, seed)
        uses.append(run.simulate(trace, lambda calls: progress(system.name, calls)))
    return system_figures(system, fleet, trace, outcomes, uses)
