"""The rollout of one candidate: placing, shadow, (approval,) canary by steps, done or rolled back. Pure.

The error budget alpha is split evenly over the shadow and every canary step. A worked example: alpha 0.05, steps
[10, 50, 100] and a shadow make four tests at 0.0125 each; with minimumAgreement 0.8 and 19 of 20 answers agreeing, the
shadow needs 50 calls; with maximumFailure 0.1 and no failure a step needs 59 conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from slmfleet.api.specialist import ArmCount, Rollout, RolloutStatus, Trial
from slmfleet.plan.verdict import share_verdict
from slmfleet.wire.signals import GatewaySignals


@dataclass(frozen=True)
class Counts:
    """Good and bad outcomes of one gateway process since it started."""

    good: int = 0
    bad: int = 0


Counted = Callable[[tuple[GatewaySignals, ...], str, str], Mapping[str, Counts]]
"""Signals, a Specialist's name and a revision's, to what was counted of it."""


@dataclass(frozen=True)
class Seen:
    """What a step of the rollout may depend on."""

    resident: bool
    approved: bool
    shadow: Mapping[str, Counts]
    canary: Mapping[str, Counts]
    now: datetime


def conversations(signals: Iterable[GatewaySignals], specialist: str, revision: str) -> dict[str, Counts]:
    """Conversations of one revision by gateway process: without an escalated call, and with one."""
    found = {}
    for gateway in signals:
        mine = gateway.specialists.get(specialist)
        arm = mine.arms.get(revision) if mine else None
        if arm is not None:
            found[gateway.instance] = Counts(arm.conversations - arm.conversations_failed, arm.conversations_failed)
    return found


def shadowed(signals: Iterable[GatewaySignals], specialist: str, revision: str) -> dict[str, Counts]:
    """Replays to one revision by gateway process: answered as the LLM did, and otherwise or not at all."""
    found = {}
    for gateway in signals:
        mine = gateway.specialists.get(specialist)
        shadow = mine.shadow.get(revision) if mine else None
        if shadow is not None:
            found[gateway.instance] = Counts(shadow.agreed, shadow.disagreed + shadow.failed)
    return found


def left_to_the_llm(signals: Iterable[GatewaySignals], specialist: str, revision: str) -> dict[str, Counts]:
    """Calls of a specialist that it did not answer, by gateway process, whichever the revision: those of the LLM's arm,
    and what its revisions passed on. A generalist may have answered some."""
    found = {}
    for gateway in signals:
        arms = mine.arms if (mine := gateway.specialists.get(specialist)) else {}
        passed_on = sum(arm.errors + arm.invalid + arm.low_confidence + arm.spilled for arm in arms.values())
        found[gateway.instance] = Counts(passed_on + (arms["llm"].assigned if "llm" in arms else 0), 0)
    return found


def advance(spec: Rollout, status: RolloutStatus, seen: Seen) -> RolloutStatus:
    """The rollout after one look: at most one stage further."""
    match status.stage:
        case "Placing":
            return _from_placing(spec, status, seen)
        case "Shadow":
            return _from_shadow(spec, status, seen)
        case "Approval":
            return _start_canary(spec, 0, seen) if _may_start(spec, seen) else status
        case "Canary":
            return _from_canary(spec, status, seen)
    return status


def budget(spec: Rollout) -> float:
    """Alpha of one test."""
    return spec.alpha / (len(spec.steps) + (1 if spec.shadow_percent else 0))


def _from_placing(spec: Rollout, status: RolloutStatus, seen: Seen) -> RolloutStatus:
    if not seen.resident:
        return status
    if spec.shadow_percent:
        return RolloutStatus(stage="Shadow", since=seen.now, counts=starts(seen.shadow))
    return _after_shadow(spec, seen, Trial(verdict="promote"))


def _from_shadow(spec: Rollout, status: RolloutStatus, seen: Seen) -> RolloutStatus:
    counts = tally(status.counts, seen.shadow)
    trial = _judge(counts, spec.minimum_agreement, budget(spec))
    if trial.verdict == "promote":
        return _after_shadow(spec, seen, trial)
    stage = "RolledBack" if trial.verdict == "rollback" else "Shadow"
    return status.model_copy(update={"stage": stage, "counts": counts, "trial": trial})


def shadow_trial(spec: Rollout, status: RolloutStatus, seen: Seen) -> Trial:
    """The shadow's test as it stood when the shadow ended."""
    return _judge(tally(status.counts, seen.shadow), spec.minimum_agreement, budget(spec))


def _after_shadow(spec: Rollout, seen: Seen, trial: Trial) -> RolloutStatus:
    if _may_start(spec, seen):
        return _start_canary(spec, 0, seen)
    return RolloutStatus(stage="Approval", since=seen.now, trial=trial)


def _may_start(spec: Rollout, seen: Seen) -> bool:
    return spec.approval == "Automatic" or seen.approved


def _start_canary(spec: Rollout, step: int, seen: Seen) -> RolloutStatus:
    return RolloutStatus(stage="Canary", step=step, weight_percent=spec.steps[step], since=seen.now,
                         counts=starts(seen.canary))


def _from_canary(spec: Rollout, status: RolloutStatus, seen: Seen) -> RolloutStatus:
    counts = tally(status.counts, seen.canary)
    trial = _judge(counts, 1 - spec.maximum_failure, budget(spec))
    if trial.verdict == "rollback":
        return status.model_copy(update={"stage": "RolledBack", "weight_percent": 0, "counts": counts, "trial": trial})
    if trial.verdict == "continue":
        step = min(status.step, len(spec.steps) - 1)
        return status.model_copy(update={"counts": counts, "trial": trial, "step": step,
                                         "weight_percent": spec.steps[step]})
    if status.step + 1 < len(spec.steps):
        return _start_canary(spec, status.step + 1, seen)
    return status.model_copy(update={"stage": "Done", "counts": counts, "trial": trial})


def _judge(counts: list[ArmCount], least: float, alpha: float) -> Trial:
    good = max(0, sum(count.good - count.good_start for count in counts))
    bad = sum(count.bad - count.bad_start for count in counts)
    return Trial(good=good, bad=bad, verdict=share_verdict(good, bad, least, alpha))


def starts(now: Mapping[str, Counts]) -> list[ArmCount]:
    """The counts from which a step, or a window, is counted."""
    return [ArmCount(instance=name, good_start=c.good, bad_start=c.bad, good=c.good, bad=c.bad)
            for name, c in sorted(now.items())]


def tally(before: list[ArmCount], now: Mapping[str, Counts]) -> list[ArmCount]:
    """Counts by gateway process: new ones start at zero, vanished ones keep what they had counted.

    A conversation that was good turns bad with its first escalated call: good ones may become fewer. The whole does
    not; where it did, a worker of the process is gone, and what it had counted stays.
    """
    kept = {count.instance: count for count in before}
    for name, counts in now.items():
        was = kept.get(name, ArmCount(instance=name))
        if counts.good + counts.bad >= was.good + was.bad:
            kept[name] = was.model_copy(update={"good": counts.good, "bad": counts.bad})
        else:
            kept[name] = was
    return [kept[name] for name in sorted(kept)][-200:]
