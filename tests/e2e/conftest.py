"""One line through the whole system on a real node: the demo's own steps, smaller, shared by all tests of a session.

The tests of `test_line.py` run in the order in which they stand; each leaves the cluster where the next begins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo import installing, prepare, traffic
from demo.cluster import reach
from demo.run import LOOP, PREPARE
from demo.steps import Options, Run, Step, take

SIZE = traffic.Size({"snips": 1500, "banking": 2000, "other": 250}, {"snips": 300, "banking": 300, "other": 60}, 3)

# The demo trains its base beside these steps; here it is there first, so that a small machine does one thing at a time.
PREPARED: tuple[Step, ...] = (*PREPARE, ("wait for the tiny base", prepare.finish_base))
LOOP_WITH_BASES: tuple[Step, ...] = (*LOOP, ("offer the bases", installing.apply_bases))


def options(name: str, namespace: str, work: Path) -> Options:
    """Smaller than the demo, and with floors that so little data can reach."""
    traffic.SIZES["e2e"] = SIZE
    return Options(name=name, namespace=namespace, size="e2e", work=work, pretrain_steps=400, idle_seconds=20,
                        audit=True,
                        rollout_rate=25.0, latency_scale=0.2, concurrency=32, steps={"voice": 200, "banking": 200},
                        floors={"voice": 0.75, "banking": 0.15})


def work_folder() -> Path:
    """On a disk: the store and the results of a run."""
    root = Path(os.environ.get("SLMFLEET_E2E_WORK") or tempfile.mkdtemp(prefix="slmfleet-e2e-", dir="/var/tmp"))
    root.mkdir(parents=True, exist_ok=True)
    return root


@pytest.fixture(scope="session")
def line() -> Iterator[Run]:
    """A cluster with the operator, a Router and its gateway; no call was sent yet."""
    work = work_folder()
    run = Run(options("e2e", "slmfleet-e2e", work / "run"))
    with contextlib.ExitStack() as stack:
        if not os.environ.get("SLMFLEET_E2E_WORK"):
            stack.callback(shutil.rmtree, work, ignore_errors=True)
        take(run, PREPARED)
        take(run, (("start the cluster", lambda r: stack.enter_context(installing.some_cluster(r))),))
        take(run, LOOP_WITH_BASES)
        run.gateway = stack.enter_context(reach(run.cluster, installing.gateway_service(run), direct=run.own_cluster))
        yield run
