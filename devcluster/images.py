"""Images: the two of a single binary that every cluster needs are packed here; others are loaded from archives."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from devcluster.addons import DNS_IMAGE
from devcluster.cluster import Cluster
from devcluster.config import PAUSE_IMAGE
from devcluster.problem import Problem, run

_USER = "65532:65532"


def built_in(binaries: dict[str, Path], cache: Path) -> list[Path]:
    """Archives of the pause and DNS images, made when the cache lacks them."""
    return [pack(PAUSE_IMAGE, binaries["pause"], cache), pack(DNS_IMAGE, binaries["coredns"], cache)]


def pack(image: str, binary: Path, cache: Path) -> Path:
    """An image archive (Docker's format) with one static binary as its entry point, keyed as the binary is."""
    target = cache / "images" / f"{binary.parent.name}.tar"
    if target.exists():
        return target
    layer = _tar({binary.name: (binary.read_bytes(), 0o755)})
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{binary.name}"], "User": _USER},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    archive = _tar(
        {
            "config.json": (json.dumps(config).encode(), 0o644),
            "layer.tar": (layer, 0o644),
            "manifest.json": (json.dumps(manifest).encode(), 0o644),
        }
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_bytes(archive)
    partial.rename(target)
    return target


def load(cluster: Cluster, archive: Path) -> list[str]:
    """Import an archive into the cluster's containerd and return the names of its images."""
    if not archive.is_file():
        raise Problem(f"{archive}: no such image archive; `python3 images/build.py` makes them and prints their paths")
    out = run(
        ["ctr", "--address", cluster.socket, "--namespace", "k8s.io", "images", "import", archive],
        what=f"loading {archive} into {cluster.name}",
        timeout=900,
    )
    return [line.split()[1] for line in out.splitlines() if line.startswith("unpacking ")]


def load_into_kind(name: str, archive: Path) -> None:
    """The same for a cluster made by kind."""
    run(["kind", "load", "image-archive", archive, "--name", name], what=f"loading {archive} into kind", timeout=900)


def _tar(entries: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in entries.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
