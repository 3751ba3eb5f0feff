"""Pod templates: everything passes Pod Security `restricted`, and mounts only what it needs of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmfleet.api.base import Resources
from slmfleet.plan.config import Config, Mount

USER = 65532
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
Object = dict[str, Any]


@dataclass(frozen=True)
class StoreMount:
    """One folder of the store as a pod sees it: /store/<path>."""

    path: str
    read_only: bool = True


@dataclass(frozen=True)
class SecretMount:
    """One Secret as files."""

    name: str
    path: str
    items: tuple[tuple[str, str], ...] = ()


def resources(wanted: Resources) -> Object:
    """Requests, and the memory limit. CPU has no limit: a throttled gateway is a slow one."""
    gpus = {"nvidia.com/gpu": str(wanted.gpus)} if wanted.gpus else {}
    return {"requests": {"cpu": wanted.cpu, "memory": wanted.memory, **gpus},
            "limits": {"memory": wanted.memory, **gpus}}


def pod_spec(config: Config, container: Object, *, account: str, prefix: str = "",
             store: Sequence[StoreMount] = (), claims: Sequence[Mount] = (), secrets: Sequence[SecretMount] = (),
             shared_memory: str | None = None, token: bool = False,
             annotations: tuple[str, Mapping[str, str]] | None = None) -> Object:
    """A pod of one container under `restricted`, with a writable /tmp and nothing else to write to.

    `prefix` is the store's folder inside its claim. `annotations`: a folder in which the pod's own annotations are
    files, by name.
    """
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]
    if store:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": config.store_claim}})
    for folder in store:
        mounts.append({"name": "store", "mountPath": f"{config.store_mount}/{folder.path}",
                       "subPath": "/".join(part for part in (prefix.strip("/"), folder.path) if part),
                       **({"readOnly": True} if folder.read_only else {})})
    for index, claim in enumerate(claims):
        volumes.append({"name": f"claim-{index}",
                        "persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}})
        mounts.append({"name": f"claim-{index}", "mountPath": claim.mount_path, "readOnly": True})
    for index, secret in enumerate(secrets):
        source: Object = {"secretName": secret.name, "defaultMode": 0o440}
        if secret.items:
            source["items"] = [{"key": key, "path": path} for key, path in secret.items]
        volumes.append({"name": f"secret-{index}", "secret": source})
        mounts.append({"name": f"secret-{index}", "mountPath": secret.path, "readOnly": True})
    if annotations and annotations[1]:
        items = [{"path": file, "fieldRef": {"fieldPath": f"metadata.annotations['{key}']"}}
                 for file, key in annotations[1].items()]
        volumes.append({"name": "annotations", "downwardAPI": {"items": items}})
        mounts.append({"name": "annotations", "mountPath": annotations[0], "readOnly": True})
    if shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    env = [{"name": "HOME", "value": "/tmp/home"}, {"name": "TMPDIR", "value": "/tmp"}, *container.get("env", [])]
    return {
        "serviceAccountName": account, "automountServiceAccountToken": token, "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{**container, "imagePullPolicy": config.image_pull_policy, "securityContext": SECURE,
                        "env": env, "volumeMounts": mounts, "terminationMessagePolicy": "FallbackToLogsOnError"}],
        "volumes": volumes,
    }


def store_prefix(url: str) -> str:
    """The folder inside the claim: file:///a/b gives a/b."""
    return url.removeprefix("file://").strip("/")
