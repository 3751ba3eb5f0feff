"""What a fresh cluster is given: DNS, and a storage class for the host's folders."""

from __future__ import annotations

from typing import Any

from devcluster.cluster import Cluster

DNS_IMAGE = "localhost/slmfleet/coredns:1.13.2"
STORAGE_CLASS = "devcluster"
_SYSTEM = "kube-system"

_COREFILE = """.:5353 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 5
    }
    cache 5
}
"""


def manifests(cluster: Cluster) -> list[dict[str, Any]]:
    return [storage_class(), *dns_access(), dns_config(), dns_deployment(), dns_service(cluster)]


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }


def dns_access() -> list[dict[str, Any]]:
    role = "system:coredns"
    return [
        _object("v1", "ServiceAccount", "coredns", _SYSTEM),
        {
            **_object("rbac.authorization.k8s.io/v1", "ClusterRole", role),
            "rules": [
                _readable("", ["services", "pods", "namespaces", "endpoints"]),
                _readable("discovery.k8s.io", ["endpointslices"]),
            ],
        },
        {
            **_object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", role),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": _SYSTEM}],
        },
    ]


def dns_config() -> dict[str, Any]:
    return {**_object("v1", "ConfigMap", "coredns", _SYSTEM), "data": {"Corefile": _COREFILE}}


def dns_deployment() -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": DNS_IMAGE,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": "dns", "containerPort": 5353, "protocol": "UDP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1, "timeoutSeconds": 10},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 30, "timeoutSeconds": 10},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        # Without a request it is best effort, and on a busy node gets next to no CPU: then no name resolves.
        "resources": {"requests": {"cpu": "100m", "memory": "70Mi"}, "limits": {"memory": "170Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    labels = {"k8s-app": "kube-dns"}
    return {
        **_object("apps/v1", "Deployment", "coredns", _SYSTEM),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def dns_service(cluster: Cluster) -> dict[str, Any]:
    ports = [
        {"name": f"dns-{protocol.lower()}", "port": 53, "targetPort": 5353, "protocol": protocol}
        for protocol in ("UDP", "TCP")
    ]
    spec = {"clusterIP": cluster.addresses.dns_service, "selector": {"k8s-app": "kube-dns"}, "ports": ports}
    return {**_object("v1", "Service", "kube-dns", _SYSTEM), "spec": spec}


def _object(version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **place}}


def _readable(group: str, resources: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]}
