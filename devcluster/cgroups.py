"""The cluster's cgroup, under which kubelet puts every pod. Works with the v1 hierarchies and with v2."""

from __future__ import annotations

import os
import time
from pathlib import Path

from devcluster.cluster import Cluster
from devcluster.problem import Problem

_ROOT = Path("/sys/fs/cgroup")


def hierarchies(root: Path = _ROOT) -> list[Path]:
    """The mounted v1 hierarchies, or the one of v2."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]


def create(cluster: Cluster) -> None:
    for hierarchy in hierarchies():
        (hierarchy / cluster.cgroup).mkdir(exist_ok=True)
        _delegate(hierarchy)


def remove(cluster: Cluster) -> None:
    """Remove the group and all below it. Just after a kill the kernel may call a group busy for a moment."""
    for hierarchy in hierarchies():
        top = hierarchy / cluster.cgroup
        end = time.monotonic() + 15
        while top.exists():
            for directory, _, _ in os.walk(top, topdown=False):
                _try_rmdir(directory)
            if top.exists() and time.monotonic() > end:
                raise Problem(f"cgroup {top} is still in use: see {top}/cgroup.procs")
            time.sleep(0.01)


def _delegate(hierarchy: Path) -> None:
    """In v2 a group has the controllers that its parent hands down."""
    available = hierarchy / "cgroup.controllers"
    if not available.exists():
        return
    for controller in available.read_text().split():
        try:
            (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue


def _try_rmdir(directory: str) -> None:
    try:
        Path(directory).rmdir()
    except OSError:
        pass
