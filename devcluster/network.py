"""The cluster's network: one link between the host and the cluster's own network namespace, and no way out of it.

The host reaches nodes, pods and services by routes over that link. Inside there is no default route, so nothing in
the cluster can reach another network, only the host's end of the link. All of it vanishes with the namespace.
"""

from __future__ import annotations

from pathlib import Path

from devcluster.cluster import Cluster
from devcluster.problem import Problem, run
from devcluster.processes import inside

_WHAT = "wiring the network"


def wire(cluster: Cluster, init: int) -> None:
    """Make link, addresses and routes, or repair them."""
    where, link = cluster.addresses, cluster.link
    if not _exists(link):
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", "node0", "netns", str(init)], what=_WHAT)
        run(["ip", "link", "set", link, "alias", str(cluster.state)], what=_WHAT)
    if _owner(link) != str(cluster.state):
        raise Problem(f"network link {link} belongs to {_owner(link) or 'something else'}: take that down first")
    _ip_batch(
        f"address replace {where.host}/{where.link_prefix} dev {link}",
        f"link set {link} up",
        f"route replace {where.pods} via {where.node} dev {link}",
        f"route replace {where.services} via {where.node} dev {link}",
    )
    inside(cluster, ["ip", "-batch", "-"], what=_WHAT, stdin="\n".join((
        f"address replace {where.node}/{where.link_prefix} dev node0",
        "link set node0 up",
        "link set lo up",
        # Without a route, a connect() to a service fails before kube-proxy's rules can turn it to a pod.
        f"route replace {where.services} dev lo src {where.node}",
    )) + "\n")  # fmt: skip
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        script = f"test ! -e /proc/sys/{setting} || echo 1 > /proc/sys/{setting}"
        inside(cluster, ["sh", "-c", script], what=_WHAT)


def unwire(cluster: Cluster) -> None:
    """Remove the host's end of the link, if it is still there and ours; its routes go with it."""
    if _exists(cluster.link) and _owner(cluster.link) in (str(cluster.state), ""):
        try:
            run(["ip", "link", "delete", cluster.link], what=_WHAT)
        except Problem:
            if _exists(cluster.link):  # else the kernel, ending the namespace, was faster
                raise


def _ip_batch(*lines: str) -> None:
    run(["ip", "-batch", "-"], what=_WHAT, stdin="\n".join(lines) + "\n")


def _exists(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def _owner(link: str) -> str:
    try:
        return Path("/sys/class/net", link, "ifalias").read_text().strip()
    except FileNotFoundError:
        return ""
