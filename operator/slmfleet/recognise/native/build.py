"""Compiles what is in C (the classifier's arithmetic, the search for beginnings of patterns) by the machine's compiler.

    python3 operator/slmfleet/recognise/native/build.py DIR     writes DIR/_score.so

Needs nothing but Python and the compiler, so that an image's build stage can run it before anything is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LIBRARY = "_score.so"
FOLDER = Path(__file__).parent
SOURCES = (FOLDER / "score.c", FOLDER / "scan.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC")


def build(folder: Path) -> Path:
    """Compile to `folder`; returns the library. Raises RuntimeError where there is no compiler or it refuses."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise RuntimeError("there is no C compiler (cc); install one, e.g. Debian's gcc and libc6-dev")
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / LIBRARY, folder / f".{LIBRARY}.new"
    argv = [compiler, *FLAGS, "-o", str(partial), *map(str, SOURCES), "-lm"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{compiler} cannot compile {FOLDER}: {done.stderr.strip()}")
    partial.replace(target)
    return target


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(build(Path(sys.argv[1])))
    except (RuntimeError, OSError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
