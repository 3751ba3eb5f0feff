"""One Specialist: dataset, base, training, gate; then its rollout (`stages`). The next step from what was observed.

A revision starts by being pinned (`attempt`): the versions it is made from go into status before any object is made.
"""

from __future__ import annotations

from typing import Any

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.specialist import Revision, TrainingStatus
from slmfleet.plan import declared, redaction
from slmfleet.plan.attempt import Names, choose, names, other_base, outcome, pinned
from slmfleet.plan.config import Config
from slmfleet.plan.facts import Plan, SpecialistFacts, SpecialistObject
from slmfleet.plan.gate import evaluation_of, why_refused
from slmfleet.plan.jobs import curate_job
from slmfleet.plan.names import short
from slmfleet.plan.pods import store_prefix
from slmfleet.plan.stages import become_candidate, has_ended, roll_out, state_refused, suspend
from slmfleet.plan.trial import measured, pending
from slmfleet.plan.work import Work, score
from slmfleet.wire.jobs import JobFailure

LOW_SHARE = 0.8  # of what was trained: an extracted adapter that keeps less is told of, as in its model card


def plan_specialist(config: Config, me: SpecialistObject, facts: SpecialistFacts) -> Plan:
    """The next step."""
    work = Work(config, me, facts)
    if me.spec.suspend:
        suspend(work)
        return work.plan()
    if _found(work) and (_adopted(work) if me.spec.artifact else _made(work)):
        roll_out(work)
    return work.plan()


def _found(work: Work) -> bool:
    me, facts = work.me, work.facts
    if facts.cluster is None:
        work.state(conditions.false("ClusterFound", "ClusterNotFound",
                                    f"there is no TaskCluster {me.spec.task_cluster} in this namespace; "
                                    "see kubectl get taskclusters"), "Waiting")
        return False
    if facts.router is None:
        work.state(conditions.false("ClusterFound", "RouterNotFound",
                                    f"TaskCluster {me.spec.task_cluster} names Router {facts.cluster.spec.router}, "
                                    "which does not exist"), "Waiting")
        return False
    work.changes["router"] = facts.router.meta.name
    work.parts.append(conditions.true("ClusterFound", "Found", f"TaskCluster {me.spec.task_cluster}"))
    return True


# --- an adapter that another cluster trained ---------------------------------------------------------------------

def _adopted(work: Work) -> bool:
    me = work.me
    path, _, digest = (me.spec.artifact or "").partition("@")
    name = me.spec.base.name
    if name is None or name not in work.facts.bases:
        work.state(conditions.false("BaseSelected", "BaseNotFound",
                                    f"spec.artifact needs spec.base.name to name the BaseModel it was trained on; "
                                    f"there is no BaseModel {name}"), "Refused", stop=True)
        return False
    work.changes["base"] = name
    work.parts += [conditions.true("BaseSelected", "Named", name),
                   conditions.true("Trained", "ArtifactGiven", digest)]
    revision = Revision(name=digest.removeprefix("sha256:")[:12], artifact=digest,
                        path=path.removeprefix("file:///"), base=name, key=short(me.spec.artifact))
    return become_candidate(work, revision)


# --- an adapter that is made here --------------------------------------------------------------------------------

def _made(work: Work) -> bool:
    if not pinned(work):
        return False
    made = names(work.me)
    assert made is not None
    tried = work.me.status.candidate
    if tried is not None and tried.key != made.attempt:  # its gate is not the one asked for any more
        work.supersede_candidate("the spec changed")
        work.state(conditions.unknown("Evaluated", "Superseded",
                                      f"candidate {tried.name} gives way to what the spec asks for now"), "Evaluating")
        return False
    stable = work.me.status.stable
    if stable is not None and work.me.status.training.trigger and outcome(work.me, work.facts, made).failure:
        return _serving(work, stable)  # training again did not make it (UpToDate says so): what serves goes on
    if has_ended(work, made.attempt):
        return False
    for serving in (work.me.status.candidate, stable):
        if serving is not None and serving.key == made.attempt:
            return _serving(work, serving)
    if not _dataset(work, made):
        return False
    if pending(work.me.status.training):
        winner = measured(work, made.dataset)
        if winner is not None:
            choose(work, winner)
        return False
    return _trained(work, made) and _evaluated(work, made)


def _serving(work: Work, revision: Revision) -> bool:
    work.parts += [_dataset_part(revision), _base_part(work, revision.base), _trained_part(revision),
                   _evaluated_part(revision)]
    return True


def _dataset(work: Work, made: Names) -> bool:
    me, facts = work.me, work.facts
    result = facts.curation
    if result is None:
        router, cluster = facts.router, facts.cluster
        assert router is not None and cluster is not None
        held = redaction.held(router) if made.dataset_job not in facts.jobs else None
        if held is not None:
            work.state(conditions.unknown("DatasetReady", held.reason, f"Router {router.meta.name}: {held.message}"),
                       "Waiting")
        elif not _failed(work, "DatasetReady", made.dataset_job, "Curating"):
            pin = me.status.training
            work.objects.append(curate_job(
                work.config, made.dataset_job, (me.meta.name, me.meta.uid), router.meta.name, router.spec,
                _source(work) or pin.discovery_run or 1, cluster.meta.name, made.dataset,
                me.spec.dataset.minimum_examples, me.spec.dataset.heldout_percent, store_prefix(router.spec.store.url)))
            work.changes["training"] = pin.model_copy(update={"dataset_job": made.dataset_job})
            work.state(conditions.unknown("DatasetReady", "JobRunning", f"job {made.dataset_job}"), "Curating")
        return False
    if result.leaks:
        work.state(conditions.false("DatasetReady", "PersonalDataLeft",
                                    f"{result.leaks} values of the log were found in the dataset after redaction; "
                                    f"it is not trained on. See {made.dataset}/report.json"), "Refused", stop=True)
        return False
    work.parts.append(conditions.true("DatasetReady", "DatasetStored",
                                      f"{result.train:,} examples, {result.heldout:,} held out, "
                                      f"{result.dataset_digest}"))
    return True


def _source(work: Work) -> declared.Source | None:
    """What the dataset of a declared task is made from; None where a discovery run says which calls are the task's."""
    facts, until = work.facts, work.me.status.training.until
    assert facts.cluster is not None and facts.router is not None
    task = declared.task_of(facts.cluster)
    if task is None or until is None:
        return None
    return declared.Source(task, declared.tasks_of(facts.router.meta.name, facts.clusters), until)


def _trained(work: Work, made: Names) -> bool:
    me, facts = work.me, work.facts
    base = facts.bases.get(me.status.base or "")
    if base is None:
        work.state(conditions.false("BaseSelected", "BaseNotFound",
                                    f"BaseModel {me.status.base} is gone; create it or change spec.base"),
                   "Refused", stop=True)
        return False
    work.parts.append(_base_part(work, base.meta.name))
    if (differs := other_base(me, facts)) is not None:
        work.state(conditions.false("Trained", "OtherBase", differs), "Refused", stop=True)
        return False
    if facts.training is not None:
        kept = facts.training.extraction.kept_share if facts.training.extraction else None
        work.parts.append(_stored(facts.training.artifact_digest, kept))
        work.changes["training"] = _training_status(work, made)
        return True
    if _failed(work, "Trained", made.training_job, "Training"):
        return False
    work.train(made.training_job, base.meta.name, made.dataset, made.artifact, made.scratch, me.spec.training)
    training = _training_status(work, made)
    work.changes["training"] = training
    progress = facts.progress
    told = f"step {progress.step} of {progress.total_steps}, loss {progress.loss}" if progress else "starting"
    work.state(conditions.unknown("Trained", "JobRunning", f"job {made.training_job}: {told}"),
               f"Training {training.percent:.0f}%")
    return False


def _training_status(work: Work, made: Names) -> TrainingStatus:
    progress, result = work.facts.progress, work.facts.training
    update: dict[str, Any] = {"dataset_job": made.dataset_job, "job": made.training_job, "refused": None}
    if progress is not None:
        update |= {"percent": min(progress.percent, 100), "eta_seconds": progress.eta_seconds, "loss": progress.loss,
                   "ray_job": progress.ray_job_id, "restarts": progress.restarts}
    if result is not None:
        update |= {"percent": 100, "eta_seconds": None, "loss": result.loss, "ray_job": result.ray_job_id,
                   "restarts": result.restarts, "evaluation_job": made.evaluation_job}
    return work.me.status.training.model_copy(update=update)


def _evaluated(work: Work, made: Names) -> bool:
    me, facts = work.me, work.facts
    result, training = facts.evaluation, facts.training
    assert training is not None
    if result is None:
        if not _failed(work, "Evaluated", made.evaluation_job, "Evaluating"):
            work.evaluate(made.evaluation_job, me.status.base or "", made.dataset, made.artifact, made.evaluation)
            work.state(conditions.unknown("Evaluated", "JobRunning", f"job {made.evaluation_job}"), "Evaluating")
        return False
    verdict = evaluation_of(result)
    work.changes["score"] = score(verdict)
    pin = me.status.training
    revision = Revision(
        name=training.artifact_digest.removeprefix("sha256:")[:12], artifact=training.artifact_digest,
        path=made.artifact, base=me.status.base or "", key=made.attempt,
        folders=[made.dataset, made.evaluation.rpartition("/")[0]],
        trigger=pin.trigger, cluster_version=pin.cluster_version, discovery_run=pin.discovery_run,
        task_calls=pin.task_calls, dataset=training.dataset_digest,
        training_job=made.training_job, ray_job=training.ray_job_id, training_seconds=training.seconds,
        kept_share=training.extraction.kept_share if training.extraction else None,
        evaluation=verdict)
    if result.verdict == "refused":
        why = why_refused(result) or score(verdict)
        work.changes["training"] = _training_status(work, made).model_copy(update={"refused": verdict})
        work.end(revision, "Refused", why)
        state_refused(work, why)
        return False
    work.parts.append(_evaluated_part(revision))
    return become_candidate(work, revision)


# --- parts of the status -----------------------------------------------------------------------------------------

def _failed(work: Work, type: str, name: str, stage: str) -> bool:
    """States the failure of a job, if it failed."""
    fact = work.facts.jobs.get(name)
    if fact is None or fact.state != "Failed":
        return False
    failure = fact.failure or JobFailure(reason="JobFailed", message=f"job {name} failed; see its pod's log")
    message = f"{failure.message}. To try the same again: kubectl delete job {name}"
    work.state(conditions.false(type, failure.reason, message), f"{stage} failed", stop=True)
    return True


def _dataset_part(revision: Revision) -> Condition:
    return conditions.true("DatasetReady", "DatasetStored", revision.dataset or "")


def _trained_part(revision: Revision) -> Condition:
    return _stored(revision.artifact, revision.kept_share)


def _stored(digest: str, kept_share: float | None) -> Condition:
    """`kept_share`: of an adapter extracted from what was trained."""
    if kept_share is None:
        return conditions.true("Trained", "AdapterStored", digest)
    low = "; little: a higher spec.training.rank keeps more" if kept_share < LOW_SHARE else ""
    return conditions.true("Trained", "AdapterStored",
                           f"{digest}, which keeps {kept_share:.1%} of what was trained{low}")


def _evaluated_part(revision: Revision) -> Condition:
    told = score(revision.evaluation) if revision.evaluation else ""
    return conditions.true("Evaluated", "GatePassed", told)


def _base_part(work: Work, name: str) -> Condition:
    return conditions.true("BaseSelected", "Selected", f"{name}: {work.me.status.base_reason or ''}")
