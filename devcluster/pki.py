"""Certificates and kubeconfig files, made with the `openssl` command: one authority a cluster, one key a client."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from devcluster.cluster import Cluster
from devcluster.problem import run
from devcluster.state import write_atomically

_DAYS = "3650"
_WHAT = "making certificates"


@dataclass(frozen=True)
class Client:
    name: str
    subject: str
    alternatives: str


def clients(cluster: Cluster) -> list[Client]:
    where = cluster.addresses
    names = ",".join(f"DNS:{n}" for n in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"))
    return [
        Client(
            "apiserver",
            "/CN=kube-apiserver",
            f"IP:{where.node},IP:127.0.0.1,IP:{where.api_service},{names},DNS:kubernetes.default.svc.cluster.local",
        ),
        Client("admin", "/O=system:masters/CN=admin", "DNS:admin"),
        Client("kube-controller-manager", "/CN=system:kube-controller-manager", "DNS:kube-controller-manager"),
        Client("kube-scheduler", "/CN=system:kube-scheduler", "DNS:kube-scheduler"),
        Client("kubelet", f"/O=system:nodes/CN=system:node:{cluster.name}", f"DNS:{cluster.name},IP:{where.node}"),
        Client("kube-proxy", "/CN=system:kube-proxy", "DNS:kube-proxy"),
    ]


def ensure(cluster: Cluster) -> None:
    """Make what is missing; a cluster's authority never changes while it lives."""
    done = cluster.pki / "done"
    if done.exists():
        return
    pki = cluster.pki
    pki.mkdir(mode=0o700, exist_ok=True)
    _key(pki / "ca.key")
    subject = f"/CN=devcluster-{cluster.name}"
    run(["openssl", "req", "-x509", "-new", "-key", pki / "ca.key", "-out", pki / "ca.crt", "-days", _DAYS,
         "-subj", subject], what=_WHAT)  # fmt: skip
    _key(pki / "service-accounts.key")
    for client in clients(cluster):
        _certificate(pki, client)
        write_atomically(_kubeconfig_path(cluster, client.name), _kubeconfig(cluster, client.name), mode=0o600)
    done.touch()


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path], what=_WHAT)
    path.chmod(0o600)


def _certificate(pki: Path, client: Client) -> None:
    key, request, extensions = (pki / f"{client.name}.{suffix}" for suffix in ("key", "csr", "ext"))
    _key(key)
    extensions.write_text(f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={client.alternatives}\n")
    run(["openssl", "req", "-new", "-key", key, "-out", request, "-subj", client.subject], what=_WHAT)
    run(["openssl", "x509", "-req", "-in", request, "-CA", pki / "ca.crt", "-CAkey", pki / "ca.key", "-CAcreateserial",
         "-days", _DAYS, "-out", pki / f"{client.name}.crt", "-extfile", extensions], what=_WHAT)  # fmt: skip


def _kubeconfig_path(cluster: Cluster, client: str) -> Path:
    return cluster.kubeconfig if client == "admin" else cluster.pki / f"{client}.kubeconfig"


def _kubeconfig(cluster: Cluster, client: str) -> str:
    def data(file: str) -> str:
        return base64.b64encode((cluster.pki / file).read_bytes()).decode()

    server = {"server": cluster.server, "certificate-authority-data": data("ca.crt")}
    user = {"client-certificate-data": data(f"{client}.crt"), "client-key-data": data(f"{client}.key")}
    name = f"devcluster-{cluster.name}"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": server}],
            "users": [{"name": client, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": client}}],
            "current-context": name,
        },
        indent=1,
    )
