"""The gateway's command in a process of its own, also where the process has mounts or a pod's namespaces of its own.

Namespaces need root, or a kernel that lets users make them; without either these tests fail, they are never skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway_fakes import Answer, Caller

COMMAND = [
    sys.executable,
    "-c",
    "import typer; from slmfleet.cli.gateway import gateway; typer.run(gateway)",
]
MOUNT = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@"'


def with_mount(folder: Path, size: str) -> list[str]:
    """Runs what follows it with a small file system of its own on `folder`, which goes with the process."""
    return [*_unshare("--mount"), "sh", "-c", MOUNT, "sh", size, str(folder)]


def as_pod(disk: Path) -> list[str]:
    """Runs what follows it as a pod's first process: a kill takes all of its processes and its own disk."""
    return [*_unshare("--mount", "--pid", "--fork", "--kill-child"), "sh", "-c", MOUNT, "sh", "16m", str(disk)]


def _unshare(*namespaces: str) -> list[str]:
    return ["unshare", *namespaces, *(["--map-root-user"] if os.geteuid() else []), "--"]


@dataclass
class Running:
    """A gateway that listens."""

    process: asyncio.subprocess.Process
    address: str
    admin: str
    drains: list[asyncio.Task[None]] = field(default_factory=list)

    async def post(self, body: Any) -> int:
        data = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(data)
        return (await _exchange(self.address, head + data)).status

    async def signals(self) -> Any:
        """What the log says of itself."""
        answer = await _exchange(self.admin, b"GET /signals HTTP/1.1\r\nhost: g\r\n\r\n")
        return answer.json["capture"]

    async def until(self, holds: Any) -> Any:
        """The log's signals, once `holds` is true of them."""
        async with asyncio.timeout(60):
            while not holds(found := await self.signals()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found


async def start(*arguments: str, within: Sequence[str] = ()) -> Running:
    """Start the command and wait until it listens. `within` runs it, e.g. in a namespace."""
    process = await asyncio.create_subprocess_exec(
        *within, *COMMAND, *arguments, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            event = json.loads(line)
            if event["event"] == "Listening":
                running = Running(process, event["listen"], event["admin"])
                running.drains = [asyncio.create_task(_drain(pipe)) for pipe in (process.stdout, process.stderr)]
                return running
    assert process.stderr is not None
    raise AssertionError((await process.stderr.read()).decode())


async def _drain(pipe: asyncio.StreamReader | None) -> None:
    """Read what nobody looks at: a full pipe would hold the process back."""
    assert pipe is not None
    while await pipe.read(1 << 16):
        pass


async def _exchange(address: str, request: bytes) -> Answer:
    host, _, port = address.rpartition(":")
    caller = Caller(*await asyncio.open_connection(host, int(port)))
    try:
        caller.send(request)
        return await caller.answer()
    finally:
        caller.close()
