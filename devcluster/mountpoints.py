"""Two folders of the host that each cluster mounts its own over: kubelet and CNI have these paths built in.

They are made when missing, with a marker inside, and removed by the last cluster on the machine. Removing them earlier
would take the mount away from another cluster, so all of this happens under one lock, whatever the state folders are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from devcluster import procfs
from devcluster.state import locked

# The first process of every cluster's namespaces has this word on its command line, then the cluster's folder.
MARK = "slmfleet-devcluster"
POINTS = (Path("/var/lib/kubelet"), Path("/var/lib/cni"))
_MARKER = ".made-by-slmfleet-devcluster"
_LOCK = Path("/var/lib")


@contextlib.contextmanager
def made() -> Iterator[None]:
    """Hold the folders in place while a first process starts that mounts over them."""
    with locked(_LOCK):
        for point in POINTS:
            if not point.exists():
                point.mkdir(parents=True)
                (point / _MARKER).touch()
        yield


def remove() -> None:
    """Remove what we made, unless a cluster still runs anywhere on the machine."""
    with locked(_LOCK):
        if any(MARK in procfs.argv(pid) for pid in procfs.all_pids()):
            return
        for point in POINTS:
            if (point / _MARKER).exists():
                (point / _MARKER).unlink()
                with contextlib.suppress(OSError):  # somebody has put something there
                    point.rmdir()
