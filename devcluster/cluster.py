"""Names, paths and addresses of one cluster: values only, nothing here touches the machine."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.problem import Problem

SLOTS = 8
# RFC 2544 keeps this range for benchmarks: no real network uses it. Each slot takes a /18 of it.
_RANGE = ipaddress.ip_network("198.18.0.0/15")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("SLMFLEET_CACHE") or "~/.cache/slmfleet").expanduser().absolute()


def state_root(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("SLMFLEET_STATE") or "/var/lib/slmfleet-devcluster").expanduser().absolute()


@dataclass(frozen=True)
class Addresses:
    """Where a slot's host link, node, pods and services are. Slots never overlap."""

    host: str
    node: str
    link_prefix: int
    pods: str
    services: str

    @classmethod
    def of_slot(cls, slot: int) -> Addresses:
        if not 0 <= slot < SLOTS:
            raise ValueError(f"slot {slot} is outside 0 … {SLOTS - 1}")
        base = int(_RANGE.network_address) + slot * 2**14
        address = ipaddress.IPv4Address
        return cls(
            host=str(address(base + 1)),
            node=str(address(base + 2)),
            link_prefix=30,
            pods=f"{address(base + 16 * 256)}/20",
            services=f"{address(base + 32 * 256)}/20",
        )

    @property
    def api_service(self) -> str:
        return str(ipaddress.ip_network(self.services)[1])

    @property
    def dns_service(self) -> str:
        return str(ipaddress.ip_network(self.services)[10])


@dataclass(frozen=True)
class Cluster:
    """One cluster by name; `slot` decides its addresses and the names of its link and its cgroup."""

    name: str
    slot: int
    root: Path

    @property
    def state(self) -> Path:
        return self.root / self.name

    @property
    def addresses(self) -> Addresses:
        return Addresses.of_slot(self.slot)

    @property
    def link(self) -> str:
        return f"slmdev{self.slot}"

    @property
    def cgroup(self) -> str:
        return f"slmdev{self.slot}-{self.name}"

    @property
    def server(self) -> str:
        return f"https://{self.addresses.node}:6443"

    @property
    def socket(self) -> Path:
        return self.state / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "log"


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Problem(f"cluster name {name!r}: use at most 30 lower-case letters, digits and dashes, as in `staging`")
    return name


def free_slot(taken: Mapping[str, int], links: Collection[str]) -> int:
    """The lowest slot that no cluster of ours has and no network link on the machine is named after."""
    for slot in range(SLOTS):
        if slot not in taken.values() and f"slmdev{slot}" not in links:
            return slot
    names = ", ".join(sorted(taken)) or "clusters under another SLMFLEET_STATE"
    raise Problem(f"all {SLOTS} address ranges are in use by {names}: take one down with `python3 -m devcluster down`")
