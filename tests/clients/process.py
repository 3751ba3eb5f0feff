"""The real gateway in a process of its own, the fakes on a loop in a thread beside it, and the log read back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyrage
from tests.unit.gateway.gateway_fakes import SCHEMA, TEMPLATE, FakeServer

from slmfleet.store.segments import read_directory

COMMAND = [sys.executable, "-m", "slmfleet.cli", "gateway", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
Result = TypeVar("Result")
Server = TypeVar("Server", bound=FakeServer)


class LoopThread:
    """An event loop in a thread, so that clients that block can talk to fakes in the same process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="fakes", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    @contextlib.contextmanager
    def serving(self, server: Server) -> Iterator[Server]:
        """A fake that serves in this loop while the block runs."""
        self.run(server.start())
        yield server
        self.run(server.stop())

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Process:
    """`slmfleet gateway --table`, with its log going to `folder/store`."""

    def __init__(self, folder: Path, table: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = pyrage.x25519.Identity.generate()
        self._version = 0
        self._table = table
        self.write()
        arguments = ["--table", str(self.path), "--store", str(folder / "store"), "--drain-seconds", "2"]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._errors = (folder / "stderr").open("w+")
        self._process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environ
        )
        self.said: list[dict[str, Any]] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))
            if self.said[-1]["event"] == "Listening":
                break
        else:
            raise AssertionError((folder / "stderr").read_text())
        self.address: str = self.said[-1]["listen"]
        self.admin: str = self.said[-1]["admin"]

    @property
    def path(self) -> Path:
        return self.folder / "table.json"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def write(self, **changes: Any) -> None:
        """The table, one version on."""
        self._version += 1
        self._table |= {"version": self._version, "router": "default/agents", **changes}
        capture = {"enabled": True, "recipients": [str(self.identity.to_public())], "body_limit_bytes": 1 << 22}
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps({**self._table, "capture": capture}), encoding="utf-8")
        temporary.replace(self.path)

    def use(self, **changes: Any) -> None:
        """Change the table and wait until it is in use."""
        self.write(**changes)
        while self.get("/table")["version"] != self._version:
            assert self._process.poll() is None

    def get(self, page: str) -> Any:
        """A page of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin}{page}") as answer:
            return json.load(answer)

    def stop(self) -> None:
        """SIGTERM, and wait for the end of its drain."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        output, _ = self._process.communicate(timeout=30)
        self.said += [json.loads(line) for line in output.splitlines()]
        self._errors.close()
        assert self._process.returncode == 0

    def records(self) -> list[dict[str, Any]]:
        """Stop, and read the log with the private key."""
        self.stop()
        reader = read_directory(self.folder / "store" / "usage", [str(self.identity)])
        found = [json.loads(record) for record in reader]
        assert reader.broken == []
        return found


def proxy_table(llm: str) -> dict[str, Any]:
    """Everything goes to the LLM."""
    return {"llm": {"url": f"{llm}/v1", "timeout_seconds": 10}}


def fleet_table(llm: str, triton: str) -> dict[str, Any]:
    """A specialist `intents` answers the calls that name it; the LLM takes what it cannot answer."""
    route = {
        "name": "intents",
        "cluster": "intents",
        "output": {"type": "json", "json_schema": SCHEMA},
        "stable": {"name": "rev1", "adapter": "intents-1", "pool": "tiny"},
    }
    endpoint = {"url": triton, "adapters": ["intents-1"]}
    pool = {"name": "tiny", "chat_template": TEMPLATE, "endpoints": [endpoint]}
    return {**proxy_table(llm), "pools": [pool], "specialists": [route]}
