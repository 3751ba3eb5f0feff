"""S4 by measurement: the best bases of the ranking are each trained a little, and the gate's job says which is best.

One after the other, so that a trial asks for no more of the cluster than a training. Trials are fixed with the inputs
of the revision (`attempt`), their jobs and folders are named by digests, and each figure goes into status as it comes.
A trial whose job failed is out; the winner is then trained in full and meets the gate as any other.
"""

from __future__ import annotations

from dataclasses import dataclass

from slmfleet.api import conditions
from slmfleet.api.specialist import SpecialistStatus, TrainingStatus, TrialStatus
from slmfleet.plan.facts import SpecialistObject, TrialFact
from slmfleet.plan.names import object_name, short
from slmfleet.plan.work import Work, score_of

STEPS = 600  # of a training whose spec does not say how many: what the recipes aim at
FEWEST_STEPS = 10


@dataclass(frozen=True)
class TrialNames:
    """Jobs and folders of one base's trial."""

    base: str
    artifact: str
    scratch: str
    training_job: str
    evaluation: str
    evaluation_job: str


def trial_names(me: SpecialistObject) -> list[TrialNames]:
    """Those of the trials under way; none once the base is chosen."""
    if not pending(me.status.training):
        return []
    return [_names(me.meta.name, each, scored(me.status.training)) for each in me.status.training.trials]


def _names(name: str, trial: TrialStatus, scored_by: list[str]) -> TrialNames:
    key = trial.key
    measured_as = short([key, *scored_by]) if scored_by else key
    return TrialNames(
        base=trial.base, artifact=f"artifacts/{name}-{key}", scratch=f"training/{name}-{key}",
        training_job=object_name("trial", name, key, limit=47),
        evaluation=f"evaluations/{name}-{measured_as}/evaluation.json",
        evaluation_job=object_name("measure", name, measured_as))


def scored(pin: TrainingStatus) -> list[str]:
    """The pinned metric, for the digests that name an evaluation: made with another metric it is another one. Nothing
    for `auto`, as before the metric was pinned."""
    return [] if pin.metric in (None, "auto") else [pin.metric]


def trial_jobs(me: SpecialistObject, *, served: bool) -> list[tuple[str, str]]:
    """Kind and name of the trials' jobs. `served`: whether trainings are RayJobs."""
    return [job for each in trial_names(me)
            for job in (("RayJob" if served else "Job", each.training_job), ("Job", each.evaluation_job))]


def pending(pin: TrainingStatus) -> bool:
    """Whether the base is still to be chosen."""
    return bool(pin.trials) and pin.trial_winner is None


def all_failed(status: SpecialistStatus) -> bool:
    """Whether no base is left to choose."""
    return pending(status.training) and all(each.failure for each in status.training.trials)


def measured(work: Work, dataset: str) -> str | None:
    """The base that won, once every trial has its figure or its failure; else the next job is made."""
    me = work.me
    trials, running = [], None
    for each, made in zip(me.status.training.trials, trial_names(me), strict=True):
        fact = work.facts.trials.get(each.base, TrialFact())
        found = _updated(work, each, made, fact)
        trials.append(found)
        if running is None and found.estimate is None and found.failure is None:
            running = found
            _run(work, made, fact, dataset)
    work.changes["training"] = me.status.training.model_copy(update={"trials": trials})
    if running is not None:
        work.state(conditions.unknown("BaseSelected", "OnTrial", f"{told(trials)}; {running.base} is on trial"),
                   f"Trial of {running.base}"[:63])
        return None
    best = max((each for each in trials if each.estimate is not None), default=None,
               key=lambda each: each.estimate or 0.0)  # of equal ones the first, which ranks higher
    if best is None:
        work.state(conditions.false("BaseSelected", "TrialsFailed", told(trials)), "Trials failed", stop=True)
        return None
    return best.base


def told(trials: list[TrialStatus]) -> str:
    """Each base with its figure, for people."""
    return "; ".join(
        f"{each.base} {score_of(each.estimate, each.lower or 0.0, each.upper or 0.0)}" if each.estimate is not None
        else f"{each.base} {each.failure or 'not measured yet'}" for each in trials)


def _updated(work: Work, trial: TrialStatus, made: TrialNames, fact: TrialFact) -> TrialStatus:
    if fact.evaluation is not None:
        lower, upper = fact.evaluation.interval
        return trial.model_copy(update={"estimate": fact.evaluation.estimate, "lower": lower, "upper": upper,
                                        "n": fact.evaluation.n, "failure": None})
    if trial.base not in work.facts.bases:
        return trial.model_copy(update={"failure": "is gone"})
    name = made.training_job if fact.training is None else made.evaluation_job
    job = work.facts.jobs.get(name)
    if job is None or job.state != "Failed":
        return trial.model_copy(update={"failure": None})
    why = job.failure.message if job.failure else "see its pod's log"
    return trial.model_copy(update={"failure": f"failed: job {name}: {why}"[:1024]})


def _run(work: Work, made: TrialNames, fact: TrialFact, dataset: str) -> None:
    spec = work.me.spec
    full = spec.training.steps or STEPS
    steps = max(FEWEST_STEPS, round(full * spec.base.trial_percent / 100))
    if fact.training is None:
        work.train(made.training_job, made.base, dataset, made.artifact, made.scratch,
                   spec.training.model_copy(update={"steps": min(steps, full)}))
        return
    work.evaluate(made.evaluation_job, made.base, dataset, made.artifact, made.evaluation)
