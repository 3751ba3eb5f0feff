"""Builds our images as archives, each once: an archive is keyed by everything the image is made from.

    python3 images/build.py slmfleet|trainer|pool|base|pause|coredns|all [--target slim|full]

The last line printed is the archive's path (one line an image); `python3 -m devcluster load` takes it. `--json` prints
image references as well. Images are built with Docker where an engine answers, else with buildah.

The environment may set the Dockerfiles' build arguments: BASE (a Debian 12 image; by default made by debootstrap, so
that no image registry is needed), BASE_FULL, TORCH and TORCH_INDEX (see images/trainer/Dockerfile).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from devcluster.addons import DNS_IMAGE  # noqa: E402
from devcluster.cluster import cache_root  # noqa: E402
from devcluster.config import PAUSE_IMAGE  # noqa: E402
from devcluster.problem import Problem  # noqa: E402
from devcluster.state import locked  # noqa: E402

from devcluster import build as binaries  # noqa: E402
from devcluster import images as packed  # noqa: E402
from devcluster import packages  # noqa: E402
from images.debian import base_image, base_reference  # noqa: E402
from images.engine import Engine  # noqa: E402
from images.inputs import IMAGES, Image  # noqa: E402

_ONE_BINARY = {"pause": PAUSE_IMAGE, "coredns": DNS_IMAGE}
KEPT_ARCHIVES = 3
NAMES = ("slmfleet", "trainer", "pool", "base", "pause", "coredns")


@dataclass(frozen=True)
class Built:
    """An archive, and the name under which a cluster knows its image."""

    name: str
    image: str
    archive: Path


def build(name: str, target: str, cache: Path) -> Built:
    if name in _ONE_BINARY:
        paths = binaries.ensure(cache, [name], say)
        return Built(name, _ONE_BINARY[name], packed.pack(_ONE_BINARY[name], paths[name], cache))
    if name == "base":
        reference = base_reference("bookworm")
        archive = cache / "images" / f"debian-{reference.rpartition(':')[2]}.tar"
        if not archive.exists():
            engine = ready_engine(cache)
            base_image(engine, cache, "bookworm", say)
            engine.export(reference, archive)
        return Built(name, reference, archive)
    return build_image(IMAGES[name, target], cache)


def build_image(image: Image, cache: Path) -> Built:
    """Build the image unless its archive is there."""
    arguments = build_arguments(image, os.environ)
    key = image.key(ROOT, arguments)
    built = Built(image.name, f"{image.repository}:{key}", cache / "images" / f"{image.name}-{image.target}-{key}.tar")
    if built.archive.exists():
        return built
    with locked(cache / "locks" / f"{image.name}-{image.target}"):
        if built.archive.exists():
            return built
        need_free_disk(image, cache)
        started = time.monotonic()
        engine = ready_engine(cache)
        for argument, suite in image.bases:
            if arguments[argument] == base_reference(suite):
                base_image(engine, cache, suite, say)
        say(f"image {image.label}: building with {engine.name} …")
        engine.build(ROOT, ROOT / image.dockerfile, image.target, arguments, built.image)
        engine.export(built.image, built.archive)
        forget_old(built.archive, f"{image.name}-{image.target}-*.tar")
        say(f"image {image.label}: {time.monotonic() - started:.0f} s, {built.archive.stat().st_size / 1e6:.0f} MB")
    return built


def build_arguments(image: Image, environ: Mapping[str, str]) -> dict[str, str]:
    """The bases (our own stand-ins unless the environment names others) and what else the environment sets."""
    bases = {argument: environ.get(argument) or base_reference(suite) for argument, suite in image.bases}
    return bases | {argument: environ[argument] for argument in image.arguments if environ.get(argument)}


def ready_engine(cache: Path) -> Engine:
    packages.ensure(packages.IMAGES, say)
    return Engine(cache)


def forget_old(archive: Path, pattern: str) -> None:
    """Keep the newest archives of an image: every change of our source makes one."""
    by_age = sorted(archive.parent.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[KEPT_ARCHIVES:]:
        path.unlink(missing_ok=True)


def need_free_disk(image: Image, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free / 1e9
    if free < image.free_gigabytes:
        need = f"needs {image.free_gigabytes} GB of free disk while it is built, and {cache} has {free:.0f} GB"
        raise Problem(f"image {image.label} {need}: free some, or set SLMFLEET_CACHE to another disk")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*NAMES, "all"])
    targets = sorted({target for _, target in IMAGES})
    parser.add_argument("--target", choices=targets, default="slim", help="slim (default): the environment is mounted")
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy the archives there, as NAME.tar")
    parser.add_argument("--json", action="store_true", help="print image references and paths for a program")
    parser.add_argument("--check-disk", action="store_true", help="only check the free disk that the build would need")
    arguments = parser.parse_args()
    try:
        _run(arguments)
    except Problem as problem:
        print(f"images: {problem}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    cache = cache_root()
    names = NAMES if arguments.name == "all" else (arguments.name,)
    for name in names:
        if name not in (*_ONE_BINARY, "base") and (name, arguments.target) not in IMAGES:
            known = ", ".join(target for each, target in IMAGES if each == name)
            raise Problem(f"image {name} has no target {arguments.target!r}; it has: {known}")
    if arguments.check_disk:
        for name in names:
            need_free_disk(IMAGES[name, arguments.target], cache)
        return
    done = [build(name, arguments.target, cache) for name in names]
    for each in done if arguments.out else ():
        arguments.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(each.archive, arguments.out / f"{each.name}.tar")
    if arguments.json:
        print(json.dumps({each.name: {"image": each.image, "archive": str(each.archive)} for each in done}, indent=2))
        return
    for each in done:
        print(each.archive)


def say(line: str) -> None:
    """Progress goes to stderr, so that a program reads only paths."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
