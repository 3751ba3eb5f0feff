"""The gateway of one Router: its Deployment, Service and route table."""

from __future__ import annotations

from slmfleet.api.router import Gateway
from slmfleet.plan.config import Config
from slmfleet.plan.facts import RouterObject
from slmfleet.plan.names import labels, object_name, owner_reference
from slmfleet.plan.pods import SECURE, Object, SecretMount, StoreMount, pod_spec, resources, store_prefix
from slmfleet.plan.pool import KEYS
from slmfleet.plan.table import API_KEY_FILE, GENERALIST_KEY_FILE, table_digest
from slmfleet.wire.packing import packed
from slmfleet.wire.routes import RouteTable

PORT, ADMIN = 8080, 9090
TABLE_KEY = "table.json"
TABLE_FILE = f"/tmp/routes/{TABLE_KEY}"
DIGEST = "slmfleet.dev/table-digest"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def gateway_labels(router: str) -> dict[str, str]:
    return {"slmfleet.dev/gateway": router[:63]}


def gateway_name(router: str) -> str:
    return object_name("gateway", router)


def table_name(router: str) -> str:
    return object_name("routes", router)


def url(config: Config, router: str) -> str:
    return f"http://{gateway_name(router)}.{config.namespace}.svc/v1"


def objects(config: Config, router: RouterObject, table: RouteTable) -> tuple[Object, ...]:
    return (table_object(router, table), _service(router), _deployment(config, router))


def table_object(router: RouterObject, table: RouteTable) -> Object:
    """The route table as a ConfigMap, which the gateways' watchers follow."""
    name = router.meta.name
    return {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": table_name(name), "labels": labels("gateway", "Router", name),
                         "annotations": {DIGEST: table_digest(table)},
                         "ownerReferences": owner_reference("Router", name, router.meta.uid)},
            **packed(TABLE_KEY, table.model_dump_json(exclude_none=True))}


def _service(router: RouterObject) -> Object:
    name = router.meta.name
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": gateway_name(name), "labels": labels("gateway", "Router", name),
                         "ownerReferences": owner_reference("Router", name, router.meta.uid)},
            "spec": {"selector": gateway_labels(name),
                     "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}]}}


def _deployment(config: Config, router: RouterObject) -> Object:
    name, spec = router.meta.name, router.spec
    container = {
        "name": "gateway", "image": config.images.slmfleet,
        "args": ["gateway", "--table", TABLE_FILE, "--listen", f"[::]:{PORT}", "--admin", f"[::]:{ADMIN}",
                 "--store", config.store_mount, "--origin-key-file", "/keys/origin",
                 *(("--workers", str(spec.gateway.workers)) if spec.gateway.workers > 1 else ()),
                 *_seeing(spec.gateway)],
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "admin", "containerPort": ADMIN}],
        "resources": resources(spec.gateway.resources),
        # A gateway that is slow for want of CPU still answers calls; taken out of its Service, it would refuse them.
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": ADMIN}, "periodSeconds": 2, "timeoutSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": ADMIN}, "periodSeconds": 10, "timeoutSeconds": 10,
                          "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}},
    }
    secrets = [SecretMount(KEYS, "/keys", (("origin", "origin"),))]
    keys = {API_KEY_FILE: spec.llm.api_key_secret_ref,
            GENERALIST_KEY_FILE: spec.generalist.api_key_secret_ref if spec.generalist else None}
    for path, key in keys.items():
        if key is not None:
            folder, _, file = path.rpartition("/")
            secrets.append(SecretMount(key.name, folder, ((key.key, file),)))
    pod = pod_spec(config, container, account="slmfleet-gateway", prefix=store_prefix(spec.store.url),
                   store=[StoreMount(f"usage/{name}", read_only=False), StoreMount("router")], secrets=secrets)
    pod["initContainers"] = [_watcher(config, name)]
    pod["volumes"].append(_token_volume())
    pod["terminationGracePeriodSeconds"] = 60
    marks = labels("gateway", "Router", name, gateway_labels(name))
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": gateway_name(name), "labels": marks,
                     "ownerReferences": owner_reference("Router", name, router.meta.uid)},
        "spec": {"replicas": spec.gateway.replicas, "selector": {"matchLabels": gateway_labels(name)},
                 "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                 "template": {"metadata": {"labels": marks}, "spec": pod}},
    }


def _seeing(gateway: Gateway) -> list[str]:
    """Off unless asked for."""
    log = ["--access-log-percent", f"{gateway.access_log_percent:g}"] if gateway.access_log_percent else []
    return log + (["--otlp-endpoint", gateway.otlp_endpoint] if gateway.otlp_endpoint else [])


def _watcher(config: Config, router: str) -> Object:
    """Follows the route table. Only this container holds a token of the API server, the gateway has none."""
    return {
        "name": "routes", "image": config.images.slmfleet, "imagePullPolicy": config.image_pull_policy,
        "restartPolicy": "Always", "securityContext": SECURE,
        "args": ["follow-routes", "--namespace", config.namespace, "--name", table_name(router), "--key", TABLE_KEY,
                 "--out", TABLE_FILE],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "192Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"},
                         {"name": "token", "mountPath": TOKEN_PATH, "readOnly": True}],
    }


def _token_volume() -> Object:
    """What automounting would mount, for one container only."""
    return {"name": "token", "projected": {"defaultMode": 0o440, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}
