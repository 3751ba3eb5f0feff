"""One loop an object: single flight, woken by events, and at the latest after a resync. No finalizers, no annotations.

kopf's own handlers are edge-triggered and stack; a loop of ours cannot overlap with itself. An object's loop ends when
the object is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from slmfleet.kube.client import ApiError, Conflict, NotFound

Reconcile = Callable[[str], Awaitable[float | None]]
SETTLE_SECONDS = 0.05
log = logging.getLogger("slmfleet.loops")


class Gone(Exception):
    """The object of the loop does not exist any more."""


class Loops:
    """All loops of the operator, by (kind, name)."""

    def __init__(self, reconciles: Mapping[str, Reconcile], resync_seconds: float) -> None:
        self._reconciles = reconciles
        self._resync = resync_seconds
        self._bells: dict[tuple[str, str], asyncio.Event] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    def ring(self, kind: str, name: str) -> None:
        """Wake the object's loop, or start it."""
        key = (kind, name)
        if key not in self._tasks or self._tasks[key].done():
            self._bells[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._run(kind, name, self._bells[key]), name=f"{kind}/{name}")
        self._bells[key].set()

    def ring_known(self, kind: str) -> None:
        """Wake every loop of a kind."""
        for known, name in list(self._tasks):
            if known == kind:
                self.ring(known, name)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, kind: str, name: str, bell: asyncio.Event) -> None:
        pause = 1.0
        while True:
            bell.clear()
            try:
                wait = await self._reconciles[kind](name)
                pause = 1.0
            except Gone:
                return
            except Conflict:
                wait = 0.2
            except NotFound as error:
                log.info("%s/%s: %s", kind, name, error)
                wait = 1.0
            except ApiError as error:
                log.warning("%s/%s: %s; trying again in %.0f s", kind, name, error, pause)
                wait, pause = pause, min(pause * 2, 30.0)
            except Exception:
                log.exception("%s/%s: reconcile failed; trying again in %.0f s", kind, name, pause)
                wait, pause = pause, min(pause * 2, 30.0)
            try:
                await asyncio.wait_for(bell.wait(), self._resync if wait is None else wait)
            except TimeoutError:
                pass
            await asyncio.sleep(SETTLE_SECONDS)
