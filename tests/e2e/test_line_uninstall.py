"""The end of the line: an uninstall, and an install that goes on where it was."""

from __future__ import annotations

import look
import pytest
from demo import installing
from demo.cluster import until
from demo.steps import Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_an_uninstall_leaves_only_what_the_notes_name_and_an_install_goes_on(line: Run) -> None:
    line.cluster.helm("uninstall", "slmfleet", "--wait", "--timeout", "3m")
    ours = "app.kubernetes.io/name=slmfleet"
    until("no workload", 300, lambda: not line.cluster.list("deployments,jobs,services", ours))
    left = line.cluster.list("pods", ours)
    assert [p["metadata"]["name"] for p in left if not p["metadata"].get("deletionTimestamp")] == []
    assert line.cluster.get("pvc", "slmfleet-store") is not None
    assert line.cluster.get("secret", "slmfleet-keys") is not None
    assert len(line.cluster.list("specialists")) == 2
    installing.install(line)
    line.cluster.wait("router/fleet", "Ready", 420)
    line.cluster.wait("specialist/voice", "Ready", 300)
    assert look.status(line, "specialist", "voice")["stage"] == "Promoted"
