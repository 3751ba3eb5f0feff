"""What all loops share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from slmfleet.controllers import parse
from slmfleet.controllers.apply import Performer
from slmfleet.controllers.cache import Cache
from slmfleet.controllers.loops import Gone
from slmfleet.controllers.signals import Board
from slmfleet.controllers.storefiles import StoreFiles
from slmfleet.kube.client import BASE, CLUSTER, JOB, POD, ROUTER, SPECIALIST, Kind, Kube, Object
from slmfleet.plan.config import Config
from slmfleet.plan.facts import BaseObject, ClusterObject, JobFact, RouterObject, SpecialistObject


@dataclass
class Context:
    """The operator's parts."""

    config: Config
    kube: Kube
    cache: Cache
    board: Board
    performer: Performer
    store: StoreFiles
    control_key: str
    ray_jobs_served: bool
    ring: Callable[[str, str], None]

    def now(self) -> datetime:
        return datetime.now(UTC)

    def must(self, kind: Kind, name: str) -> Object:
        """The object of a loop; Gone ends the loop."""
        found = self.cache.get(kind, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise Gone(name)
        return found

    def router(self, name: str) -> RouterObject | None:
        found = self.cache.get(ROUTER, name)
        return parse.router(found) if found else None

    def cluster(self, name: str) -> ClusterObject | None:
        found = self.cache.get(CLUSTER, name)
        return parse.cluster(found) if found else None

    def clusters(self) -> dict[str, ClusterObject]:
        return {o["metadata"]["name"]: parse.cluster(o) for o in self.cache.all(CLUSTER)}

    def bases(self) -> dict[str, BaseObject]:
        return {o["metadata"]["name"]: parse.base(o) for o in self.cache.all(BASE)}

    def specialists(self) -> dict[str, SpecialistObject]:
        return {o["metadata"]["name"]: parse.specialist(o) for o in self.cache.all(SPECIALIST)
                if not o["metadata"].get("deletionTimestamp")}

    def jobs(self, *names: str | None) -> dict[str, JobFact]:
        """Those of the named jobs that exist."""
        found = {}
        for name in names:
            job = self.cache.get(JOB, name) if name else None
            if job is not None and name is not None:
                pods = list(self.cache.all(POD, {"job-name": name}))
                found[name] = parse.job_fact(job, pods)  # type: ignore[arg-type]
        return found
