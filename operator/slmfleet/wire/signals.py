"""What a gateway tells the operator (GET /signals on its admin port): counters since it started, never gauges alone.

All counts only grow while `instance` stays the same; the operator keeps what vanished instances had counted.
"""

from __future__ import annotations

from pydantic import Field

from slmfleet.wire.base import Message


class ArmSignals(Message):
    """One revision of one specialist, or the LLM standing in for it (revision `llm`)."""

    assigned: int = Field(0, description="Calls whose conversation is in this arm.")
    served: int = Field(0, description="Calls answered by this arm itself.")
    errors: int = Field(0, description="Tries that failed: connection, status, deadline.")
    invalid: int = Field(0, description="Answers that broke the declared format.")
    low_confidence: int = 0
    spilled: int = Field(0, description="Calls passed on untried: pool cold, full or adapter not resident.")
    latency_seconds_sum: float = 0.0
    latency_seconds: dict[str, int] = Field(default_factory=dict, description="Cumulative histogram.")
    input_tokens: int = 0
    output_tokens: int = 0
    conversations: int = Field(0, description="Distinct conversations judged (the unit of the verdict).")
    conversations_failed: int = Field(0, description="Of them, with at least one error or invalid answer.")


class ShadowSignals(Message):
    """Replays of the LLM's calls to a candidate, compared with the LLM's own answers."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = Field(0, description="No valid answer; counts against the candidate.")
    skipped: int = Field(0, description="Not replayed: pool cold or full. Counts for nobody.")


class SpecialistSignals(Message):
    """All arms of one specialist."""

    arms: dict[str, ArmSignals] = Field(default_factory=dict)
    shadow: dict[str, ShadowSignals] = Field(default_factory=dict)


class PoolSignals(Message):
    """Demand for one pool, which is what its replicas follow."""

    in_flight: int = 0
    in_flight_seconds: float = Field(0.0, description="Integral of the in-flight calls: its slope is the mean load.")
    arrivals: int = Field(0, description="Calls that wanted this pool, served or spilled.")
    spilled: int = 0
    hedges: int = Field(0, description="Second requests for an answer that was late.")
    hedges_won: int = Field(0, description="Of them, those that answered first.")


class TierSignals(Message):
    """Totals of one tier (`specialist`, `generalist`, `llm`)."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_seconds_sum: float = 0.0
    latency_seconds: dict[str, int] = Field(default_factory=dict)


class CaptureSignals(Message):
    """The log's own health: counts, what is not yet in the store, and the bounds on that."""

    records: int = Field(0, description="Records acknowledged: sealed and on stable storage.")
    dropped: int = Field(0, description="Records lost: buffer full or store unwritable for too long.")
    segments: int = 0
    failing: str | None = Field(None, description="What is wrong with the store now, if anything.")
    unacknowledged: int = Field(0, description="Records noted that a kill of the process would lose now.")
    unacknowledged_seconds: float = Field(0.0, description="Age of the oldest of them.")
    buffered_bytes: int = Field(0, description="Memory that they take.")
    segment_records: int = Field(0, description="Bound in use: a segment is sealed after so many records,")
    segment_seconds: float = Field(0.0, description="or so many seconds.")
    buffer_bytes: int = Field(0, description="Bound in use: what does not fit is dropped.")
    expired_segments: int = Field(0, description="Segments deleted for their age.")


class GatewaySignals(Message):
    """One gateway process."""

    instance: str = Field(description="Changes when the process restarts.")
    table_version: int = 0
    table_problem: str | None = Field(None, description="Why the newest table or its classifier is not in use, if so.")
    classifier: str | None = Field(None, description="Digest of the classifier in use.")
    uptime_seconds: float = 0.0
    specialists: dict[str, SpecialistSignals] = Field(default_factory=dict)
    pools: dict[str, PoolSignals] = Field(default_factory=dict)
    tiers: dict[str, TierSignals] = Field(default_factory=dict)
    capture: CaptureSignals = CaptureSignals()
    unowned_calls: int = Field(0, description="Calls that no specialist claims.")
    client_errors: int = Field(0, description="5xx answers given to callers.")
