"""What this process counted since it started: plain integers, turned into signals and metrics only when asked."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

from slmfleet.wire.signals import (
    ArmSignals,
    CaptureSignals,
    GatewaySignals,
    PoolSignals,
    ShadowSignals,
    SpecialistSignals,
    TierSignals,
)

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BUCKET_NAMES = [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
JUDGED_KEPT = 100_000
STUCK_SECONDS = 30.0


class Latency:
    """A histogram with fixed bounds, in seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def cumulative(self) -> dict[str, int]:
        return dict(zip(BUCKET_NAMES, accumulate(self.counts), strict=True))


@dataclass(slots=True)
class ArmCounter:
    """One revision of one specialist, or `llm`."""

    assigned: int = 0
    served: int = 0
    errors: int = 0
    invalid: int = 0
    low_confidence: int = 0
    spilled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    conversations: int = 0
    conversations_failed: int = 0
    latency: Latency = field(default_factory=Latency)


@dataclass(slots=True)
class ShadowCounter:
    """Replays to one revision."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(slots=True)
class TierCounter:
    """One tier."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency: Latency = field(default_factory=Latency)


class PoolCounter:
    """Demand for one pool, with the exact integral of its in-flight calls."""

    __slots__ = ("_integral", "_since", "arrivals", "hedges", "hedges_won", "in_flight", "spilled")

    def __init__(self) -> None:
        self.arrivals = 0
        self.spilled = 0
        self.hedges = 0
        self.hedges_won = 0
        self.in_flight = 0
        self._integral = 0.0
        self._since = 0.0

    def change(self, by: int, now: float) -> None:
        self._integral += self.in_flight * (now - self._since)
        self._since = now
        self.in_flight += by

    def in_flight_seconds(self, now: float) -> float:
        return self._integral + self.in_flight * (now - self._since)


@dataclass(slots=True)
class CaptureCounter:
    """The log's own health. `noted` and `refused` are the event loop's, the other counts the capture thread's.

    `backlog`: bytes held, and when the oldest record that is not in the store was noted (monotonic seconds).
    """

    noted: int = 0
    refused: int = 0
    records: int = 0
    lost: int = 0
    segments: int = 0
    failing: str | None = None
    segment_records: int = 0
    segment_seconds: float = 0.0
    buffer_bytes: int = 0
    expired_segments: int = 0
    backlog: Callable[[], tuple[int, float | None]] = lambda: (0, None)

    @property
    def dropped(self) -> int:
        """Records lost: they did not fit the buffer, or could not be sealed or written before the end."""
        return self.refused + self.lost

    def signals(self, now: float) -> CaptureSignals:
        """`now` is of the clock that `backlog` goes by. Noted is read last, so that nothing comes out below zero."""
        done = self.records + self.lost
        held, oldest = self.backlog()
        age = now - oldest if oldest is not None else 0.0
        failing = self.failing
        if failing is None and age > self.segment_seconds + STUCK_SECONDS:
            failing = f"a record has waited for {age:.0f} s: the store takes no writes and gives no error"
        return CaptureSignals(
            records=self.records,
            dropped=self.dropped,
            segments=self.segments,
            failing=failing,
            unacknowledged=self.noted - done,
            unacknowledged_seconds=round(max(0.0, age), 3),
            buffered_bytes=held,
            segment_records=self.segment_records,
            segment_seconds=self.segment_seconds,
            buffer_bytes=self.buffer_bytes,
            expired_segments=self.expired_segments,
        )


class Counters:
    """All counts of one process. `clock` is monotonic seconds."""

    def __init__(self, instance: str, clock: Callable[[], float]) -> None:
        self.instance = instance
        self.clock = clock
        self.started = clock()
        self.arms: dict[tuple[str, str], ArmCounter] = {}
        self.shadows: dict[tuple[str, str], ShadowCounter] = {}
        self.pools: dict[str, PoolCounter] = {}
        self.tiers = {"specialist": TierCounter(), "generalist": TierCounter(), "llm": TierCounter()}
        self.capture = CaptureCounter()
        self.unowned_calls = 0
        self.decisions: Counter[str] = Counter()
        self.rate_limited = {"requests": 0, "tokens": 0}
        self.client_errors = 0
        self.table_version = 0
        self.table_problem: str | None = None
        self.classifier: str | None = None
        self._judged: dict[tuple[str, str, int], bool] = {}

    def arm(self, specialist: str, revision: str) -> ArmCounter:
        key = (specialist, revision)
        counter = self.arms.get(key)
        if counter is None:
            counter = self.arms[key] = ArmCounter()
        return counter

    def shadow(self, specialist: str, revision: str) -> ShadowCounter:
        return self.shadows.setdefault((specialist, revision), ShadowCounter())

    def pool(self, name: str) -> PoolCounter:
        counter = self.pools.get(name)
        if counter is None:
            counter = self.pools[name] = PoolCounter()
        return counter

    def judge(self, specialist: str, revision: str, conversation: str, *, failed: bool) -> None:
        """Count a conversation once, and once as failed, whatever the number of its calls.

        Bounded: the conversations unseen for longest are forgotten, and would be counted again.
        """
        key = (specialist, revision, hash(conversation))
        known = self._judged.pop(key, None)
        self._judged[key] = bool(known) or failed
        counter = self.arm(specialist, revision)
        if known is None:
            counter.conversations += 1
        if failed and not known:
            counter.conversations_failed += 1
        if len(self._judged) > JUDGED_KEPT:
            self._judged.pop(next(iter(self._judged)))

    def signals(self) -> GatewaySignals:
        """A snapshot for the operator."""
        now = self.clock()
        return GatewaySignals(
            instance=self.instance,
            table_version=self.table_version,
            table_problem=self.table_problem,
            classifier=self.classifier,
            uptime_seconds=now - self.started,
            specialists=self._specialists(),
            pools={name: _pool(counter, now) for name, counter in self.pools.items()},
            tiers={name: _tier(counter) for name, counter in self.tiers.items()},
            capture=self.capture.signals(now),
            unowned_calls=self.unowned_calls,
            client_errors=self.client_errors,
        )

    def _specialists(self) -> dict[str, SpecialistSignals]:
        found: dict[str, SpecialistSignals] = {}
        for (specialist, revision), counter in self.arms.items():
            found.setdefault(specialist, SpecialistSignals()).arms[revision] = _arm(counter)
        for (specialist, revision), shadow in self.shadows.items():
            found.setdefault(specialist, SpecialistSignals()).shadow[revision] = ShadowSignals(
                agreed=shadow.agreed, disagreed=shadow.disagreed, failed=shadow.failed, skipped=shadow.skipped
            )
        return found


def _arm(counter: ArmCounter) -> ArmSignals:
    return ArmSignals(
        assigned=counter.assigned,
        served=counter.served,
        errors=counter.errors,
        invalid=counter.invalid,
        low_confidence=counter.low_confidence,
        spilled=counter.spilled,
        latency_seconds_sum=counter.latency.seconds,
        latency_seconds=counter.latency.cumulative(),
        input_tokens=counter.input_tokens,
        output_tokens=counter.output_tokens,
        conversations=counter.conversations,
        conversations_failed=counter.conversations_failed,
    )


def _pool(counter: PoolCounter, now: float) -> PoolSignals:
    return PoolSignals(
        in_flight=counter.in_flight,
        in_flight_seconds=counter.in_flight_seconds(now),
        arrivals=counter.arrivals,
        spilled=counter.spilled,
        hedges=counter.hedges,
        hedges_won=counter.hedges_won,
    )


def _tier(counter: TierCounter) -> TierSignals:
    return TierSignals(
        calls=counter.calls,
        errors=counter.errors,
        input_tokens=counter.input_tokens,
        output_tokens=counter.output_tokens,
        latency_seconds_sum=counter.latency.seconds,
        latency_seconds=counter.latency.cumulative(),
    )
