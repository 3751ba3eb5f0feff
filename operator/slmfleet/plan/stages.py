"""What becomes of a revision once it exists: candidate, placed, shadow, canary, stable, or ended.

The arithmetic of a rollout is in `rollout`; this module feeds it with what was observed and writes down what it says.
"""

from __future__ import annotations

from slmfleet.api import conditions
from slmfleet.api.specialist import Revision, RolloutStatus
from slmfleet.plan import rollout
from slmfleet.plan.pool import adapter_name
from slmfleet.plan.work import Work


def become_candidate(work: Work, revision: Revision) -> bool:
    """Whether the revision is the candidate or stable one already; makes it the candidate if not."""
    status = work.me.status
    if status.stable is not None and status.stable.artifact == revision.artifact:
        work.supersede_candidate("the spec names the stable revision again")
        if revision.evaluation is not None and status.stable.key != revision.key:  # judged anew, by what is asked now
            work.changes["stable"] = status.stable.model_copy(update={
                "key": revision.key, "evaluation": revision.evaluation, "folders": revision.folders})
        return True
    if status.candidate is not None and status.candidate.artifact == revision.artifact:
        return True
    if has_ended(work, revision.key):
        return False
    work.supersede_candidate("the spec changed")
    work.changes |= {"candidate": revision, "rollout": RolloutStatus(stage="Placing", since=work.facts.now)}
    work.state(conditions.unknown("Placed", "Placing", f"adapter {revision.name} goes to pool {revision.base}"),
               "Placing")
    return False


def roll_out(work: Work) -> None:
    """One look at the candidate's rollout; without a candidate, state the stable revision."""
    status = work.me.status
    if "candidate" in work.changes or (status.candidate is None and status.stable is None):
        return
    if status.candidate is None:
        _state_stable(work, status.stable)
        return
    candidate = status.candidate
    resident = _resident(work, candidate)
    work.parts.append(
        conditions.true("Placed", "AdapterAnswers", f"adapter {candidate.name} answers on pool {candidate.base}")
        if resident else
        conditions.unknown("Placed", "Placing", f"waiting for pool {candidate.base}{_pool_trouble(work, candidate)}"))
    seen = rollout.Seen(
        resident=resident, approved=_approved(work, candidate), now=work.facts.now,
        shadow=rollout.shadowed(work.facts.signals, work.me.meta.name, candidate.name),
        canary=rollout.conversations(work.facts.signals, work.me.meta.name, candidate.name))
    spec, before = work.me.spec.rollout, status.rollout
    after = rollout.advance(spec, before, seen)
    if before.stage == "Shadow" and after.stage != "Shadow":
        candidate = candidate.model_copy(update={"shadow": rollout.shadow_trial(spec, before, seen)})
    work.changes |= {"candidate": candidate, "rollout": after}
    _state_rollout(work, candidate, after)


def suspend(work: Work) -> None:
    """Nothing new is started. Ready is what it is: all of the task is served by the stable revision, or not."""
    status = work.me.status
    if status.stable is not None and status.candidate is None:
        _state_stable(work, status.stable)
        work.hold(f"spec.suspend is true: nothing new is started; revision {status.stable.name} serves on")
        return
    serves = f"revision {status.stable.name} serves on" if status.stable else "the LLM answers"
    if status.candidate is not None:
        at = f"{status.rollout.stage} at {status.rollout.weight_percent} %"
        serves += f", and candidate {status.candidate.name} stays where it is ({at})"
    work.state(conditions.false("RolledOut", "Suspended", f"spec.suspend is true; {serves}"), "Suspended")
    work.hold(f"spec.suspend is true: nothing new is started; {serves}")


def _state_rollout(work: Work, candidate: Revision, after: RolloutStatus) -> None:
    spec, trial = work.me.spec.rollout, after.trial
    told = f"{trial.good} good, {trial.bad} bad"
    match after.stage:
        case "Done":
            promoted = candidate.model_copy(update={"canary": trial, "promoted": work.facts.now})
            work.end(promoted, "Promoted", f"{told} at {after.weight_percent} %")
            work.changes |= {"stable": promoted, "candidate": None}
            _state_stable(work, promoted)
        case "RolledBack":
            before = work.me.status.rollout
            last = "shadow" if before.stage == "Shadow" else f"canary at {before.weight_percent} %"
            why = f"{last}: {told}"
            work.end(candidate.model_copy(update={"canary": trial}), "RolledBack", why)
            work.changes |= {"candidate": None}
            work.state(conditions.false("RolledOut", "RolledBack", _rolled_back(work, candidate.name, why)),
                       "RolledBack", stop=True)
        case "Approval":
            work.state(conditions.unknown("RolledOut", "WaitingForApproval",
                                          f"set spec.rollout.promote to {candidate.artifact} to move traffic"),
                       "Approval")
        case "Shadow":
            work.state(conditions.unknown("RolledOut", "Shadowing",
                                          f"{told} of the LLM's calls replayed; at least "
                                          f"{spec.minimum_agreement:.0%} must agree"), "Shadow")
        case "Canary":
            work.state(conditions.unknown("RolledOut", "Canary", f"{after.weight_percent} % of conversations; {told}; "
                                          f"at most {spec.maximum_failure:.0%} may fail"),
                       f"Canary {after.weight_percent}%")
        case _:
            work.state(conditions.unknown("RolledOut", "Placing", "waiting for the adapter to answer"), "Placing")


def _rolled_back(work: Work, name: str, why: str) -> str:
    stable = work.me.status.stable
    where = f"stable revision {stable.name}" if stable else "the LLM"
    return f"revision {name} was rolled back ({why}); {where} answers. Change the spec to try another revision"


def _state_stable(work: Work, stable: Revision | None) -> None:
    assert stable is not None
    if not any(part.type == "Placed" for part in work.parts):
        resident = _resident(work, stable)
        work.parts.append(conditions.true(
            "Placed", "AdapterAnswers" if resident else "OnDemand",
            f"adapter {stable.name} on pool {stable.base}" if resident else
            f"pool {stable.base} is at zero; calls go to the next tier until it is up"))
    work.state(conditions.true("RolledOut", "Promoted", f"revision {stable.name} answers"), "Promoted")


def has_ended(work: Work, key: str | None) -> bool:
    """Whether the revision of this key was refused or rolled back before; says so again, and stops."""
    ended = next((h for h in work.me.status.history if h.key == key and h.outcome in ("Refused", "RolledBack")), None)
    if ended is None:
        return False
    if ended.outcome == "Refused":
        state_refused(work, ended.reason)
        return True
    message = _rolled_back(work, ended.revision, ended.reason)
    work.state(conditions.false("RolledOut", "RolledBack", message), "RolledBack", stop=True)
    return True


def state_refused(work: Work, why: str) -> None:
    """The gate said no."""
    told = f"{why}; all traffic stays where it was. Give it more data, another base or training, or a lower gate"
    work.state(conditions.false("Evaluated", "GateRefused", told), "Refused", stop=True)


def _resident(work: Work, revision: Revision) -> bool:
    base = work.facts.bases.get(revision.base)
    name = adapter_name(work.me.meta.name, revision.name)
    return base is not None and any(e.ready and name in e.adapters for e in base.status.endpoints)


def _pool_trouble(work: Work, revision: Revision) -> str:
    base = work.facts.bases.get(revision.base)
    if base is None:
        return ", which is gone"
    bad = next((c for c in base.status.conditions if c.type in ("AdaptersPlaced", "PoolAvailable")
                and c.status == "False"), None)
    return f": {bad.message}" if bad else ""


def _approved(work: Work, candidate: Revision) -> bool:
    given = (work.me.spec.artifact or "").rpartition("@")[2]
    return candidate.artifact in (work.me.spec.rollout.promote, given)
