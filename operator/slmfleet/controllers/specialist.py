"""The loop of a Specialist."""

from __future__ import annotations

from slmfleet.controllers import parse
from slmfleet.controllers.context import Context
from slmfleet.kube.client import RAYJOB, SPECIALIST
from slmfleet.plan import specialist as plan
from slmfleet.plan.attempt import names
from slmfleet.plan.facts import JobFact, SpecialistFacts, SpecialistObject, TrialFact
from slmfleet.plan.pods import store_prefix
from slmfleet.plan.trial import trial_names
from slmfleet.wire.jobs import CurationResult, EvaluationResult, TrainingProgress, TrainingResult


async def reconcile(context: Context, name: str) -> float | None:
    """Observe, plan, apply."""
    raw = context.must(SPECIALIST, name)
    me = parse.specialist(raw)
    made = plan.plan_specialist(context.config, me, await observe(context, me))
    if await context.performer.perform(raw, made):
        for router in {me.status.router, made.status.get("router")} - {None}:
            context.ring("Router", str(router))
        for base in {me.status.base, made.status.get("base")} - {None}:
            context.ring("BaseModel", str(base))
    return made.resync_seconds


async def observe(context: Context, me: SpecialistObject) -> SpecialistFacts:
    cluster = context.cluster(me.spec.task_cluster)
    router = context.router(cluster.spec.router) if cluster else None
    prefix = store_prefix(router.spec.store.url) if router else ""
    made, trials = names(me), trial_names(me)

    def result(path: str, kind: type) -> object | None:
        return context.store.read(prefix, path, kind) if made and router else None

    jobs: dict[str, JobFact] = {}
    if made is not None:
        jobs = context.jobs(made.dataset_job, made.training_job, made.evaluation_job,
                            *(job for each in trials for job in (each.training_job, each.evaluation_job)))
        for tried in (*(each.training_job for each in trials), made.training_job) if context.ray_jobs_served else ():
            jobs |= await _ray_job(context, tried)
    return SpecialistFacts(
        cluster=cluster, router=router, bases=context.bases(), jobs=jobs,
        curation=result(f"{made.dataset}/report.json", CurationResult) if made else None,  # type: ignore[arg-type]
        progress=result(f"{made.scratch}/progress.json", TrainingProgress) if made else None,  # type: ignore[arg-type]
        training=result(f"{made.artifact}/result.json", TrainingResult) if made else None,  # type: ignore[arg-type]
        evaluation=result(made.evaluation, EvaluationResult) if made else None,  # type: ignore[arg-type]
        signals=context.board.of(router.meta.name) if router else (),
        ray_jobs_served=context.ray_jobs_served, now=context.now(),
        clusters=context.clusters(),
        trials={each.base: TrialFact(
            result(f"{each.artifact}/result.json", TrainingResult),  # type: ignore[arg-type]
            result(each.evaluation, EvaluationResult)) for each in trials})  # type: ignore[arg-type]


async def _ray_job(context: Context, name: str) -> dict[str, JobFact]:
    found = await context.kube.find(RAYJOB, name)
    return {name: parse.job_fact(found, [])} if found else {}
