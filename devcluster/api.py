"""The few calls that the tool itself makes to the cluster's API, with the administrator's certificate."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from devcluster.cluster import Cluster
from devcluster.problem import Problem

_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "PersistentVolume": "/api/v1/persistentvolumes",
    "StorageClass": "/apis/storage.k8s.io/v1/storageclasses",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
}


class Api:
    def __init__(self, cluster: Cluster) -> None:
        self._host = cluster.addresses.node
        self._tls = ssl.create_default_context(cafile=str(cluster.pki / "ca.crt"))
        self._tls.load_cert_chain(cluster.pki / "admin.crt", cluster.pki / "admin.key")

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> tuple[int, bytes]:
        """Status and body; status 0 when nobody answers."""
        connection = http.client.HTTPSConnection(self._host, 6443, timeout=10, context=self._tls)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": content})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def ready(self) -> bool:
        return self.call("GET", "/readyz")[0] == 200

    def get(self, path: str) -> dict[str, Any] | None:
        status, body = self.call("GET", path)
        return json.loads(body) if status == 200 else None

    def apply(self, manifest: dict[str, Any]) -> None:
        """Server-side apply: creates and repairs alike. Asks again while the server is still settling."""
        meta = manifest["metadata"]
        where = _PATHS[manifest["kind"]].format(namespace=meta.get("namespace", ""))
        path = f"{where}/{meta['name']}?fieldManager=devcluster&force=true"
        for attempt in range(20):
            status, body = self.call("PATCH", path, manifest, "application/apply-patch+yaml")
            if status in (200, 201):
                return
            if (400 <= status < 500 and status not in (403, 404, 409, 429)) or attempt == 19:
                break
            time.sleep(0.25)
        raise Problem(f"{manifest['kind']} {meta['name']}: the API server answered {status}: {_message(body)}")

    def patch(self, path: str, change: dict[str, Any]) -> None:
        status, body = self.call("PATCH", path, change, "application/merge-patch+json")
        if status != 200:
            raise Problem(f"{path}: the API server answered {status}: {_message(body)}")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:400]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


def wait_for(what: str, ready: Callable[[], bool], seconds: float, hint: str) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Problem(f"{what} after {seconds:.0f} s: {hint}")
        time.sleep(0.1)
