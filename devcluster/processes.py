"""The cluster's own processes: the first of its namespaces, the daemons beside it, and how all of them end.

A process is known by its pid and its start time, so a pid that the kernel has given to somebody else is never
signalled. The first process of a PID namespace takes all others with it, containers and shims included: `down` needs
no list of them, and works however much of the cluster has died already.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import mountpoints, procfs
from devcluster.cluster import Cluster
from devcluster.problem import Problem, last_line, run
from devcluster.state import write_atomically

# Runs as process 1 of the new namespaces. /run and /var/log are fresh; the paths that kubelet and CNI do not let one
# configure are the cluster's own. Mounts made here never reach the host ("slave").
_INIT = """
set -e
mount --make-rslave /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/lock /run/netns
for path in kubelet cni; do mount --bind "$2/var-lib/$path" "/var/lib/$path"; done
mount --make-rshared /
exec "$3" "$1" "$2"
"""


def start_init(cluster: Cluster, pause: Path) -> int:
    """Make the namespaces and return the pid of their first process, as the host sees it."""
    existing = init_pid(cluster)
    if existing:
        return existing
    for point in mountpoints.POINTS:
        (cluster.state / "var-lib" / point.name).mkdir(parents=True, exist_ok=True)
    cluster.logs.mkdir(exist_ok=True)
    # Only the first child of the outer shell enters the new PID namespace; `$!` is its pid out here.
    outer = 'sh -c "$4" sh "$1" "$2" "$3" </dev/null >"$2/log/init.log" 2>&1 & echo $!'
    unshare = ["setsid", "unshare", "--mount", "--net", "--pid", "--propagation", "slave"]
    words = ["sh", "-c", outer, "sh", mountpoints.MARK, cluster.state, pause, _INIT]
    pid = int(run([*unshare, "--", *words], what="making namespaces"))
    _record(cluster, "init", pid)
    end = time.monotonic() + 10
    while procfs.argv(pid)[:1] != [str(pause)]:
        if not procfs.start_time(pid) or time.monotonic() > end:
            reason = (cluster.logs / "init.log").read_text(errors="replace").strip() or "no output"
            raise Problem(f"making namespaces: the first process ended: {reason}; root with CAP_SYS_ADMIN is needed")
        time.sleep(0.01)
    return pid


def start(cluster: Cluster, name: str, argv: Sequence[str | Path]) -> bool:
    """Start a daemon inside the namespaces unless it runs. Its output goes to the log of its name."""
    if alive(cluster, name):
        return False
    log = cluster.logs / f"{name}.log"
    # The shell ends at once, so the daemon becomes a child of the namespace's first process, which reaps it.
    script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
    words = [str(word) for word in argv]
    pid_inside = int(inside(cluster, ["setsid", "sh", "-c", script, "sh", log, *words], what=f"starting {name}"))
    pid = _pid_outside(cluster, pid_inside)
    if not pid:
        raise Problem(f"{name} ended at once: {last_line(log.read_text(errors='replace'))}; see {log}")
    _record(cluster, name, pid)
    return True


def inside(cluster: Cluster, argv: Sequence[str | Path], *, what: str, stdin: str | None = None) -> str:
    """Run a short command in the cluster's mounts and network."""
    return run([*_enter(cluster), "--", *argv], what=what, stdin=stdin)


def alive(cluster: Cluster, name: str) -> bool:
    record = _records(cluster).get(name)
    return bool(record) and procfs.start_time(record["pid"]) == record["start_time"]


def dead(cluster: Cluster) -> list[str]:
    """Names of the processes that were started and no longer run."""
    return sorted(name for name in _records(cluster) if not alive(cluster, name))


def init_pid(cluster: Cluster) -> int | None:
    """The first process of the namespaces, found by its command line, so a killed `up` hides nothing."""
    return next(iter(_marked(cluster)), None)


def kill_all(cluster: Cluster) -> None:
    """End everything that runs in the cluster's namespaces, and wait until it is gone."""
    end = time.monotonic() + 30
    while pids := _marked(cluster):
        for pid in pids:
            _kill(pid, cluster)
        if time.monotonic() > end:
            raise Problem(f"process {pids[0]} of cluster {cluster.name} does not end: see `cat /proc/{pids[0]}/stack`")
        time.sleep(0.02)


def _enter(cluster: Cluster) -> list[str]:
    pid = init_pid(cluster)
    if not pid:
        raise Problem(f"cluster {cluster.name} has stopped: `python3 -m devcluster up --name {cluster.name}`")
    return ["nsenter", f"--target={pid}", "--mount", "--net", "--pid"]


def _pid_outside(cluster: Cluster, pid_inside: int) -> int | None:
    """The host's pid of a process, given the one it has in the cluster's namespace."""
    namespace = procfs.pid_namespace(init_pid(cluster) or 0)
    for pid in procfs.all_pids():
        if procfs.pid_namespace(pid) == namespace and procfs.status(pid, "NSpid")[-1:] == [str(pid_inside)]:
            return pid
    return None


def _record(cluster: Cluster, name: str, pid: int) -> None:
    record = {"pid": pid, "start_time": procfs.start_time(pid)}
    write_atomically(cluster.state / "processes" / f"{name}.json", json.dumps(record))


def _records(cluster: Cluster) -> dict[str, dict[str, int]]:
    files = (cluster.state / "processes").glob("[!.]*.json")
    return {file.stem: json.loads(file.read_text()) for file in sorted(files)}


def _marked(cluster: Cluster) -> list[int]:
    return [pid for pid in procfs.all_pids() if _is_init(procfs.argv(pid), cluster) and procfs.start_time(pid)]


def _is_init(argv: list[str], cluster: Cluster) -> bool:
    for at, word in enumerate(argv):
        if word == mountpoints.MARK:
            return argv[at + 1 : at + 2] == [str(cluster.state)]
    return False


def _kill(pid: int, cluster: Cluster) -> None:
    """Signal through a handle, after asking again who it is: the pid cannot change its owner in between."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _is_init(procfs.argv(pid), cluster):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
