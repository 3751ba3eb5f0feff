"""What the gate asks for, and what it is told: values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slmtrain.stats import Interval

SLICE_ALLOWANCE = 0.2  # how far below the floor a slice may lie, unless the gate says


@dataclass(frozen=True)
class Gate:
    """What the verdict is judged by; shares of 1. None: not asked for, or the stated default."""

    floor: float = 0.9
    margin: float = 0.03
    confidence: float = 0.95
    slice_floor: float | None = None  # the floor less SLICE_ALLOWANCE
    valid_floor: float | None = None  # the floor
    max_latency_seconds: float | None = None
    max_memory_mib: float | None = None
    require_reports: bool = False
    require_non_inferiority: bool = False

    @property
    def least_of_slice(self) -> float:
        return max(0.0, self.floor - SLICE_ALLOWANCE) if self.slice_floor is None else self.slice_floor

    @property
    def least_valid(self) -> float:
        return self.floor if self.valid_floor is None else self.valid_floor


@dataclass(frozen=True)
class Figure:
    """One metric over all calls."""

    metric: str
    estimate: float
    interval: Interval
    n: int


@dataclass(frozen=True)
class Slice:
    """The calls that share something. `kind`: label, tool, length or language."""

    kind: str
    name: str
    n: int
    conversations: int
    estimate: float
    effective: float  # calls that count as independent


@dataclass(frozen=True)
class Baseline:
    """How often the LLM agrees with itself: its answers to like prompts of different conversations, by one metric."""

    metric: str
    estimate: float
    interval: Interval
    groups: int


@dataclass(frozen=True)
class Reports:
    """What the dataset's folder says of itself. None: it says nothing. `terms`: the first line of `licence`."""

    card: bool = False
    licence: str | None = None
    terms: str | None = None
    redacted: int | None = None
    leaks: int | None = None
    agreement: float | None = None  # of the LLM with itself, the answer being the same or not
    agreement_pairs: int = 0


@dataclass(frozen=True)
class Exposure:
    """One planted secret: its rank among `of` invented ones of the same shape, 1 the likeliest; greedily completed?"""

    name: str
    rank: int
    of: int
    completed: bool


@dataclass(frozen=True)
class Memory:
    """What was looked for of what must not be remembered, and what was found."""

    planted: tuple[Exposure, ...] = ()
    listed_values: int = 0  # values of the dataset's list that answers were searched for
    listed_found: int = 0
    copied_values: int = 0  # values that one training conversation alone has, in answers to other calls
    searched_answers: int = 0


@dataclass(frozen=True)
class Facts:
    """All that the checks know. `judged` are the metrics that must reach the floor."""

    judged: Sequence[Figure] = ()
    valid: Figure | None = None
    baseline: Baseline | None = None
    compared: Figure | None = None  # the candidate by the baseline's metric
    baseline_groups: int = 0  # like prompts found, enough or not
    slices: Sequence[Slice] = ()
    reports: Reports = field(default_factory=Reports)
    memory: Memory = field(default_factory=Memory)
    latency_p95: float | None = None
    memory_mib: float | None = None
    measured_on: str = "this process"
