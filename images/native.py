"""The parts in C, built once for this machine's tests and benchmarks.

    python3 images/native.py

The last line printed is the library's path, for SLMFLEET_NATIVE. Images build their own (see slmfleet/Dockerfile).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from devcluster.cluster import cache_root  # noqa: E402
from devcluster.problem import Problem, last_line  # noqa: E402

from devcluster import packages  # noqa: E402

FOLDER = ROOT / "operator" / "slmfleet" / "recognise" / "native"
SOURCES = ("score.c", "scan.c", "build.py")


def ensure() -> Path:
    """Build the library unless the cache has it; return it."""
    digest = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in SOURCES)).hexdigest()
    target = cache_root() / "native" / digest[:12]
    if not any(target.glob("*.so")):
        packages.ensure(packages.NATIVE, lambda line: print(line, file=sys.stderr, flush=True))
        argv = [sys.executable, FOLDER / "build.py", target]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Problem(f"native: {last_line(done.stderr)}")
    return next(path for path in target.glob("*.so") if not path.name.startswith("."))


def main() -> int:
    try:
        print(ensure())
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
