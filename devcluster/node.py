"""Up and down: the order in which a cluster starts, and the one in which it ends.

Both may be run again after being interrupted anywhere: `up` starts what is missing, `down` removes what is there.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from devcluster import addons, cgroups, config, images, mountpoints, network, pki, processes
from devcluster.api import Api, wait_for
from devcluster.cluster import Cluster
from devcluster.problem import Problem
from devcluster.state import clusters, locked, write_atomically
from devcluster.volumes import Volume

# The others ask the API server at once, and some give up when it is not there.
_FIRST = ("containerd", "etcd", "kube-apiserver")


def up(
    cluster: Cluster,
    binaries: dict[str, Path],
    cache: Path,
    *,
    volumes: Sequence[Volume] = (),
    audit: bool = False,
    wait: bool = True,
) -> bool:
    """Bring the cluster up and return True if anything had to be started."""
    for volume in volumes:
        volume.prepare()
    archives = images.built_in(binaries, cache)
    with locked(cluster.state):
        started = _start(cluster, binaries, archives, audit)
    api = Api(cluster)
    if started:
        for manifest in addons.manifests(cluster):
            api.apply(manifest)
        _link_tools(cluster, binaries)
    for volume in volumes:
        _offer(cluster, api, volume)
    _wait_for_node(cluster, api)
    if wait:
        _wait_for_dns(cluster, api)
    return started


def down(cluster: Cluster) -> None:
    """Remove everything of the cluster: processes, then what the kernel leaves of them, then files."""
    with locked(cluster.state):
        processes.kill_all(cluster)
        network.unwire(cluster)
        cgroups.remove(cluster)
        # Nothing of the cluster is mounted here: its mounts were made in a namespace that has just ended.
        shutil.rmtree(cluster.state)
    _leave(cluster.root)


def add_volume(cluster: Cluster, volume: Volume) -> None:
    volume.prepare()
    _offer(cluster, Api(cluster), volume)


def _offer(cluster: Cluster, api: Api, volume: Volume) -> None:
    """Make the volume, and make it free again if the claim that held it is gone."""
    api.apply(volume.manifest(cluster.name))
    found = api.get(f"/api/v1/persistentvolumes/{volume.name}") or {}
    if found.get("status", {}).get("phase") == "Released":
        api.patch(f"/api/v1/persistentvolumes/{volume.name}", {"spec": {"claimRef": None}})


def is_ready(cluster: Cluster) -> bool:
    return processes.init_pid(cluster) is not None and Api(cluster).ready() and not processes.dead(cluster)


def _start(cluster: Cluster, binaries: dict[str, Path], archives: list[Path], audit: bool) -> bool:
    if not processes.init_pid(cluster):
        _forget_last_run(cluster)
    pki.ensure(cluster)
    for path, text in config.files(cluster).items():
        write_atomically(path, text)
    cgroups.create(cluster)
    with mountpoints.made():
        init = processes.start_init(cluster, binaries["pause"])
    network.wire(cluster, init)
    commands = config.commands(cluster, binaries, audit or _audits(cluster))
    started = [processes.start(cluster, name, commands[name]) for name in _FIRST]
    with _in_background(lambda: _load(cluster, archives)):
        _wait_for_api(cluster)
    started += [processes.start(cluster, name, command) for name, command in commands.items() if name not in _FIRST]
    return any(started)


def _forget_last_run(cluster: Cluster) -> None:
    """Sockets and task records of processes that a reboot or a kill has ended; data stays."""
    for stale in ("containerd/state", "processes", "cni-addresses"):
        shutil.rmtree(cluster.state / stale, ignore_errors=True)
    for left in cluster.state.glob("*.sock*"):
        left.unlink()


def _audits(cluster: Cluster) -> bool:
    return (cluster.logs / "audit.log").exists()


def _load(cluster: Cluster, archives: list[Path]) -> None:
    hint = f"see {cluster.logs}/containerd.log"
    wait_for("containerd does not answer", lambda: _listens(cluster.socket), 60, hint)
    for archive in archives:
        done = cluster.state / "loaded" / archive.name
        if not done.exists():
            images.load(cluster, archive)
            done.parent.mkdir(exist_ok=True)
            done.touch()


def _listens(path: Path) -> bool:
    """A killed daemon leaves its socket behind, so that it is there says nothing."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def _wait_for_api(cluster: Cluster) -> None:
    api = Api(cluster)

    def ready() -> bool:
        if gone := [name for name in _FIRST if not processes.alive(cluster, name)]:
            raise Problem(f"{gone[0]} ended while the cluster was starting: see {cluster.logs}/{gone[0]}.log")
        return api.ready()

    wait_for("the API server is not ready", ready, 90, f"see {cluster.logs}/kube-apiserver.log")


def _wait_for_node(cluster: Cluster, api: Api) -> None:
    def ready() -> bool:
        node = api.get(f"/api/v1/nodes/{cluster.name}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        said = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        return said and _kubelet_has_its_pods(cluster, api)

    wait_for(f"node {cluster.name} is not Ready", ready, 90, f"see {cluster.logs}/kubelet.log")


def _kubelet_has_its_pods(cluster: Cluster, api: Api) -> bool:
    """What the API server says of a node may be older than its kubelet, which reads its pods only after it started."""
    known = api.get(f"/api/v1/nodes/{cluster.name}/proxy/pods")
    if known is None:
        return False
    placed = api.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{cluster.name}") or {"items": []}
    return _uids(placed) <= _uids(known)


def _uids(pods: dict[str, Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods["items"] or ()}


def _wait_for_dns(cluster: Cluster, api: Api) -> None:
    def ready() -> bool:
        found = api.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns") or {}
        return found.get("status", {}).get("readyReplicas", 0) > 0

    wait_for("DNS is not ready", ready, 90, f"see `kubectl -n kube-system get events` with {cluster.kubeconfig}")


def _link_tools(cluster: Cluster, binaries: dict[str, Path]) -> None:
    """kubectl (and helm, when built) of this cluster's version, in one folder for PATH."""
    folder = cluster.state / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("kubectl", "helm"):
        if name in binaries:
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(binaries[name])


def _leave(root: Path) -> None:
    """After the last cluster of this folder, the folder goes; after the last one on the machine, the mount points."""
    with locked(root):
        if not clusters(root):
            _remove_if_empty(root)
    mountpoints.remove()


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        pass


class _in_background:
    """Run a step beside the block, join it at the end, and let its failure count."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step, self._error = step, None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._step()
        except Problem as error:
            self._error: Problem | None = error

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._thread.join()
            if self._error:
                raise self._error
