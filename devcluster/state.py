"""Which clusters exist: one directory each, found and made under a lock so that no two take the same slot."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from devcluster.cluster import Cluster, check_name, free_slot
from devcluster.problem import Problem

_RECORD = "cluster.json"
# The kernel takes 107 bytes, and containerd adds ".ttrpc" to the name.
_LONGEST_SOCKET = 100


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock; it is let go when the holder dies, however it dies."""
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if directory.exists() and os.fstat(handle).st_ino == directory.stat().st_ino:
            break
        os.close(handle)  # it was removed while we waited: a `down` came first
    try:
        yield
    finally:
        os.close(handle)


def clusters(root: Path) -> list[Cluster]:
    found = (_read(root, path.name) for path in sorted(root.iterdir())) if root.is_dir() else ()
    return [cluster for cluster in found if cluster]


def find(root: Path, name: str) -> Cluster:
    cluster = _read(root, check_name(name))
    if cluster:
        return cluster
    known = ", ".join(each.name for each in clusters(root)) or "none"
    start = f"`python3 -m devcluster up --name {name}` starts it"
    raise Problem(f"there is no cluster {name!r} in {root} (there are: {known}); {start}")


def find_or_create(root: Path, name: str) -> Cluster:
    check_name(name)
    with locked(root):
        existing = _read(root, name)
        if existing:
            return existing
        taken = {each.name: each.slot for each in clusters(root)}
        cluster = Cluster(name, free_slot(taken, [path.name for path in Path("/sys/class/net").iterdir()]), root)
        if len(str(cluster.socket)) > _LONGEST_SOCKET:
            raise Problem(f"{cluster.state} is too long a path for a socket: set SLMFLEET_STATE to a shorter one")
        cluster.state.mkdir(mode=0o711, exist_ok=True)
        write_atomically(cluster.state / _RECORD, json.dumps({"slot": cluster.slot}))
        return cluster


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.touch(mode)
    partial.write_text(text, encoding="utf-8")
    partial.rename(path)


def _read(root: Path, name: str) -> Cluster | None:
    try:
        record = json.loads((root / name / _RECORD).read_text(encoding="utf-8"))
        return Cluster(name, int(record["slot"]), root)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError):
        raise Problem(f"{root / name / _RECORD} is damaged: remove {root / name} by hand") from None
