"""The one kind of failure that is expected: it says what happened, where, and what to do, on one line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


class Problem(Exception):
    """Something the user can act on. Its text is printed as it is, without a traceback."""


def run(argv: Sequence[str | Path], *, what: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run a command and return its output; `what` opens the message when it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise Problem(f"{what}: {words[0]} is not installed; `python3 -m devcluster build` installs it") from None
    except subprocess.TimeoutExpired:
        raise Problem(f"{what}: {words[0]} took more than {timeout:.0f} s") from None
    if done.returncode:
        raise Problem(f"{what}: {' '.join(words[:3])} … exited with {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it printed nothing"
