"""Ten kills of the operator's pod at seeded moments change nothing but the time it takes."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

import pytest
import state
from conftest import PREPARED, options
from demo import installing, loop
from demo.cluster import Failed, reach, until
from demo.run import CALLS, LOOP
from demo.steps import Run, take

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(5400)]
KILLS = 10


class Killer:
    """Kills the operator's pod until it has done so `KILLS` times: at moments that a seed draws."""

    def __init__(self, run: Run, seed: int) -> None:
        self._run, self._draw = run, random.Random(seed)
        self._stop = threading.Event()
        self.kills = 0
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _work(self) -> None:
        while self.kills < KILLS and not self._stop.wait(self._draw.uniform(8, 35)):
            with contextlib.suppress(Failed):
                self._run.cluster.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=operator",
                                          "--grace-period=0", "--force")
                self.kills += 1


def whole(work: Path, name: str, seed: int | None) -> tuple[dict[str, object], list[str], int]:
    """The line from traffic to both specialists at rest, with kills where a seed is given."""
    run = Run(options(name, "slmfleet-kills", work / name))
    with contextlib.ExitStack() as stack:
        take(run, PREPARED)
        take(run, (("start the cluster", lambda r: stack.enter_context(installing.some_cluster(r))),))
        take(run, LOOP)
        run.gateway = stack.enter_context(reach(run.cluster, installing.gateway_service(run), direct=run.own_cluster))
        killer = stack.enter_context(Killer(run, seed)) if seed is not None else None
        take(run, CALLS[:5])
        if killer is not None:
            until("ten kills", 600, lambda: killer.kills >= KILLS)
        loop.idle(run)
        run.cluster.wait("router/fleet", "Ready", 120)
        run.cluster.wait("specialist/voice", "Ready", 120)
        return state.final_state(run), state.doubles(run), killer.kills if killer else 0


def test_ten_kills_of_the_operator_change_nothing_but_the_time(tmp_path: Path) -> None:
    undisturbed, _, _ = whole(tmp_path, "kills-none", None)
    disturbed, doubles, kills = whole(tmp_path, "kills-ten", seed=20261121)
    assert kills == KILLS
    assert doubles == []
    assert disturbed == undisturbed
    assert state.digest(disturbed) == state.digest(undisturbed)
