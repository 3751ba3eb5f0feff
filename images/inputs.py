"""What each image is made from, and the key that follows: an image whose inputs are unchanged is not rebuilt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from devcluster.problem import Problem

_SKIPPED = {"__pycache__"}


@dataclass(frozen=True)
class Image:
    """One target of one Dockerfile. `sources` are what it copies, relative to the repository."""

    name: str
    target: str
    sources: tuple[str, ...]
    free_gigabytes: int = 0
    # Build arguments that name a Debian base, by the suite that each stands for.
    bases: tuple[tuple[str, str], ...] = (("BASE", "bookworm"),)
    # Further build arguments that a user may set in the environment.
    arguments: tuple[str, ...] = ()

    @property
    def dockerfile(self) -> str:
        return f"images/{self.name}/Dockerfile"

    @property
    def repository(self) -> str:
        suffix = "" if self.target == "slim" else f"-{self.target}"
        return f"localhost/slmfleet/{self.name}{suffix}"

    @property
    def label(self) -> str:
        return f"{self.name} ({self.target})"

    def key(self, root: Path, arguments: Mapping[str, str]) -> str:
        """Digest of the Dockerfile, the copied files (path, mode, content) and the build arguments, bases included."""
        digest = hashlib.sha256(repr((self.target, sorted(arguments.items()))).encode())
        for path in files(root, (self.dockerfile, *self.sources)):
            mode = "x" if path.stat().st_mode & 0o111 else "-"
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(root)}\0{mode}\0{content}\n".encode())
        return digest.hexdigest()[:12]


_SLMFLEET = ("operator/slmfleet", "locks/slim.txt", "images/slmfleet/bin", "images/slmfleet/slmfleet.pth")
_TRAINER = ("operator/slmfleet/__init__.py", "operator/slmfleet/wire", "trainers/slmtrain")
IMAGES = {
    (image.name, image.target): image
    for image in (
        Image("slmfleet", "slim", _SLMFLEET),
        Image("trainer", "slim", _TRAINER),
        Image("pool", "slim", ("runtime",)),
        Image(
            "trainer",
            "full",
            (*_TRAINER, "locks/train.txt", "images/install.sh"),
            free_gigabytes=12,
            bases=(("BASE", "bookworm"), ("BASE_FULL", "trixie")),
            arguments=("TORCH", "TORCH_INDEX"),
        ),
        Image(
            "pool",
            "full",
            ("runtime", "locks/serve.txt", "images/install.sh"),
            free_gigabytes=30,
            arguments=("TORCH_INDEX",),
        ),
    )
}


def files(root: Path, sources: tuple[str, ...]) -> Iterator[Path]:
    """Every file below the sources in a stable order, without what Python leaves behind."""
    for source in sources:
        top = root / source
        if not top.exists():
            raise Problem(f"{top} is missing, and an image is made from it: is the checkout complete?")
        below = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        yield from (path for path in below if not _SKIPPED & set(path.parts) and path.suffix != ".pyc")
