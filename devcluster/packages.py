"""Debian packages that a cluster or an image build needs. Only what is missing is installed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from devcluster.problem import Problem, last_line

# What must be there → the package that brings it.
CLUSTER = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap", "/etc/ssl/certs/ca-certificates.crt": "ca-certificates"}
ENVIRONMENTS = {
    "/usr/bin/python3": "python3",
    "/usr/lib/python3.11/ensurepip": "python3-venv",
    f"/usr/lib/{platform.machine()}-linux-gnu/libpython3.11.so.1.0": "libpython3.11",
}
NATIVE = {"cc": "gcc", "/usr/include/stdio.h": "libc6-dev"}
BENCHMARK = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
_PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def ensure(needs: Mapping[str, str], say: Callable[[str], None]) -> None:
    packages = missing(needs)
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise Problem(f"this machine has no apt-get, and these are missing: {', '.join(packages)}; install them")
    say(f"installing Debian packages: {' '.join(packages)} …")
    _apt("update", "-qq")
    _apt("install", "-y", "-qq", "--no-install-recommends", *packages)
    still = missing(needs)
    if still:
        raise Problem(f"apt-get installed {' '.join(packages)}, but what is needed of {' '.join(still)} is not there")


def missing(needs: Mapping[str, str]) -> list[str]:
    return sorted({package for thing, package in needs.items() if not _present(thing)})


def _present(thing: str) -> bool:
    return Path(thing).exists() if thing.startswith("/") else shutil.which(thing, path=_PATH) is not None


def _apt(*words: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *words], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"apt-get {words[0]} failed: {last_line(done.stderr)}; run it by hand to see why")
