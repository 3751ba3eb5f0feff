"""Folders of the host as persistent volumes, so that pods can mount them by a claim and never by hostPath.

A read-only volume is mounted read-only at the node, whatever a pod asks for. A claim names it in `volumeName`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.addons import STORAGE_CLASS
from devcluster.problem import Problem

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Volume:
    name: str
    path: Path
    writable: bool

    @classmethod
    def parse(cls, text: str) -> Volume:
        """`NAME=HOSTPATH`, then `:ro` (the default) or `:rw`."""
        name, equals, rest = text.partition("=")
        path, mode = (rest[:-3], rest[-2:]) if rest[-3:] in (":ro", ":rw") else (rest, "ro")
        if not equals or not path:
            raise Problem(f"volume {text!r}: write NAME=HOSTPATH, NAME=HOSTPATH:ro or NAME=HOSTPATH:rw")
        if not _NAME.fullmatch(name):
            raise Problem(f"volume {text!r}: the name takes lower-case letters, digits and dashes, as in `train-env`")
        if not path.startswith("/"):
            raise Problem(f"volume {text!r}: the host path must start with /, as in `{name}={Path.cwd() / path}`")
        return cls(name, Path(path), mode == "rw")

    def prepare(self) -> None:
        """Make a writable folder that any pod's user can write to; a read-only one must be there already."""
        if self.path.is_dir():
            return
        if not self.writable:
            raise Problem(f"volume {self.name}: {self.path} is not a folder on this machine; make it first, or say :rw")
        self.path.mkdir(parents=True)
        self.path.chmod(0o777)

    def manifest(self, node: str) -> dict[str, Any]:
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self.name},
            "spec": {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"] if self.writable else ["ReadOnlyMany"],
                **({} if self.writable else {"mountOptions": ["ro"]}),
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": STORAGE_CLASS,
                "local": {"path": str(self.path)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
