"""The inputs of the revision in the making: fixed in status before any object is made, and fixed anew when the spec
changes, when a dataset came out too small, or when there is a reason to train again (S6).

A restart in between makes the same jobs and not second ones: their names are digests of what is fixed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from slmfleet.api import conditions
from slmfleet.api.base import Condition, Model
from slmfleet.api.specialist import Base, RetrainStatus, TrainingStatus, TrialStatus
from slmfleet.plan import declared, redaction, retrain, select
from slmfleet.plan.facts import ClusterObject, SpecialistFacts, SpecialistObject
from slmfleet.plan.names import object_name, short
from slmfleet.plan.trial import all_failed, pending, scored, told, trial_jobs
from slmfleet.plan.work import Work

RAYJOB_NAME = 47  # KubeRay refuses a longer one


@dataclass(frozen=True)
class Names:
    """Jobs and folders of the revision in the making."""

    attempt: str
    dataset: str
    dataset_job: str
    artifact: str
    scratch: str
    training_job: str
    evaluation: str
    evaluation_job: str

    def folders(self) -> list[str]:
        """What it reads and writes of the store."""
        return [self.dataset, self.artifact, self.scratch, self.evaluation.rpartition("/")[0]]


def stated(part: Model) -> dict[str, Any]:
    """A part of the spec for a digest, without what has its default: an operator that knows a field more must not take
    every Specialist for changed, and train them all."""
    return part.model_dump(exclude_defaults=True)


def names(me: SpecialistObject) -> Names | None:
    """Names derived from the pinned inputs; None while nothing is pinned."""
    pin = me.status.training
    if pin.key is None:
        return None
    name, spec = me.meta.name, me.spec
    rules = [pin.redaction] if pin.redaction else []  # nothing for the default, as before there was a choice
    data = short([spec.task_cluster, *_origin(pin), stated(spec.dataset), *rules])
    attempt = short([pin.key, stated(spec.gate), *scored(pin)])
    return Names(
        attempt=attempt, dataset=f"datasets/{name}-{data}", dataset_job=object_name("curate", name, data),
        artifact=f"artifacts/{name}-{pin.key}", scratch=f"training/{name}-{pin.key}",
        training_job=object_name("train", name, pin.key, limit=RAYJOB_NAME),
        evaluation=f"evaluations/{name}-{attempt}/evaluation.json",
        evaluation_job=object_name("evaluate", name, attempt))


def _origin(pin: TrainingStatus) -> list[Any]:
    """Which calls the revision learns from."""
    until = [pin.until.isoformat()] if pin.until else []
    return [pin.cluster_version, pin.discovery_run, *until]


@dataclass(frozen=True)
class Outcome:
    """What became of the pinned revision: under way, serving, or ended without making it (`failure` says how)."""

    under_way: bool = False
    failure: str | None = None


def outcome(me: SpecialistObject, facts: SpecialistFacts, made: Names) -> Outcome:
    """What became of the pinned revision."""
    status, stable = me.status, me.status.stable
    if status.candidate is not None:
        return Outcome(under_way=True)
    if stable is not None and (stable.key == made.attempt or
                               (facts.training is not None and facts.training.artifact_digest == stable.artifact)):
        return Outcome()
    ended = next((h for h in status.history if h.key == made.attempt and h.outcome in ("Refused", "RolledBack")), None)
    if ended is not None:
        return Outcome(failure=f"revision {ended.revision} was {_ENDED[ended.outcome]} ({ended.reason})")
    failure = _stuck(me, facts, made)
    return Outcome(failure=failure) if failure else Outcome(under_way=True)


_ENDED = {"Refused": "refused by the gate", "RolledBack": "rolled back"}


def _stuck(me: SpecialistObject, facts: SpecialistFacts, made: Names) -> str | None:
    """Why the revision under way cannot go on, if so."""
    if facts.curation is not None and facts.curation.leaks:
        return "its dataset failed the leak test"
    if (differs := other_base(me, facts)) is not None:
        return differs
    on_trial = pending(me.status.training)
    if all_failed(me.status):
        return "no base's trial could be finished"
    if not on_trial and (me.status.base or "") not in facts.bases:
        return f"BaseModel {me.status.base} is gone"
    steps = ((made.dataset_job, facts.curation), (made.training_job, facts.training),
             (made.evaluation_job, facts.evaluation))
    job = next((name for name, result in steps[:1 if on_trial else 3] if result is None), None)
    fact = facts.jobs.get(job or "")
    if fact is None or fact.state != "Failed":
        return None
    why = f" ({fact.failure.reason}: {fact.failure.message})" if fact.failure else ""
    return f"job {job} failed{why}; to try the same again: kubectl delete job {job}"


def other_base(me: SpecialistObject, facts: SpecialistFacts) -> str | None:
    """Why the trained revision is not of the base that its BaseModel states by digest, if so."""
    base, trained = facts.bases.get(me.status.base or ""), facts.training
    stated_digest = base.spec.source.digest if base else None
    if trained is None or stated_digest is None or trained.base_digest == stated_digest:
        return None
    return (f"it was trained on a base of digest {trained.base_digest}; spec.source.digest of BaseModel "
            f"{me.status.base} is {stated_digest}")


def pinned(work: Work) -> bool:
    """Whether the inputs are fixed. Fixing them is a step of its own that makes no object."""
    me, cluster = work.me, work.facts.cluster
    assert cluster is not None
    trained = me.spec.training.model_copy(update={"queue": None})  # where it waits does not change what it becomes
    rules = _redaction(work)
    task = declared.task_of(cluster)
    wanted = short([stated(me.spec.dataset), stated(trained), stated(me.spec.base), *([rules] if rules else []),
                    *([task.version] if task else [])])
    pin = me.status.training
    thin = pin.spec_digest == wanted and _thin_and_newer(work)
    if pin.spec_digest == wanted and not thin:
        return not _other_metric(work, cluster) and not _again(work, wanted, cluster)
    waits = _waits(work, cluster)
    if waits is not None:
        work.state(waits, "Waiting", stop=waits.status == "False")
        return False
    chosen = _base(work, cluster, keep=thin and pin.trigger is not None and not pin.trials)
    if not chosen.suitable:
        work.state(conditions.false("BaseSelected", "NoBaseFits", chosen.reason), "Refused", stop=True)
        return False
    before = me.status.retrain or RetrainStatus()
    _fix(work, wanted, cluster, chosen, pin.trigger if thin else None, before.failures if thin else 0,
         trial=not thin or bool(pin.trials))
    return False


def _waits(work: Work, cluster: ClusterObject) -> Condition | None:
    """Why the inputs cannot be fixed yet, or None."""
    router = work.facts.router
    assert router is not None
    seen = cluster.status.run is not None and cluster.status.version is not None
    if declared.task_of(cluster) is None and (seen or cluster.meta.managed):
        return None if seen else conditions.unknown(
            "DatasetReady", "WaitingForDiscovery", "no discovery has seen this task yet")
    return declared.held(cluster, router, work.me.spec.dataset.minimum_examples)


def _redaction(work: Work) -> str | None:
    """Digest of the Router's redaction; while that cannot be used, of the one that is pinned."""
    router = work.facts.router
    assert router is not None
    return work.me.status.training.redaction if redaction.held(router) else redaction.digest(router)


def _need(me: SpecialistObject, cluster: ClusterObject) -> select.Need:
    return replace(select.need_of(cluster.spec, cluster.status), training=me.spec.training)


def choose(work: Work, winner: str) -> None:
    """Fix the base that the trials chose; a step of its own, as fixing the inputs is."""
    pin: TrainingStatus = work.changes["training"]
    reason = conditions.shortened(f"measured best: {told(pin.trials)}")
    key = short([pin.spec_digest, *_origin(pin), winner])
    work.deletes += trial_jobs(work.me, served=work.facts.ray_jobs_served)
    work.changes |= {"base": winner, "base_reason": reason,
                     "training": pin.model_copy(update={"key": key, "trial_winner": winner})}
    work.state(conditions.unknown("BaseSelected", "Measured", f"{winner}: {reason}"), f"Chose {winner}"[:63])


def _contenders(spec: Base, suitable: list[str], inputs: list[Any]) -> list[TrialStatus]:
    """The best of the ranking, to be measured; none where only one is left, or the spec asks for no trial."""
    if spec.trial is None or spec.name is not None or len(suitable) < 2:
        return []
    return [TrialStatus(base=base, key=short([*inputs, base, "trial", spec.trial_percent]))
            for base in suitable[:spec.trial]]


def _fix(work: Work, wanted: str, cluster: ClusterObject, chosen: select.Ranked, trigger: str | None,
         failures: int, *, trial: bool) -> None:
    me, now = work.me, work.facts.now
    task, router = declared.task_of(cluster), work.facts.router
    assert router is not None
    pin = TrainingStatus(
        spec_digest=wanted, redaction=_redaction(work), metric=cluster.spec.metric,
        cluster_version=task.version if task else cluster.status.version, discovery_run=cluster.status.run,
        until=now.replace(microsecond=0) if task else None, log_calls=router.status.captured if task else None,
        task_calls=None if task else retrain.examples(cluster), trigger=trigger and conditions.shortened(trigger),
        started=now)
    inputs = [wanted, *_origin(pin)]
    suitable = [r.name for r in select.rank(work.base_specs(), me.spec.base.limits, _need(me, cluster)) if r.suitable]
    pin = pin.model_copy(update={
        "key": short([*inputs, chosen.name]), "bases": suitable[:64],
        "trials": _contenders(me.spec.base, suitable, inputs) if trial else []})
    work.changes |= {"base": chosen.name, "base_reason": conditions.shortened(chosen.reason), "training": pin}
    wanted_still = _jobs(work, replace(me, status=me.status.model_copy(update={"training": pin})))
    work.deletes += sorted(_jobs(work, me) - wanted_still)
    if me.spec.retrain is not None:
        before = work.changes.get("retrain") or me.status.retrain or RetrainStatus()
        work.changes["retrain"] = retrain.restart(before, me.spec.retrain, trigger, failures, now)
    work.supersede_candidate("the spec changed")
    told = "inputs of the next revision are fixed" + (f"; {trigger}" if trigger else "")
    work.state(conditions.unknown("DatasetReady", "Pinned", told), "Curating")


def _other_metric(work: Work, cluster: ClusterObject) -> bool:
    """Whether answers are scored otherwise from now on: what was trained is judged anew, and so are bases on trial."""
    me, pin, metric = work.me, work.me.status.training, cluster.spec.metric
    if (pin.metric or "auto") == metric:
        return False
    unmeasured = {"estimate": None, "lower": None, "upper": None, "n": None}
    trials = [each.model_copy(update=unmeasured) for each in pin.trials] if pending(pin) else pin.trials
    changed = pin.model_copy(update={"metric": metric, "trials": trials, "evaluation_job": None})
    work.changes["training"] = changed
    wanted_still = _jobs(work, replace(me, status=me.status.model_copy(update={"training": changed})))
    work.deletes += sorted(_jobs(work, me) - wanted_still)
    told = f"TaskCluster {cluster.meta.name} is scored by {metric} now, before by {pin.metric or 'auto'}"
    work.state(conditions.unknown("Evaluated", "MetricChanged", told), "Evaluating")
    return True


def _jobs(work: Work, me: SpecialistObject) -> set[tuple[str, str]]:
    """Kind and name of the jobs of what is pinned: once it is no more wanted they would train on, and stay for good."""
    made, pin, served = names(me), me.status.training, work.facts.ray_jobs_served
    training = "RayJob" if served else "Job"
    found = {("Job", pin.dataset_job), (training, pin.job), ("Job", pin.evaluation_job)}
    if made is not None:
        found |= {("Job", made.dataset_job), (training, made.training_job), ("Job", made.evaluation_job)}
    return {*trial_jobs(me, served=served), *((kind, name) for kind, name in found if name is not None)}


def _thin_and_newer(work: Work) -> bool:
    """A dataset that came out too small is made again from a newer discovery; of a declared task, from a longer log."""
    made, cluster, router = names(work.me), work.facts.cluster, work.facts.router
    if made is None or cluster is None or router is None or work.facts.curation is not None:
        return False
    found = work.facts.jobs.get(made.dataset_job)
    if work.me.status.training.until is not None:
        return declared.worth_another_try(work.me.status.training, found, router, work.facts.now)
    if cluster.status.run is None:
        return False
    return bool(found and found.state == "Failed" and cluster.status.run > (work.me.status.training.discovery_run or 0))


# --- again (S6) --------------------------------------------------------------------------------------------------

def _again(work: Work, wanted: str, cluster: ClusterObject) -> bool:
    """Whether training starts again now. Never while a revision is under way."""
    me, facts, spec, made = work.me, work.facts, work.me.spec.retrain, names(work.me)
    assert made is not None
    if spec is None:
        work.changes["retrain"] = None
        return False
    measured = work.changes["retrain"] = retrain.measure(spec, me, facts)
    ended = outcome(me, facts, made)
    if ended.under_way:
        work.notes.append(conditions.unknown(
            "UpToDate", "Training", me.status.training.trigger or "the revision that the spec asks for"))
        return False
    failures = measured.failures + 1 if ended.failure else 0
    found = retrain.triggers(spec, measured, facts.now, _better(work, cluster))
    if not found:
        work.notes.append(retrain.standing(spec, measured, ended.failure, _unmeasured(work)))
        return False
    held = retrain.obstacle(spec, found, me.status.training, cluster, failures, facts.now)
    if held is not None:
        work.notes.append(held)
        return False
    chosen = _base(work, cluster, keep=all(trigger.reason != "BetterBase" for trigger in found))
    if not chosen.suitable:
        work.notes.append(conditions.false("UpToDate", "NoBaseFits", f"{retrain.told(found)}; {chosen.reason}"))
        return False
    better = any(trigger.reason == "BetterBase" for trigger in found)
    _fix(work, wanted, cluster, chosen, retrain.told(found), failures, trial=better)
    work.notes.append(conditions.unknown("UpToDate", "Training", retrain.told(found)))
    return True


def _unmeasured(work: Work) -> dict[str, str]:
    """By field of `retrain`, why it does not move. Of a declared task gateways count the examples, where they must."""
    router, declared_task = work.facts.router, work.me.status.training.until is not None
    if router is None or (router.spec.discovery.enabled and router.spec.capture.enabled):
        return {}
    if not router.spec.capture.enabled:
        why = f"no call is logged: spec.capture.enabled of Router {router.meta.name} is off"
        return {field: f"retrain.{field} is inactive, {why}" for field in ("newExamples", "driftPercent")}
    why = f"only a discovery measures it: spec.discovery.enabled of Router {router.meta.name} is off"
    fields = ("driftPercent",) if declared_task else ("newExamples", "driftPercent")
    return {field: f"retrain.{field} is inactive, {why}" for field in fields}


def _base(work: Work, cluster: ClusterObject, *, keep: bool) -> select.Ranked:
    """The base of the next training. `keep`: the one in use, while it is suitable."""
    me, bases, need = work.me, work.base_specs(), _need(work.me, cluster)
    used = bases.get(me.status.base or "")
    if keep and used is not None and me.spec.base.name is None:
        same = select.judge(me.status.base or "", used, me.spec.base.limits, need)
        if same.suitable:
            return same
    return select.choose(me.spec.base, bases, need)


def _better(work: Work, cluster: ClusterObject) -> str | None:
    """Why another base should be used: one that was no choice at the last training leads the ranking now."""
    me, known = work.me, work.me.status.training.bases
    if me.spec.base.name is not None or not known:
        return None
    best = select.choose(me.spec.base, work.base_specs(), _need(me, cluster))
    if not best.suitable or best.name in (*known, me.status.base):
        return None
    return f"BaseModel {best.name} ({best.reason}) ranks above {me.status.base}"
