"""The binaries of a cluster: built once from Go modules into a cache that is keyed by everything they are made of.

Each folder under `binaries/` is a Go module whose go.mod and go.sum pin the whole source. A changed pin is a new key,
so an old cluster keeps the binary it runs.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from devcluster.problem import Problem, last_line
from devcluster.state import locked

_MODULES = Path(__file__).parent / "binaries"
_KUBERNETES_VERSION = "1.34.2"
_KUBERNETES_LINK = (
    f"-X k8s.io/component-base/version.gitVersion=v{_KUBERNETES_VERSION}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
)
_FLAGS = ("-trimpath", "-mod=readonly")


@dataclass(frozen=True)
class Binary:
    name: str
    version: str
    module: str
    package: str
    link: str = ""

    @property
    def link_flags(self) -> str:
        return f"-s -w {self.link}".strip()

    def key(self, modules: Path = _MODULES) -> str:
        """Version and digest of the pinned sources, our own source and the flags."""
        digest = hashlib.sha256(repr((self.package, self.link_flags, _FLAGS, platform.machine())).encode())
        for path in sorted((modules / self.module).iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"

    def path(self, cache: Path) -> Path:
        return cache / "bin" / self.key() / self.name


def _kubernetes(name: str) -> Binary:
    return Binary(name, _KUBERNETES_VERSION, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_LINK)


BINARIES = {
    binary.name: binary
    for binary in (
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _kubernetes("kubectl"),
        Binary("etcd", "3.6.6", "etcd", "go.etcd.io/etcd/server/v3"),
        Binary("coredns", "1.13.2", "coredns", "."),
        Binary("pause", "1", "pause", "."),
        Binary("helm", "3.19.5", "helm", "helm.sh/helm/v3/cmd/helm"),
        Binary("age", "1.2.1", "age", "filippo.io/age/cmd/age"),
        Binary("fortio", "1.63.9", "fortio", "fortio.org/fortio"),
        Binary("eventstream", "1", "eventstream", "."),
    )
}
# `up` needs neither helm nor what the tests and the benchmark use, so a first cluster does not wait for them.
NEEDED_BY_A_CLUSTER = tuple(name for name in BINARIES if name not in ("helm", "age", "fortio", "eventstream"))


def ensure(cache: Path, names: Collection[str], say: Callable[[str], None]) -> dict[str, Path]:
    """Build what the cache lacks and return every path. A second process waits for the first."""
    wanted = [BINARIES[name] for name in names]
    paths = paths_in(cache, names)
    if all(path.exists() for path in paths.values()):
        return paths
    with locked(cache / "bin"):
        missing = [binary for binary in wanted if not paths[binary.name].exists()]
        for number, binary in enumerate(missing, 1):
            say(f"[{number}/{len(missing)}] {binary.name} {binary.version} …")
            started = time.monotonic()
            _build(binary, paths[binary.name])
            say(f"[{number}/{len(missing)}] {binary.name} {time.monotonic() - started:.0f} s")
    return paths


def paths_in(cache: Path, names: Iterable[str] = tuple(BINARIES)) -> dict[str, Path]:
    """Where the binaries are once they are built."""
    return {name: BINARIES[name].path(cache) for name in names}


def _build(binary: Binary, target: Path) -> None:
    partial = target.parent.with_name(f".{target.parent.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    argv = [_go(), "build", *_FLAGS, "-ldflags", binary.link_flags, "-o", str(partial / binary.name), binary.package]
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    try:
        source = _MODULES / binary.module
        done = subprocess.run(argv, cwd=source, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            log = target.parents[1] / f"{binary.name}.log"
            log.write_text(done.stderr, encoding="utf-8")
            raise Problem(f"building {binary.name} failed: {last_line(done.stderr)}; the whole output is in {log}")
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if found:
        return found
    raise Problem("Go is not on PATH, and it builds Kubernetes: install Go 1.24 or newer, or set KUBECONFIG to use a "
                  "cluster you have")  # fmt: skip
