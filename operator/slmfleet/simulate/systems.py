"""What is compared: each system is a way to scale, a way to place adapters, and a way to choose a server.

All of them see the same arrivals, the same servers, the same bound of calls a server and the same next tier. Each
baseline differs from ours in what its name says. Where servers load adapters on demand, the planner is told of load
only: no adapter needs a place of its own. `resident-first` is nobody's baseline: it is what ours could become.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OURS = "slmfleet"


@dataclass(frozen=True)
class System:
    """`scale`: who sets the number of servers. `place`: who loads adapters. `choose`: which server gets a call."""

    name: str
    description: str
    scale: Literal["planner", "hpa", "fixed"]
    place: Literal["planner", "on-demand", "own"]
    choose: Literal["two-choices", "round-robin", "least-loaded", "resident-first", "own"]


SYSTEMS = (
    System(OURS, "the planner's servers and places; two random choices among servers that hold the adapter",
           "planner", "planner", "two-choices"),
    System("round-robin", "the planner's servers; each in turn, which loads the adapter it lacks and drops its oldest",
           "planner", "on-demand", "round-robin"),
    System("least-loaded", "the planner's servers; the one with fewest calls, wherever the adapter is",
           "planner", "on-demand", "least-loaded"),
    System("resident-first", "as ours among servers that hold the adapter; where none has room, another loads it",
           "planner", "on-demand", "resident-first"),
    System("one-server-each", "a server of its own for every specialist, always on", "fixed", "own", "own"),
    System("hpa", "servers by the HPA's rule on the share of slots in use; places and choice as ours",
           "hpa", "planner", "two-choices"),
)
BY_NAME = {system.name: system for system in SYSTEMS}
