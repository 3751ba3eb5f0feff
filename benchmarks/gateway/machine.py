"""Processes: pinned to cores, started until they answer, and what they cost by /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Which core each part has: the gateway one of its own; load and upstream share the other where there are two."""

    gateway: int
    upstream: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        free = sorted(os.sched_getaffinity(0))
        if len(free) < 2:
            raise SystemExit("this benchmark needs two cores: one for the gateway, one for load and upstream")
        return cls(free[0], free[1], free[2] if len(free) > 2 else free[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(argv: list[str], core: int, log: Path, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process and its children on one core, in a group of its own."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *argv],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process's whole group; kill it if it does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def until(ready: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is so, or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.2)
    return False


def answers(url: str, body: bytes, headers: dict[str, str], seconds: float = 5.0) -> bool:
    """Whether a POST gets a 200."""
    request = urllib.request.Request(url, body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            answer.read()
            return bool(answer.status == 200)
    except OSError:
        return False


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for pid, fields in _stats():
        children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree, with that of children that have ended."""
    total = 0
    wanted = set(tree(root))
    for pid, fields in _stats():
        if pid in wanted:
            total += sum(map(int, fields[11:15]))
    return total / TICKS


def resident_mib(root: int) -> float:
    """Proportional resident memory of a process tree: what is shared inside it counts once."""
    total = 0.0
    for pid in tree(root):
        with contextlib.suppress(OSError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
            total += int(text.split("\nPss:")[1].split()[0]) / 1024
    return total


def _stats() -> Iterator[tuple[int, list[str]]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{entry.name}/stat").read_text(encoding="utf-8", errors="replace")
                yield int(entry.name), text.rpartition(")")[2].split()
