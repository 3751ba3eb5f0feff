"""What became of each call, and what a pool used."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from slmfleet.simulate.fleetfile import NextTier

SERVED = 1
REASONS = ("cold", "full", "share", "deadline", "timeout")


@dataclass
class PoolUse:
    """`replica_seconds`: of all servers, from their creation on. `busy_seconds`: with at least one call in the engine.
    `loads`, `evictions`: by adapter."""

    name: str
    replica_seconds: float = 0.0
    busy_seconds: float = 0.0
    servers: int = 0
    most_servers: int = 0
    scalings: int = 0
    loads: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)


class Outcomes:
    """One entry a call, written once. Codes: 0 not over, 1 served, 2 and above the reason it was turned away for.

    `latency` and `first_token`: seconds since the arrival, of answered calls, the next tier's included; -1 where nobody
    answered.
    """

    def __init__(self, calls: int, llm: NextTier | None) -> None:
        self._llm = llm
        self.codes = bytearray(calls)
        self.latency = array("d", bytes(8 * calls))
        self.first_token = array("d", bytes(8 * calls))

    def served(self, index: int, first_token: float, latency: float) -> None:
        """Its pool answered."""
        self._once(index, SERVED)
        self.first_token[index] = first_token
        self.latency[index] = latency

    def turned_away(self, index: int, why: str, output_tokens: int, after_seconds: float) -> None:
        """Its pool did not; the next tier takes it, where there is one."""
        self._once(index, SERVED + 1 + REASONS.index(why))
        if self._llm is None:
            self.first_token[index] = self.latency[index] = -1.0
            return
        first = after_seconds + self._llm.time_to_first_token_seconds
        self.first_token[index] = first
        self.latency[index] = first + max(0, output_tokens - 1) / self._llm.tokens_per_second

    def _once(self, index: int, code: int) -> None:
        if self.codes[index]:
            raise AssertionError(f"call {index} is over twice")
        self.codes[index] = code
