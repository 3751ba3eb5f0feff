"""What all loops share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Trouble:
    """A move that failed, in the server's words. `silent`: there were none."""

    message: str
    silent: bool


@dataclass
class PoolMemory:
    """What the loop of one BaseModel remembers between its looks; lost with the process, and found out again.

    `looks`: by pod. `troubles`: by address and adapter.
    """

    looks: dict[str, int] = field(default_factory=dict)
    troubles: dict[tuple[str, str], Trouble] = field(default_factory=dict)

    def look(self, pod: str) -> int:
        """How often this pod was looked at before."""
        before = self.looks.get(pod, 0)
        self.looks[pod] = before + 1
        return before

    def trouble(self, address: str) -> Trouble | None:
        """What last went wrong on a server with an adapter that is still wanted there."""
        return next((trouble for (where, _), trouble in self.troubles.items() if where == address), None)

    def keep(self, *, pods: Collection[str] | None = None, moves: Collection[tuple[str, str]] | None = None) -> None:
        """Forget pods that are gone, and troubles of moves that are no longer wanted."""
        if pods is not None:
            self.looks = {pod: count for pod, count in self.looks.items() if pod in pods}
        if moves is not None:
            self.troubles = {key: trouble for key, trouble in self.troubles.items() if key in moves}


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
    pools: dict[str, PoolMemory] = field(default_factory=dict)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def must(self, kind: Kind, name: str) -> Object:
        """The object of a loop; Gone ends the loop."""
        found = self.cache.get(kind, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise Gone(name)
        return found

    def pool(self, base: str) -> PoolMemory:
        """Memory of this BaseModel's loop."""
        return self.pools.setdefault(base, PoolMemory())

    def forget(self, kind: str, name: str) -> None:
        """The object is gone."""
        self.performer.forget(kind, name)
        if kind == BASE.kind:
            self.pools.pop(name, None)

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
