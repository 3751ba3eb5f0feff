"""What the benchmark needs beside this repository, put into the cache: load tools, an upstream, the other gateways.

Nothing here is part of the project. A part that cannot be had is a reason in the results, never a missing row.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from devcluster.cluster import cache_root
from devcluster.problem import Problem, last_line
from devcluster.state import locked
from images import environments

from devcluster import build, packages

NODE_LOCK = Path(__file__).parent / "peers" / "node"
MOST_SECONDS = 600


@dataclass(frozen=True)
class Tools:
    """Where things are. Of the other gateways' parts: the path, or why there is none."""

    cache: Path
    nginx: str
    wrk: str
    fortio: Path
    eventstream: Path
    python: Path | str
    node: Path | str


def tools(say: Callable[[str], None]) -> Tools:
    """Install what is missing. Raises Problem for what no measurement can do without."""
    cache = cache_root()
    packages.ensure(packages.BENCHMARK, say)
    built = build.ensure(cache, ("fortio", "eventstream"), say)
    return Tools(
        cache=cache / "bench",
        nginx=_program("nginx"),
        wrk=_program("wrk"),
        fortio=built["fortio"],
        eventstream=built["eventstream"],
        python=_or_why(lambda: environments.ensure("bench", cache, say)),
        node=_or_why(lambda: _node_modules(cache, say)),
    )


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Problem(f"{name} is missing; install it")
    return found


def _or_why(make: Callable[[], Path]) -> Path | str:
    try:
        return make()
    except (Problem, OSError, subprocess.SubprocessError) as error:
        return str(error)[:300]


def _node_modules(cache: Path, say: Callable[[str], None]) -> Path:
    if not shutil.which("npm") or not shutil.which("node"):
        raise Problem("node and npm are not on PATH")
    lock = (NODE_LOCK / "package-lock.json").read_bytes()
    target = cache / "environments" / f"bench-node-{hashlib.sha256(lock).hexdigest()[:12]}"
    with locked(target.parent):
        if target.exists():
            return target
        say("environment bench-node: installing package-lock.json …")
        partial = target.with_name(f".{target.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(NODE_LOCK, partial)
        argv = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--omit=optional"]
        done = subprocess.run(argv, cwd=partial, capture_output=True, text=True, check=False, timeout=MOST_SECONDS)
        if done.returncode:
            raise Problem(f"`npm ci` failed: {last_line(done.stderr)}")
        partial.rename(target)
    return target
