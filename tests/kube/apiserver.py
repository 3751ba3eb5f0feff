"""A real etcd and kube-apiserver on loopback, for what a fake cannot say: schemas, CEL, defaults, server-side apply,
Pod Security and RBAC. No kubelet and no controllers: a pod is admitted and never runs, a deletion collects nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from devcluster.cluster import cache_root

from devcluster import build

Manifest = dict[str, Any]
MANAGER = "tests"
_TOKEN = "admin-of-a-test-server"


def binary(name: str) -> Path:
    """The path of a binary of the development cluster, built first where the cache lacks it."""
    return build.ensure(cache_root(), [name], print)[name]


class Refused(AssertionError):
    """The server said no. The text is the server's message, with every field it names."""

    def __init__(self, code: int, body: Manifest) -> None:
        self.code = code
        self.reason = body.get("reason", "")
        self.causes = {cause.get("field", ""): cause["message"] for cause in body.get("details", {}).get("causes", [])}
        super().__init__(f"{code} {self.reason}: {body.get('message', '')}")


@dataclass(frozen=True)
class Answer:
    object: Manifest
    warnings: tuple[str, ...]


class Api:
    """The few verbs that tests need, on manifests."""

    def __init__(self, client: httpx.Client, kubeconfig: Path, impersonate: tuple[tuple[str, str], ...] = ()) -> None:
        self._client = client
        self._impersonate = impersonate
        self.kubeconfig = kubeconfig
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    def as_user(self, user: str, *groups: str) -> Api:
        """The same server as somebody else sees it."""
        names = [("Impersonate-User", user), *(("Impersonate-Group", group) for group in groups)]
        return Api(self._client, self.kubeconfig, tuple(names))

    def create(self, manifest: Manifest, *, dry_run: bool = False) -> Answer:
        path = self._collection(manifest)
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self._call("POST", path, manifest, query)

    def apply(
        self,
        manifest: Manifest,
        *,
        manager: str = MANAGER,
        force: bool = False,
        dry_run: bool = False,
        subresource: str | None = None,
    ) -> Answer:
        path = f"{self._collection(manifest)}/{manifest['metadata']['name']}" + (
            f"/{subresource}" if subresource else ""
        )
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        return self._call("PATCH", path, manifest, query, "application/apply-patch+yaml")

    def replace(self, manifest: Manifest, *, subresource: str | None = None) -> Answer:
        path = f"{self._collection(manifest)}/{manifest['metadata']['name']}" + (
            f"/{subresource}" if subresource else ""
        )
        return self._call("PUT", path, manifest, {})

    def merge(self, manifest: Manifest, patch: Manifest, *, subresource: str | None = None) -> Answer:
        path = f"{self._collection(manifest)}/{manifest['metadata']['name']}" + (
            f"/{subresource}" if subresource else ""
        )
        return self._call("PATCH", path, patch, {}, "application/merge-patch+json")

    def read(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        path = f"{self._collection(manifest)}/{manifest['metadata']['name']}" + (
            f"/{subresource}" if subresource else ""
        )
        return self._call("GET", path, None, {}).object

    def get(self, path: str, **query: str) -> Manifest:
        return self._call("GET", path, None, query).object

    def may(self, verb: str, resource: str, *, group: str = "", namespace: str = "", name: str = "") -> bool:
        """Whether this user may, by the server's own authorizer."""
        resource, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        attributes |= {"namespace": namespace, "name": name}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                  "spec": {"resourceAttributes": attributes}}  # fmt: skip
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._call("POST", path, review, {}).object["status"]["allowed"])

    def namespace(self, name: str, **labels: str) -> None:
        """A namespace that is ready for pods; `enforce="restricted"` is Pod Security's label."""
        names = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": names}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        self.apply(account)

    def wait_for_kind(self, api_version: str, kind: str, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._client.get(self._collection(_object(api_version, kind))).raise_for_status()
                return
            except (LookupError, httpx.HTTPStatusError):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{kind} is not served after {seconds} s") from None
                time.sleep(0.05)

    def _collection(self, manifest: Manifest) -> str:
        version, kind = manifest["apiVersion"], manifest["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self._resources:
            self._discover(version, root)
        plural, namespaced = self._resources[version, kind]
        namespace = manifest["metadata"].get("namespace", "default")
        return f"{root}/namespaces/{namespace}/{plural}" if namespaced else f"{root}/{plural}"

    def _discover(self, version: str, root: str) -> None:
        answer = self._client.get(root)
        if answer.status_code == 404:  # in plain text, while a new group is not served yet
            return
        for resource in answer.json().get("resources", []):
            if "/" not in resource["name"]:
                self._resources[version, resource["kind"]] = (resource["name"], resource["namespaced"])

    def _call(
        self, method: str, path: str, body: Manifest | None, query: Mapping[str, str], content: str = "application/json"
    ) -> Answer:
        data = None if body is None else json.dumps(body)
        headers = [("Content-Type", content), *self._impersonate]
        answer = self._client.request(method, path, content=data, params=query, headers=headers)
        if answer.is_error:
            raise Refused(answer.status_code, answer.json())
        return Answer(answer.json(), tuple(answer.headers.get_list("Warning")))


def _object(api_version: str, kind: str) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"namespace": "default"}}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Api]:
    """Start both, wait until the server is ready (5 s), and end both."""
    etcd, apiserver = binary("etcd"), binary("kube-apiserver")
    client_port, peer_port, port = _free_ports(3)
    keys = folder / "service-accounts.key"
    keys.write_bytes(_private_key())
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    store = [
        etcd, "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "error",
        "--listen-client-urls", f"http://127.0.0.1:{client_port}",
        "--advertise-client-urls", f"http://127.0.0.1:{client_port}",
        "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
        "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}",
        "--initial-cluster", f"default=http://127.0.0.1:{peer_port}",
    ]  # fmt: skip
    server = [
        apiserver, "--etcd-servers", f"http://127.0.0.1:{client_port}", "--bind-address", "127.0.0.1",
        "--advertise-address", "127.0.0.1", "--secure-port", str(port), "--cert-dir", folder / "certificates",
        "--token-auth-file", tokens, "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
        "--service-account-key-file", keys, "--service-account-signing-key-file", keys,
        "--service-account-issuer", "https://kubernetes.default.svc", "--allow-privileged",
        "--endpoint-reconciler-type", "none",
    ]  # fmt: skip
    with _process(store, folder / "etcd.log"), _process(server, folder / "apiserver.log") as process:
        authority = folder / "certificates" / "apiserver.crt"
        client = _client(process, f"https://127.0.0.1:{port}", authority, folder / "apiserver.log")
        with contextlib.closing(client):
            yield Api(client, _kubeconfig(folder, str(client.base_url), authority))


def _client(
    process: subprocess.Popen[bytes], url: str, authority: Path, log: Path, seconds: float = 60
) -> httpx.Client:
    """A client of a server that is ready."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if authority.exists():
            verify = ssl.create_default_context(cafile=str(authority))
            headers = {"Authorization": f"Bearer {_TOKEN}"}
            client = httpx.Client(base_url=url, headers=headers, verify=verify, timeout=30, trust_env=False)
            with contextlib.suppress(httpx.HTTPError):
                if client.get("/readyz").is_success:
                    return client
            client.close()
        time.sleep(0.1)
    raise RuntimeError(f"no kube-apiserver: {log.read_text()[-2000:]}")


def _kubeconfig(folder: Path, url: str, authority: Path) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(document))
    return path


@contextlib.contextmanager
def _process(command: list[Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with its block, or with us where we are killed (setpriv, from util-linux)."""
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("wb") as output:
        process = subprocess.Popen([*guard, *map(str, command)], stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _private_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
