"""S6: when a Specialist is trained again. Measures what speaks for it, and says whether now is the time.

Figures move only with a discovery run or at the end of a window, so that status is not written for every call. A
training that did not make it doubles the wait before the next one, to 64 times `minimumIntervalSeconds`. Drift is from
the run before, and from the run that the stable revision learned from: small steps add up.

Not covered: gateways that came and went within one window (their counts are lost).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.specialist import CountWindow, Retrain, RetrainStatus, TrainingStatus
from slmfleet.plan import rollout
from slmfleet.plan.facts import ClusterObject, SpecialistFacts, SpecialistObject
from slmfleet.plan.interval import bounds
from slmfleet.wire.signals import GatewaySignals

MOST_DOUBLINGS = 6


@dataclass(frozen=True)
class Trigger:
    """One reason to train again, in one CamelCase word and in figures."""

    reason: str
    message: str


def next_time(schedule: str, after: datetime) -> datetime:
    """The schedule's next time, in UTC. Raises ValueError for what is no schedule, or never comes."""
    try:
        return next(CronSim(schedule, after.replace(second=0, microsecond=0)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"spec.retrain.schedule {schedule!r}: {error or 'it never comes'}") from error


# --- measuring ---------------------------------------------------------------------------------------------------

def measure(spec: Retrain, me: SpecialistObject, facts: SpecialistFacts) -> RetrainStatus:
    """What speaks for training again, by now."""
    before = me.status.retrain or RetrainStatus()
    return before.model_copy(update={
        **_scheduled(spec, before, facts.now), **_discovered(before, me.status.training, facts),
        **_answered(spec, before, me, facts), **_escalated(spec, before, me, facts),
        **_agreed(spec, before, me, facts)})


def restart(before: RetrainStatus, spec: Retrain, trigger: str | None, failures: int, now: datetime) -> RetrainStatus:
    """The measure once a training started: everything counts from here. `trigger`: None where the spec asked."""
    return RetrainStatus(
        schedule=spec.schedule, next_schedule_time=_next(spec.schedule, now), new_examples=0, failures=failures,
        last_trigger=now if trigger else before.last_trigger, reason=trigger or before.reason)


def _scheduled(spec: Retrain, before: RetrainStatus, now: datetime) -> dict[str, object]:
    if spec.schedule == before.schedule:
        return {}
    return {"schedule": spec.schedule, "next_schedule_time": _next(spec.schedule, now)}


def _next(schedule: str | None, now: datetime) -> datetime | None:
    try:
        return next_time(schedule, now) if schedule else None
    except ValueError:
        return None


def _discovered(before: RetrainStatus, pin: TrainingStatus, facts: SpecialistFacts) -> dict[str, object]:
    """New examples since the last dataset, and the largest drift of the runs since."""
    cluster = facts.cluster
    if cluster is None:
        return {}
    now, run = cluster.status, cluster.status.run or 0
    known, had = examples(cluster), _had(pin, facts)
    new = max(0, known - had) if known is not None and had is not None else None
    new = before.new_examples or 0 if _counted_by_gateways(pin, facts) else new
    seen = max(before.drift_run or 0, pin.discovery_run or 0)
    if run <= seen or now.drift is None:
        return {"new_examples": new}
    largest = max(before.drift or 0.0, now.drift.percent, now.drift_trained.percent if now.drift_trained else 0.0)
    return {"new_examples": new, "drift": round(largest, 1), "drift_run": run}


def _answered(
    spec: Retrain, before: RetrainStatus, me: SpecialistObject, facts: SpecialistFacts
) -> dict[str, object]:
    """New examples of a declared task without a discovery: what the LLM answered since, as far as it is logged. Counted
    at the end of a window, from the first stable revision on."""
    if not _counted_by_gateways(me.status.training, facts):
        return {"llm_window": None}
    step = _step(spec, spec.new_examples, before.llm_window, rollout.left_to_the_llm, me, facts)
    if step is None:
        return {}
    assert facts.router is not None
    logged = int(step.good * facts.router.spec.capture.sample_percent / 100)
    return {"llm_window": step.window, "new_examples": (before.new_examples or 0) + logged}


def _counted_by_gateways(pin: TrainingStatus, facts: SpecialistFacts) -> bool:
    return pin.until is not None and facts.router is not None and not facts.router.spec.discovery.enabled


def _had(pin: TrainingStatus, facts: SpecialistFacts) -> int | None:
    """Calls that could teach when the last dataset was made: of a declared task, by its report."""
    if pin.until is None:
        return pin.task_calls
    return None if facts.curation is None else facts.curation.answered.get("llm", 0)


def examples(cluster: ClusterObject) -> int | None:
    """Calls of the task in the log that can teach: those that an LLM answered, where discovery counted them."""
    status = cluster.status
    return status.teachable if status.teachable is not None else status.calls


def _escalated(
    spec: Retrain, before: RetrainStatus, me: SpecialistObject, facts: SpecialistFacts
) -> dict[str, object]:
    """The share of the stable revision's conversations with an escalated call, once a window is over."""
    step = _step(spec, spec.escalation_percent, before.window, rollout.conversations, me, facts)
    if step is None:
        return {}
    rate, lower = _share(step.bad, step.good + step.bad)
    return {"window": step.window, "escalation_percent": rate, "escalation_lower_percent": lower}


def _agreed(
    spec: Retrain, before: RetrainStatus, me: SpecialistObject, facts: SpecialistFacts
) -> dict[str, object]:
    """How often the stable revision says what the LLM said to conversations held back, once a window is over."""
    step = _step(spec, spec.agreement_percent, before.agreement_window, rollout.shadowed, me, facts)
    if step is None:
        return {}
    rate, lower = _share(step.bad, step.good + step.bad)
    return {"agreement_window": step.window, "agreement_percent": None if rate is None else round(100 - rate, 1),
            "agreement_upper_percent": None if lower is None else round(100 - lower, 1)}


@dataclass(frozen=True)
class _Step:
    """The window under way, and what the last one counted."""

    window: CountWindow | None
    good: int = 0
    bad: int = 0


def _step(spec: Retrain, limit: float | None, window: CountWindow | None, counted: rollout.Counted,
          me: SpecialistObject, facts: SpecialistFacts) -> _Step | None:
    """A window of counts of the stable revision, begun, ended, or (None) left as it is."""
    stable = me.status.stable
    if limit is None or stable is None:
        return _Step(None)
    if not facts.signals:  # just started, or no gateway: what was counted is not known
        return None
    counts = {gateway.instance: rollout.Counts() for gateway in facts.signals}  # nothing yet is a count as well
    counts |= counted(facts.signals, me.meta.name, stable.name)
    fresh = CountWindow(revision=stable.name, since=facts.now, counts=rollout.starts(counts)[-200:])
    if window is None or window.revision != stable.name:
        return _Step(fresh)
    seconds = (facts.now - window.since).total_seconds()
    if seconds < spec.window_seconds:
        return None
    return _Step(fresh, *_since(window, counts, facts.signals, seconds))


def _since(window: CountWindow, counts: Mapping[str, rollout.Counts], signals: tuple[GatewaySignals, ...],
           seconds: float) -> tuple[int, int]:
    """Good and bad ones of the window. A gateway that ran before it and was not seen then is left out."""
    starts = {count.instance: count for count in window.counts}
    good = bad = 0
    for gateway in signals:
        now = counts.get(gateway.instance)
        start = starts.get(gateway.instance)
        if now is None or (start is None and gateway.uptime_seconds > seconds):
            continue
        good += now.good - (start.good_start if start else 0)
        bad += now.bad - (start.bad_start if start else 0)
    return max(0, good), max(0, bad)


def _share(bad: int, total: int) -> tuple[float | None, float | None]:
    """Percent, and its lower bound."""
    if not total:
        return None, None
    return round(100 * bad / total, 1), round(100 * bounds(bad / total, total)[0], 1)


# --- deciding ----------------------------------------------------------------------------------------------------

def triggers(spec: Retrain, measured: RetrainStatus, now: datetime, better: str | None) -> list[Trigger]:
    """Every reason that holds. `better`: why another base should be used, where one should."""
    found = []
    due = measured.next_schedule_time
    if spec.schedule and due is not None and due <= now:
        found.append(Trigger("Schedule", f"the schedule asked for it at {due:%Y-%m-%d %H:%M} UTC"))
    if spec.new_examples is not None and (measured.new_examples or 0) >= spec.new_examples:
        found.append(Trigger("NewExamples", f"{measured.new_examples:,} new examples, from {spec.new_examples:,}"))
    if spec.drift_percent is not None and (measured.drift or 0) >= spec.drift_percent:
        found.append(Trigger("Drift", f"drift of {measured.drift:g} %, from {spec.drift_percent:g}"))
    if spec.escalation_percent is not None and (measured.escalation_lower_percent or 0) > spec.escalation_percent:
        share = f"{measured.escalation_percent:g} % of conversations escalated"
        bounds = f"surely {measured.escalation_lower_percent:g}, above {spec.escalation_percent:g}"
        found.append(Trigger("Escalations", f"{share}, {bounds}"))
    most = measured.agreement_upper_percent
    if spec.agreement_percent is not None and most is not None and most < spec.agreement_percent:
        share = f"agrees with the LLM in {measured.agreement_percent:g} % of the calls held back"
        bounds = f"surely at most {most:g}, below {spec.agreement_percent:g}"
        found.append(Trigger("Agreement", f"{share}, {bounds}"))
    if spec.on_better_base and better is not None:
        found.append(Trigger("BetterBase", better))
    return found


def not_before(spec: Retrain, pin: TrainingStatus, failures: int) -> datetime | None:
    """When the next training may start: the interval, doubled for each failure in a row."""
    if pin.started is None:
        return None
    return pin.started + timedelta(seconds=spec.minimum_interval_seconds * 2 ** min(failures, MOST_DOUBLINGS))


def obstacle(spec: Retrain, found: list[Trigger], pin: TrainingStatus, cluster: ClusterObject, failures: int,
             now: datetime) -> Condition | None:
    """Why a training that is due cannot start yet."""
    why = told(found)
    least = not_before(spec, pin, failures)
    if least is not None and now < least:
        later = f"{why}; not before {least:%Y-%m-%d %H:%M:%S} UTC"
        if failures:
            return conditions.unknown("UpToDate", "BackingOff", f"{later}, after {failures} that did not make it")
        return conditions.unknown("UpToDate", "Resting", later)
    newer = pin.until is not None or (cluster.status.run or 0) > (pin.discovery_run or 0)
    if not newer and not any(trigger.reason == "BetterBase" for trigger in found):
        return conditions.unknown("UpToDate", "WaitingForDiscovery",
                                  f"{why}; the last training used discovery run {pin.discovery_run}, the newest one "
                                  "that saw the task")
    return None


def told(found: list[Trigger]) -> str:
    return "; ".join(f"{trigger.reason}: {trigger.message}" for trigger in found)


def standing(spec: Retrain, measured: RetrainStatus, failed: str | None,
             unmeasured: Mapping[str, str] | None = None) -> Condition:
    """Where the figures stand, against what would start a training. `failed`: how the last one ended, if badly.
    `unmeasured`: by field, why it does not move, if so."""
    figures = "; ".join(_figures(spec, measured, unmeasured or {}))
    if failed is not None:
        return conditions.false("UpToDate", "LastFailed", "; ".join(part for part in (failed, figures) if part))
    if spec.schedule and measured.next_schedule_time is None:
        return conditions.false("UpToDate", "BadSchedule",
                                f"spec.retrain.schedule {spec.schedule!r} has no next time; it starts nothing")
    return conditions.true("UpToDate", "NothingDue", figures)


def _figures(spec: Retrain, measured: RetrainStatus, unmeasured: Mapping[str, str]) -> list[str]:
    found = []
    if spec.schedule and measured.next_schedule_time is not None:
        found.append(f"next at {measured.next_schedule_time:%Y-%m-%d %H:%M} UTC")
    if spec.new_examples is not None:
        found.append(unmeasured.get("newExamples") or
                     f"{measured.new_examples or 0:,} of {spec.new_examples:,} new examples")
    if spec.drift_percent is not None:
        found.append(unmeasured.get("driftPercent") or
                     f"drift {measured.drift or 0:g} of {spec.drift_percent:g} %")
    if spec.escalation_percent is not None:
        found.append(f"{measured.escalation_percent or 0:g} of {spec.escalation_percent:g} % escalated")
    if spec.agreement_percent is not None and measured.agreement_percent is not None:
        found.append(f"agrees with the LLM in {measured.agreement_percent:g} %, from {spec.agreement_percent:g}")
    return found
