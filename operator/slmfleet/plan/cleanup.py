"""What may go from the store: adapters, datasets, checkpoints and evaluations that no Specialist needs any more.

Mark and sweep. A folder that is not needed is noted in the Router's status with the time it was first seen so; it goes
once it has been so for `store.artifactRetentionDays` without a break. The note is the report of what will go, and when.

Only folders named as the operator names them (NAME-10 hex digits) are looked at. Not covered: a store that another
cluster reads as well. Its Specialists are not seen from here: set no retention on a store that is shared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.router import CleanupStatus, Unneeded
from slmfleet.plan.attempt import names
from slmfleet.plan.config import Config
from slmfleet.plan.facts import JobFact, RouterFacts, RouterObject, SpecialistObject
from slmfleet.plan.jobs import clean_job
from slmfleet.plan.names import object_name, short
from slmfleet.plan.pods import Object, store_prefix
from slmfleet.plan.trial import trial_names
from slmfleet.wire.jobs import FOLDER

LOOK_SECONDS = 3600
RETRY_SECONDS = 300
AT_ONCE = 50
NOTED = 500


@dataclass(frozen=True)
class Cleaning:
    """What this look at the store comes to."""

    status: CleanupStatus | None
    note: Condition | None = None
    objects: tuple[Object, ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[str, str], ...] = ()


def wants_look(me: RouterObject, now: datetime) -> bool:
    """Whether the store's folders should be listed now."""
    status = me.status.cleanup
    if me.spec.store.artifact_retention_days is None or (status is not None and status.job is not None):
        return False
    return status is None or status.time is None or (now - status.time).total_seconds() >= LOOK_SECONDS


def needed(specialists: Iterable[SpecialistObject]) -> set[str]:
    """Folders that a stable or candidate revision, the revision in the making, or `spec.artifact` refers to."""
    found: set[str] = set()
    for each in specialists:
        for revision in (each.status.stable, each.status.candidate):
            if revision is not None:
                found |= {revision.path, *revision.folders}
        made = names(each)
        if made is not None:
            found |= set(made.folders())
        for tried in trial_names(each):
            found |= {tried.artifact, tried.scratch, tried.evaluation.rpartition("/")[0]}
        if each.spec.artifact is not None:
            found.add(each.spec.artifact.partition("@")[0].removeprefix("file:///").strip("/"))
    return found


def noted(before: CleanupStatus, folders: Collection[str], need: Collection[str], now: datetime) -> list[Unneeded]:
    """The folders that nobody needs, each since when; those unneeded for longest where they are too many to note."""
    since = {each.path: each.since for each in before.unneeded}
    found = [Unneeded(path=path, since=since.get(path, now)) for path in sorted(set(folders) - set(need))
             if FOLDER.fullmatch(path)]
    return sorted(sorted(found, key=lambda each: each.since)[:NOTED], key=lambda each: each.path)


def due(unneeded: Iterable[Unneeded], keep_days: int, now: datetime) -> list[Unneeded]:
    """Those whose time has come, at most `AT_ONCE`."""
    return [each for each in unneeded if now - each.since >= timedelta(days=keep_days)][:AT_ONCE]


def clean(config: Config, me: RouterObject, facts: RouterFacts) -> Cleaning:
    """The next step: look, fix in status what goes, make the job, and forget what it removed."""
    keep = me.spec.store.artifact_retention_days
    if keep is None:
        job = me.status.cleanup.job if me.status.cleanup else None
        return Cleaning(None, delete=(("Job", job),) if job else ())
    status, need = me.status.cleanup or CleanupStatus(), needed(facts.specialists.values())
    if status.job is not None:
        return _under_way(config, me, status, facts.jobs.get(status.job), need, facts.now)
    if facts.folders is None:
        return Cleaning(status, _standing(status, keep))
    unneeded = noted(status, facts.folders, need, facts.now)
    going = due(unneeded, keep, facts.now)
    status = status.model_copy(update={"time": facts.now, "unneeded": unneeded})
    if going:
        mark = short([[each.path, each.since.isoformat()] for each in going])
        status = status.model_copy(update={"job": object_name("clean", me.meta.name, mark),
                                           "removing": [each.path for each in going]})
    return Cleaning(status, _standing(status, keep))


def _under_way(config: Config, me: RouterObject, status: CleanupStatus, fact: JobFact | None, need: Collection[str],
               now: datetime) -> Cleaning:
    assert status.job is not None
    keep = me.spec.store.artifact_retention_days or 0
    going = list(status.removing)
    waits = fact is None or fact.state == "Running"
    if waits and set(going) & set(need):  # the spec went back to what it was; a job may wait for a node for hours
        again = status.model_copy(update={"job": None, "removing": [], "time": None})
        return Cleaning(again, _standing(again, keep), delete=(("Job", status.job),))
    if fact is not None and fact.state == "Succeeded":
        left = [each for each in status.unneeded if each.path not in going]
        done = status.model_copy(update={"job": None, "removing": [], "unneeded": left, "time": None,
                                         "removed": status.removed + len(going)})
        return Cleaning(done, _standing(done, keep), delete=(("Job", status.job),),
                        events=(("FoldersRemoved", f"unneeded for {keep} days: {', '.join(going)}"),))
    if fact is not None and fact.state == "Failed":
        why = fact.failure.message if fact.failure else f"job {status.job} failed; see its pod's log"
        retry = (now - (fact.ended or now)).total_seconds() >= RETRY_SECONDS
        return Cleaning(status, conditions.false("StoreCleaned", "JobFailed", why),
                        delete=(("Job", status.job),) if retry else ())
    made = clean_job(config, status.job, (me.meta.name, me.meta.uid), going, store_prefix(me.spec.store.url))
    return Cleaning(status, _standing(status, keep), objects=(made,))


def _standing(status: CleanupStatus, keep_days: int) -> Condition:
    if status.job is not None:
        return conditions.unknown("StoreCleaned", "JobRunning", f"{len(status.removing)} folders go")
    told = f"{status.removed:,} folders removed so far"
    if not status.unneeded:
        return conditions.true("StoreCleaned", "NothingToRemove", told)
    first = min(each.since for each in status.unneeded) + timedelta(days=keep_days)
    return conditions.true("StoreCleaned", "Waiting",
                           f"{told}; {len(status.unneeded)} are unneeded, the first goes at {first:%Y-%m-%d %H:%M} UTC")
