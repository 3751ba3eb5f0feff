"""Ends a worker that hangs: one that has not answered its supervisor for a while is killed, and then replaced.

A process whose event loop stands still (a loop without an end, a lock, a stop) keeps its port, so the kernel goes on
giving it connections that nobody serves. Its calls in flight are lost with it, which they were already. Before the end
it is asked to write where it stands, by name of function and line, to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
from collections.abc import Callable
from typing import Protocol

from slmfleet.gateway.log import log

SILENT_SECONDS = 30.0
STARTING_SECONDS = 120.0
TOLD_SECONDS = 0.5
_DUMP = signal.SIGUSR1


def tell_where_it_stands() -> None:
    """In the worker: on the supervisor's signal write the stacks of all threads to standard error, and go on."""
    faulthandler.register(_DUMP, all_threads=True)


class Watched(Protocol):
    """A worker: its process, whether it ever answered, and whether it answers now."""

    process: asyncio.subprocess.Process
    has_answered: bool

    async def answers(self) -> bool: ...


async def end_when_silent(worker: Watched, silent_seconds: float, clock: Callable[[], float]) -> None:
    """Ask again and again; kill the worker once it was silent for so long. Before its first answer it starts, and has
    STARTING_SECONDS at least."""
    heard = clock()
    while True:
        if await worker.answers():  # asked first: after a stop of the whole machine nobody is to blame
            heard = clock()
        elif clock() - heard > (silent_seconds if worker.has_answered else max(silent_seconds, STARTING_SECONDS)):
            break
        await asyncio.sleep(silent_seconds / 5)
    log("error", "WorkerHung", pid=worker.process.pid, silent_seconds=round(clock() - heard, 1))
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(_DUMP)
        await asyncio.sleep(TOLD_SECONDS)
        worker.process.kill()
