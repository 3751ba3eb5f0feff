"""A thin client over the official one: any kind by its path, plain dicts, server-side apply.

Apart from the generated API classes because a reconcile needs five verbs on any kind, and server-side apply is both
create and repair. Every call is bounded by a timeout; errors are two: `NotFound` and `ApiError`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

MANAGER = "slmfleet"
TIMEOUT_SECONDS = (5, 15)
Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused, or could not be reached. `status` is 0 for the latter."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ApiError):
    """There is no such object (or kind)."""


class Conflict(ApiError):
    """The object changed since it was read, or exists already."""


@dataclass(frozen=True)
class Kind:
    """Where a kind lives in the API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str, name: str | None = None, sub: str | None = None) -> str:
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        return "/".join(part for part in (f"{root}/namespaces/{namespace}/{self.plural}", name, sub) if part)


SLM = "slmfleet.dev/v1alpha1"
ROUTER = Kind(SLM, "Router", "routers")
CLUSTER = Kind(SLM, "TaskCluster", "taskclusters")
SPECIALIST = Kind(SLM, "Specialist", "specialists")
BASE = Kind(SLM, "BaseModel", "basemodels")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
JOB = Kind("batch/v1", "Job", "jobs")
RAYJOB = Kind("ray.io/v1", "RayJob", "rayjobs")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIGMAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
KINDS = {kind.kind: kind for kind in (
    ROUTER, CLUSTER, SPECIALIST, BASE, DEPLOYMENT, JOB, RAYJOB, POD, SERVICE, CONFIGMAP, SECRET, CLAIM, EVENT, LEASE,
    NETWORK_POLICY)}


def load_client(kubeconfig: str | None = None) -> client.ApiClient:
    """In the cluster its service account, elsewhere the user's kubeconfig."""
    if kubeconfig is None:
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
            return client.ApiClient()
        except config.ConfigException:
            pass
    config.load_kube_config(config_file=kubeconfig)  # type: ignore[no-untyped-call]
    return client.ApiClient()


class Kube:
    """One namespace's objects, asynchronously. The official client is synchronous: calls run in threads."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def get(self, kind: Kind, name: str) -> Object:
        return await self._call("GET", kind.path(self.namespace, name))

    async def find(self, kind: Kind, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.get(kind, name)
        except NotFound:
            return None

    async def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Object]:
        """All objects of the kind with these labels; none where the kind is not installed."""
        query = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())} if labels else {}
        try:
            found = await self._call("GET", kind.path(self.namespace), query)
        except NotFound:
            return []
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found["items"]]

    async def apply(self, obj: Object, manager: str = MANAGER, force: bool = True) -> Object:
        """Server-side apply: creates or repairs, and owns only the fields it names. Without `force` a field that
        somebody else owns is a Conflict."""
        kind = KINDS[obj["kind"]]
        query = {"fieldManager": manager, **({"force": "true"} if force else {})}
        path = kind.path(self.namespace, obj["metadata"]["name"])
        return await self._call("PATCH", path, query, obj, "application/apply-patch+yaml")

    async def create(self, obj: Object) -> Object:
        """Create; Conflict where the name is taken."""
        return await self._call("POST", KINDS[obj["kind"]].path(self.namespace), {"fieldManager": MANAGER}, obj)

    async def replace(self, obj: Object) -> Object:
        """Replace; Conflict where it changed since it was read."""
        return await self._call("PUT", KINDS[obj["kind"]].path(self.namespace, obj["metadata"]["name"]), {}, obj)

    async def write_status(self, obj: Object, status: Mapping[str, Any]) -> Object:
        """Replace the status of an object as it was read; Conflict where it changed since."""
        kind = KINDS[obj["kind"]]
        body = {**obj, "apiVersion": kind.api_version, "status": dict(status)}
        path = kind.path(self.namespace, obj["metadata"]["name"], "status")
        return await self._call("PUT", path, {"fieldManager": MANAGER}, body)

    async def delete(self, kind: Kind, name: str) -> None:
        """Delete with its dependents; nothing where it is gone already."""
        try:
            await self._call("DELETE", kind.path(self.namespace, name), {"propagationPolicy": "Background"})
        except NotFound:
            return

    async def served(self, api_version: str, plural: str) -> bool:
        """Whether a kind is installed, e.g. KubeRay's rayjobs."""
        try:
            found = await self._call("GET", f"/apis/{api_version}")
        except NotFound:
            return False
        return any(resource["name"] == plural for resource in found.get("resources", []))

    async def _call(self, method: str, path: str, query: Mapping[str, str] | None = None,
                    body: Object | None = None, content_type: str = "application/json") -> Object:
        return await asyncio.to_thread(self.call, method, path, query or {}, body, content_type)

    def call(self, method: str, path: str, query: Mapping[str, str], body: Object | None,
             content_type: str = "application/json") -> Object:
        """One call, synchronously. Raises NotFound, Conflict or ApiError."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        # The official client passes a string through untouched where the type is not JSON (server-side apply).
        payload = json.dumps(body) if content_type != "application/json" else body
        args = self._api.param_serialize(method, path, query_params=list(query.items()), header_params=headers,
                                         body=payload, auth_settings=["BearerToken"])
        try:
            response = self._api.call_api(*args, _request_timeout=TIMEOUT_SECONDS)
            response.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            raise _typed(error.status or 0, str(error.reason), error.body) from None
        except Exception as error:
            raise ApiError(0, f"the API server did not answer {method} {path}: {error}") from None
        if response.status >= 400:
            raise _typed(response.status, str(response.reason), response.data)
        found: Object = json.loads(response.data or b"{}")
        return found


def _typed(status: int, reason: str, body: Any) -> ApiError:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = reason
    kind = {404: NotFound, 409: Conflict}.get(status, ApiError)
    return kind(status, message)
