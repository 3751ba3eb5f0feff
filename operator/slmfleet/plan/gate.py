"""The verdict of the gate, from the job's result to status and words."""

from __future__ import annotations

from slmfleet.api.specialist import Check, Evaluation
from slmfleet.wire.jobs import EvaluationResult, GateCheck

MOST_CHECKS = 32  # that status may hold
LONGEST = 1024  # of a message in status


def evaluation_of(result: EvaluationResult) -> Evaluation:
    """What status shows: the figure, and every check. A list by name holds each name once: the worst."""
    checks: dict[str, Check] = {}
    for check in result.checks:
        checks.setdefault(check.name, _check(check))
    return Evaluation(metric=result.metric, estimate=result.estimate, lower=result.interval[0],
                      upper=result.interval[1], n=result.n, verdict=result.verdict,
                      checks=list(checks.values())[:MOST_CHECKS])


def _check(found: GateCheck) -> Check:
    return Check(name=found.name, passed=found.passed, required=found.required, reason=found.reason,
                 message=found.message[:LONGEST])


def why_refused(result: EvaluationResult) -> str:
    """The worst failed check by name and in its own words, and the names of the others; without checks, the reasons.

    Empty where a result gives neither.
    """
    failed = [check for check in result.checks if check.required and not check.passed]
    if not failed:
        return "; ".join(result.reasons)
    worst, others = failed[0], failed[1:]
    beside = f"; also {', '.join(f'{check.name} ({check.reason})' for check in others)}" if others else ""
    return f"{worst.name} ({worst.reason}): {worst.message[:LONGEST]}{beside}"
