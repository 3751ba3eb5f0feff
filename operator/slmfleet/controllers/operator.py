"""The operator process: the lease, the cache, the watches, the board and the loops.

kopf keeps the watches; its handlers only put what they saw into the cache and ring the loops concerned.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from pathlib import Path
from typing import Any

import kopf
import yaml
from kopf._core.engines.peering import Identity

from slmfleet.controllers import basemodel, parse, router, specialist, taskcluster
from slmfleet.controllers.apply import Performer
from slmfleet.controllers.cache import CHILDREN, OWN, Cache
from slmfleet.controllers.context import Context
from slmfleet.controllers.loops import Loops
from slmfleet.controllers.signals import Board
from slmfleet.controllers.storefiles import StoreFiles
from slmfleet.kube.client import BASE, POD, ROUTER, SECRET, SPECIALIST, ApiError, Conflict, Kube, load_client
from slmfleet.kube.lease import Lease
from slmfleet.plan.config import Config
from slmfleet.plan.names import MANAGED, OWNER_LABEL, owner
from slmfleet.plan.pool import KEYS

CATALOGUE = Path("/etc/slmfleet/catalogue.yaml")
log = logging.getLogger("slmfleet.operator")


class Operator:
    """Everything of one operator process."""

    def __init__(self, config: Config, kube: Kube) -> None:
        self._kube = kube
        self.cache = Cache()
        self._board = Board(self._gateways, self._counted)
        self._config = config
        self.loops: Loops | None = None

    async def start(self) -> list[asyncio.Task[None]]:
        """Fill the cache, start the board and a loop for every object."""
        key = await control_key(self._kube)
        served = self._config.kube_ray == "auto" and await self._kube.served("ray.io/v1", "rayjobs")
        await apply_catalogue(self._kube)
        await self.cache.fill(self._kube)
        loops = Loops({"Router": self._router, "Specialist": self._specialist, "TaskCluster": self._cluster,
                       "BaseModel": self._base}, self._config.resync_seconds)
        self._context = Context(
            config=self._config, kube=self._kube, cache=self.cache, board=self._board,
            performer=Performer(self._kube), store=StoreFiles(Path(self._config.store_mount)), control_key=key,
            ray_jobs_served=served, ring=loops.ring)
        self.loops = loops
        for kind in OWN:
            for found in self.cache.all(kind):
                loops.ring(kind.kind, found["metadata"]["name"])
        log.info("operator is up: namespace %s, training as %s", self._config.namespace,
                 "RayJob" if served else "Job with Ray in its pod")
        return [asyncio.create_task(self._board.run(self._config.signals_seconds))]

    async def _router(self, name: str) -> float | None:
        return await router.reconcile(self._context, name)

    async def _specialist(self, name: str) -> float | None:
        return await specialist.reconcile(self._context, name)

    async def _cluster(self, name: str) -> float | None:
        return await taskcluster.reconcile(self._context, name)

    async def _base(self, name: str) -> float | None:
        return await basemodel.reconcile(self._context, name)

    def saw(self, type: str | None, body: dict[str, Any]) -> None:
        """One event of a watch."""
        if type == "DELETED":
            self.cache.drop(body)
        else:
            self.cache.put(body)
        if self.loops is None:
            return
        kind, name = body["kind"], body["metadata"]["name"]
        if type == "DELETED":
            self._context.forget(kind, name)
        if kind in {own.kind for own in OWN}:
            self.loops.ring(kind, name)
            self._ring_neighbours(kind, body)
            return
        self._ring_owner(body)

    def _ring_owner(self, body: dict[str, Any]) -> None:
        mark = body["metadata"].get("labels", {}).get(OWNER_LABEL)
        for kind in OWN:
            for found in self.cache.all(kind):
                if owner(kind.kind, found["metadata"]["name"]) == mark and self.loops is not None:
                    self.loops.ring(kind.kind, found["metadata"]["name"])

    def _ring_neighbours(self, kind: str, body: dict[str, Any]) -> None:
        """Who plans from this object."""
        assert self.loops is not None
        if kind == "Specialist":
            self.loops.ring_known("Router")
            self.loops.ring_known("BaseModel")
        if kind in ("TaskCluster", "BaseModel"):
            self.loops.ring_known("Specialist")
            self.loops.ring_known("Router")
        if kind in ("Router", "BaseModel"):
            self.loops.ring_known("TaskCluster")

    def _gateways(self) -> dict[str, str]:
        """Addresses of the ready gateways by "router/pod"."""
        found = {}
        for pod in self.cache.all(POD):
            name = pod["metadata"].get("labels", {}).get("slmfleet.dev/gateway")
            address = (pod.get("status") or {}).get("podIP")
            if name and address and (pod.get("status") or {}).get("phase") == "Running":
                found[f"{name}/{pod['metadata']['name']}"] = address
        return found

    def _counted(self, name: str) -> None:
        """A gateway's counters moved: its Specialists' trials and pools may have news."""
        if self.loops is None or self.cache.get(ROUTER, name) is None:
            return
        for found in router.specialists_of(self._context, name):
            raw = self.cache.get(SPECIALIST, found)
            if raw is not None and parse.specialist(raw).status.candidate is not None:
                self.loops.ring("Specialist", found)
        for base in self.cache.all(BASE):
            if (base.get("status") or {}).get("chosen"):
                self.loops.ring("BaseModel", base["metadata"]["name"])


def _catalogue() -> list[dict[str, Any]]:
    if not CATALOGUE.is_file():
        return []
    return [found for found in yaml.safe_load_all(CATALOGUE.read_text(encoding="utf-8")) if found]


async def apply_catalogue(kube: Kube) -> None:
    """The chart's BaseModels, where it has any. What a person changed in one stays as it is."""
    for found in _catalogue():
        try:
            await kube.apply(found, manager="slmfleet-catalogue", force=False)
        except Conflict as error:
            log.info("catalogue: BaseModel %s was changed here and stays: %s", found["metadata"]["name"], error)
        except ApiError as error:
            if not 400 <= error.status < 500:
                raise
            # One that cannot become what the release has of it, its source say, must not end the operator of all.
            log.warning("catalogue: BaseModel %s was refused and stays: %s", found["metadata"]["name"], error)


async def control_key(kube: Kube) -> str:
    """The namespace's own keys, made once: `control` guards adapter loads, `origin` hashes callers."""
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    found = await kube.find(SECRET, KEYS)
    if found is None:
        fresh = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "labels": MANAGED}, "type": "Opaque",
                 "data": {"control": encoded(secrets.token_hex(32)), "origin": encoded(secrets.token_hex(32))}}
        try:
            found = await kube.create(fresh)
        except Conflict:
            found = await kube.get(SECRET, KEYS)
    return base64.b64decode(found["data"]["control"]).decode()


def run(config: Config, identity: str, liveness: str | None) -> None:
    """Run until the process is told to stop or the lease is lost."""
    asyncio.run(_run(config, identity, liveness))


async def _run(config: Config, identity: str, liveness: str | None) -> None:
    kube = Kube(load_client(), config.namespace)
    lease, operator, stop = Lease(kube, identity), Operator(config, kube), asyncio.Event()
    registry = kopf.OperatorRegistry()
    held: list[asyncio.Task[None]] = []

    @kopf.on.login(registry=registry)  # type: ignore[misc]
    def login(**given: Any) -> Any:
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=registry)  # type: ignore[misc]
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)
        log.info("waiting for the lease")
        await lease.acquire()
        held.append(asyncio.create_task(_keep(lease, stop)))
        held.extend(await operator.start())

    @kopf.on.cleanup(registry=registry)  # type: ignore[misc]
    async def cleanup(**_: Any) -> None:
        if operator.loops is not None:
            await operator.loops.stop()
        for task in held:
            task.cancel()
        await lease.release()

    async def saw(event: Any, **_: Any) -> None:  # a plain function would run in a thread
        operator.saw(event["type"], dict(event["object"]))

    for kind in OWN:
        kopf.on.event("slmfleet.dev", "v1alpha1", kind.plural, registry=registry)(saw)  # type: ignore[arg-type]
    for kind in CHILDREN:
        group, _, version = kind.api_version.rpartition("/")
        kopf.on.event(group, version, kind.plural, labels=MANAGED, registry=registry)(saw)  # type: ignore[arg-type]
    # An identity of our own: kopf would ask for the user's name, and a container's user has none.
    await kopf.operator(registry=registry, namespaces=[config.namespace], standalone=True, stop_flag=stop,
                        identity=Identity(identity), liveness_endpoint=liveness)


async def _keep(lease: Lease, stop: asyncio.Event) -> None:
    try:
        await lease.keep()
        log.error("the lease was lost to another operator; ending")
    finally:  # an operator that renews no more must not go on, whatever the reason
        stop.set()


def _configure(settings: kopf.OperatorSettings) -> None:
    """Watches that cannot die silently, and nothing written into users' objects."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 50
    settings.watching.client_timeout = 60
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 10
    settings.batching.worker_limit = 8
