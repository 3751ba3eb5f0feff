"""The two heavy Python environments as folders of the host, to be mounted read-only into slim containers.

    python3 images/environments.py train|serve|dev|clients|bench|bench-discovery|bench-training|redaction|all

(dev: the tests' own, light one; clients: other people's clients of OpenAI's API in Python and Node, for tests/clients;
bench: the gateways that `make bench-gateway` compares ours with; bench-discovery: other clustering;
bench-training: trl, for `make bench-training`; redaction: what `make bench-redaction` does.)

Torch and its libraries are several gigabytes: packing them into an image, exporting and importing it takes minutes and
four times the disk. So they are made once, with Debian 12's own interpreter, which the slim images have as well, and
pods mount them at /opt/slmfleet/env. The last line printed is the folder's path.

There are two because Triton's Python stub dies at the first tensor with numpy 2, and the trainer needs numpy 2.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from devcluster.cluster import cache_root  # noqa: E402
from devcluster.problem import Problem, last_line  # noqa: E402
from devcluster.state import locked  # noqa: E402

from devcluster import packages  # noqa: E402

UV_VERSION = "0.13.8"
PYTHON = "/usr/bin/python3"
_STUB = "triton_python_backend_stub"
_NODE = ROOT / "tests" / "clients" / "node"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Raise when `_finish` changes, so that environments made before are not taken for new ones.
_RECIPE = "1"


def key(name: str, lock: bytes) -> str:
    """Name and digest of everything that the environment is made of."""
    digest = hashlib.sha256(b"\0".join([lock, UV_VERSION.encode(), _RECIPE.encode()]))
    return f"{name}-{digest.hexdigest()[:12]}"


def path_of(name: str, cache: Path) -> Path:
    lock = _lock(name).read_bytes()
    if name == "clients":
        lock += (_NODE / "package-lock.json").read_bytes()
    return cache / "environments" / key(name, lock)


def ensure(name: str, cache: Path, say: Callable[[str], None]) -> Path:
    """Make the environment unless the cache has it; return its folder."""
    target = path_of(name, cache)
    if target.exists():
        return target
    packages.ensure(packages.ENVIRONMENTS, say)
    uv = ensure_uv(cache, say)
    with locked(target.parent):
        if target.exists():
            return target
        started = time.monotonic()
        say(f"environment {name}: installing {_lock(name).relative_to(ROOT)} …")
        partial = target.with_name(f".{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--relocatable", "--python", PYTHON, partial], name)
        sync = ["pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"]
        _run([uv, *sync, "--python", partial / "bin" / "python", _lock(name)], name)
        _finish(name, partial, say)
        partial.rename(target)
        say(f"environment {name}: {time.monotonic() - started:.0f} s")
    return target


def ensure_uv(cache: Path, say: Callable[[str], None]) -> Path:
    """The pinned uv, in an environment of its own."""
    home = cache / "tools" / f"uv-{UV_VERSION}"
    if home.exists():
        return home / "bin" / "uv"
    with locked(home.parent):
        if not home.exists():
            say(f"installing uv {UV_VERSION} …")
            partial = home.with_name(f".{home.name}")
            shutil.rmtree(partial, ignore_errors=True)
            _run([PYTHON, "-m", "venv", partial], "uv")
            _run([partial / "bin" / "python", "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}"], "uv")
            partial.rename(home)
    return home / "bin" / "uv"


def _lock(name: str) -> Path:
    lock = ROOT / "locks" / f"{name}.txt"
    if not lock.is_file():
        raise Problem(f"environment {name}: {lock} is missing; `locks/lock.sh` makes it")
    return lock


def _finish(name: str, environment: Path, say: Callable[[str], None]) -> None:
    if name == "serve":
        _install_stub(environment)
    if name == "clients":
        say(f"environment {name}: installing {(_NODE / 'package-lock.json').relative_to(ROOT)} …")
        _install_node(environment)
    subprocess.run(["chmod", "-R", "a+rX", environment], check=True)


def _install_stub(environment: Path) -> None:
    """Triton looks for its Python stub beside the backend; the wheel keeps one for each version of Python elsewhere."""
    site = next(environment.glob("lib/python3.*/site-packages"))
    server = site / "pytriton" / "tritonserver"
    version = site.parent.name.removeprefix("python")
    found = sorted(path for path in server.rglob(_STUB) if version in str(path.relative_to(server)))
    if not found:
        raise Problem(f"environment serve: no stub for Python {version} in {server}: does nvidia-pytriton support it?")
    target = server / "backends" / "python" / _STUB
    target.unlink(missing_ok=True)
    shutil.copyfile(found[0], target)
    for program in (target, server / "bin" / "tritonserver"):
        program.chmod(0o755)


def _install_node(environment: Path) -> None:
    """Node's packages, by the npm of the environment itself. Node has authorities of its own unless it is told."""
    home = environment / "node"
    home.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_NODE / name, home / name)
    extra = {"PATH": f"{environment / 'bin'}:{os.environ.get('PATH', '')}"}
    if _AUTHORITIES.exists():
        extra["NODE_EXTRA_CA_CERTS"] = os.environ.get("NODE_EXTRA_CA_CERTS", str(_AUTHORITIES))
    options = ["--prefix", home, "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    _run([environment / "bin" / "npm", "ci", *options], "clients", extra)


def _run(argv: list[str | Path], name: str, extra: Mapping[str, str] | None = None) -> None:
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **(extra or {})}
    environ.pop("VIRTUAL_ENV", None)
    done = subprocess.run([str(word) for word in argv], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(str(word) for word in argv[:3])
        raise Problem(f"environment {name}: `{words} …` failed: {last_line(done.stderr)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benches = ("bench", "bench-discovery", "bench-training", "redaction")
    parser.add_argument("name", choices=["train", "serve", "dev", "clients", *benches, "all"])
    chosen = parser.parse_args().name
    try:
        for name in ("train", "serve") if chosen == "all" else (chosen,):
            print(ensure(name, cache_root(), lambda line: print(line, flush=True)))
    except Problem as problem:
        print(f"environments: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
