"""Builds with Docker where an engine answers, else with buildah; both read the same Dockerfiles.

What the build needs of the host to reach a package index (certificates, index settings, proxies) is handed over as
build secrets: it is there while a step runs and is in no layer of the image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devcluster.problem import Problem, last_line, run

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PASSED = ("INDEX", "INDEX_URL", "EXTRA_INDEX_URL", "DEFAULT_INDEX", "DEFAULT_TIMEOUT", "HTTP_TIMEOUT")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def index_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of pip, uv and proxies that a build inside a container may need, too."""
    names = {f"{tool}_{setting}" for tool in ("PIP", "UV") for setting in _PASSED}
    names |= {*_PROXIES, *(name.upper() for name in _PROXIES)}
    return {name: environ[name] for name in sorted(names & environ.keys())}


class Engine:
    """One way of building; `reference` is the image's name with its tag."""

    def __init__(self, cache: Path) -> None:
        self._docker = _docker_answers()
        self._storage = ["--root", str(cache / "buildah"), "--runroot", str(cache / "buildah-run")]

    @property
    def name(self) -> str:
        return "docker" if self._docker else "buildah"

    def has(self, reference: str) -> bool:
        argv = ["docker", "image", "inspect", reference] if self._docker else self._buildah("inspect", reference)
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def build(self, context: Path, dockerfile: Path, target: str, arguments: Mapping[str, str], reference: str) -> None:
        """Build one target. Steps whose inputs are unchanged come from the engine's own layer cache."""
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        with _secrets() as secrets:
            common = ["--file", str(dockerfile), "--target", target, *given, *secrets, "--tag", reference, str(context)]
            if self._docker:
                self._logged(["docker", "build", "--network=host", *common], reference)
                return
            options = ["--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker",
                       f"--ignorefile={dockerfile}.dockerignore"]  # fmt: skip
            self._logged(self._buildah("build", *options, *common), reference)

    def import_root(self, tar: Path, reference: str) -> None:
        """Make an image of a root file system."""
        what = f"importing {reference}"
        if self._docker:
            run(["docker", "import", "--change", 'CMD ["bash"]', tar, reference], what=what, timeout=900)
            return
        container = run(self._buildah("from", "scratch"), what=what).strip()
        try:
            run(self._buildah("add", "--quiet", container, str(tar), "/"), what=what, timeout=900)
            run(self._buildah("config", "--cmd", "bash", container), what=what)
            run(self._buildah("commit", "--quiet", container, reference), what=what, timeout=900)
        finally:
            run(self._buildah("rm", container), what=what)

    def export(self, reference: str, archive: Path) -> None:
        """Write the image as an archive in Docker's format, whole or not at all."""
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_name(f".{archive.name}.{os.getpid()}")
        try:
            if self._docker:
                run(["docker", "save", "--output", partial, reference], what=f"exporting {reference}", timeout=1800)
            else:
                target = f"docker-archive:{partial}:{reference}"
                run(self._buildah("push", "--quiet", reference, target), what=f"exporting {reference}", timeout=1800)
            partial.rename(archive)
        finally:
            partial.unlink(missing_ok=True)

    def _buildah(self, *words: str) -> list[str]:
        return ["buildah", *self._storage, *words]

    def _logged(self, argv: list[str], reference: str) -> None:
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(argv, env=environ, text=True, check=False, **both)
        if done.returncode:
            with tempfile.NamedTemporaryFile("w", prefix="slmfleet-image-", suffix=".log", delete=False) as log:
                log.write(done.stdout)
            errors = [line for line in done.stdout.splitlines() if "rror" in line]
            reason = errors[-1] if errors else last_line(done.stdout)
            raise Problem(f"building {reference} failed: {reason.strip()[:300]}; the whole output is in {log.name}")


@contextmanager
def _secrets() -> Iterator[list[str]]:
    """Options that hand the host's certificates and index settings to the build's steps."""
    lines = [f"export {name}='{value}'" for name, value in index_settings(os.environ).items()]
    certificates = Path(os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
    options = []
    if certificates.is_file():
        inside = "/run/secrets/certificates"
        lines += [f"export {name}={inside}" for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")]
        options += ["--secret", f"id=certificates,src={certificates}"]
    with tempfile.NamedTemporaryFile("w", prefix="slmfleet-build-") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        yield [*options, "--secret", f"id=environment,src={file.name}"]


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
