"""How long a change of the route table takes to be live in every worker, and what it does to the calls meanwhile.

    PYTHONPATH=operator python benchmarks/gateway/changes.py [--changes 1000] [--rate 500] [--workers 2]
                                                             [--specialists 1]      (needs nginx)

The gateway's own command runs with its workers in front of nginx, which stands in for the LLM and the pool. Calls come
at a fixed rate on kept connections, half of them for a specialist whose candidate's weight every change moves, half for
the LLM. A change is written when the one before is live, at a random moment of the poll. Its time is from the rename of
the file to the later of the workers' own log lines, which are written when the table is in use (resolution 1 ms).
A call fails when it is not answered 200, or is cut. With more specialists the table also names their classifier.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]

import uvloop  # noqa: E402
from fleet import draw, store, table  # noqa: E402
from machine import free_port  # noqa: E402

CONNECTIONS = 32
LATE_SECONDS = 10.0
_COMMAND = "import typer; from slmfleet.cli.gateway import gateway; typer.run(gateway)"
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; default_type application/json; client_body_temp_path {folder};
  proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location /v1/ {{ return 200 '{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}}}}]}}'; }}
    location /v2/ {{ return 200 '{{"text_output":"yes","finish_reason":"stop"}}'; }}
  }}
}}
"""


@dataclass
class Live:
    """When the workers used each version, by their log."""

    workers: int
    versions: dict[int, list[float]] = field(default_factory=dict)
    listen: str = ""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            said = json.loads(line)
            if said["event"] == "TableInUse":
                at = datetime.fromisoformat(said["time"]).timestamp()
                self.versions.setdefault(said["version"], []).append(at)
            elif said["event"] == "Supervising":
                self.listen = said["listen"]
            self._news.set()

    async def everywhere(self, version: int) -> float:
        """When the last worker used it (seconds since the epoch). Raises TimeoutError."""
        async with asyncio.timeout(LATE_SECONDS):
            while len(self.versions.get(version, ())) < self.workers:
                self._news.clear()
                await self._news.wait()
        return max(self.versions[version])


@dataclass
class Calls:
    """What became of the calls."""

    sent: int = 0
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    async def keep_calling(self, address: str, rate: float, stop: asyncio.Event) -> None:
        """At a fixed rate, over CONNECTIONS connections; one that is busy takes its next call late."""
        tasks = [asyncio.create_task(self._caller(address, n, rate, stop)) for n in range(CONNECTIONS)]
        await asyncio.gather(*tasks)

    async def _caller(self, address: str, number: int, rate: float, stop: asyncio.Event) -> None:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        clock = asyncio.get_running_loop().time
        due = clock() + number / rate
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - clock()))
            due = max(due + CONNECTIONS / rate, clock())
            self.sent += 1
            try:
                status = await _call(reader, writer, number, self.sent)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failed.append(type(error).__name__)
                reader, writer = await asyncio.open_connection(host, int(port))
                continue
            self.answered += 1
            if status != 200:
                self.failed.append(str(status))
        writer.close()


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, count: int) -> int:
    model = "moved" if count % 2 else "big"
    body = b'{"model":"%b","messages":[{"role":"user","content":"call %d"}]}' % (model.encode(), count)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-conversation-id: c%d\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (number * 1000 + count % 1000, len(body)) + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
    return int(answer.split(b" ", 2)[1])


def content_of(specialists: int, upstream: int, folder: Path) -> dict[str, Any]:
    """The first table: the specialist whose weight moves, and as many others as asked for."""
    llm = f"http://127.0.0.1:{upstream}/v1"
    content: dict[str, Any] = {"router": "bench/router", "llm": {"url": llm}, "pools": [], "specialists": []}
    if specialists > 1:
        made = store(Path("~/.cache/slmfleet/bench").expanduser(), specialists - 1) / "classifier"
        (folder / "classifier").write_bytes(made.read_bytes())
        content = table(draw(specialists - 1), folder / "classifier", llm)
    endpoint = {"url": f"http://127.0.0.1:{upstream}", "adapters": ["moved-1", "moved-2"]}
    content["pools"].append({"name": "tiny", "chat_template": "{{ messages[0].content }}", "max_in_flight": 1000,
                             "endpoints": [endpoint]})  # fmt: skip
    content["specialists"].append({
        "name": "moved", "cluster": "moved", "output": {"type": "label", "labels": ["yes", "no"]}, "salt": "s",
        "stable": {"name": "one", "adapter": "moved-1", "pool": "tiny"},
        "candidate": {"name": "two", "adapter": "moved-2", "pool": "tiny"},
    })  # fmt: skip
    return content


def write(path: Path, content: dict[str, Any], version: int) -> float:
    """Replace the table by its next version; when that was done."""
    content["version"] = version
    content["specialists"][-1]["weight_percent"] = 7 * version % 101
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
    return time.time()


async def measure(chosen: argparse.Namespace, folder: Path, upstream: int) -> None:
    content, path, rng = content_of(chosen.specialists, upstream, folder), folder / "table.json", random.Random(1)
    write(path, content, 1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, "--table", str(path), "--workers", str(chosen.workers),
        "--listen", f"127.0.0.1:{free_port()}", "--admin", "127.0.0.1:0", "--store", str(folder),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    live, calls, stop, seconds = Live(chosen.workers), Calls(), asyncio.Event(), []
    following = asyncio.create_task(live.follow(process.stdout))
    try:
        async with asyncio.timeout(60):
            while len(live.versions.get(1, ())) < chosen.workers or not live.listen:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)  # a worker listens after it has its table
        calling = asyncio.create_task(calls.keep_calling(live.listen, chosen.rate, stop))
        begun = time.monotonic()
        for version in range(2, chosen.changes + 2):
            await asyncio.sleep(rng.uniform(0, 0.1))
            written = write(path, content, version)
            seconds.append(await live.everywhere(version) - written)
        took = time.monotonic() - begun
        stop.set()
        await calling
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        following.cancel()
    tell(chosen, sorted(seconds), calls, took)


def tell(chosen: argparse.Namespace, seconds: list[float], calls: Calls, took: float) -> None:
    """The result, with its conditions."""
    p50, p99 = (seconds[int(share * (len(seconds) - 1))] * 1000 for share in (0.5, 0.99))
    print(
        f"{chosen.changes} changes of a table of {chosen.specialists} specialists, {chosen.workers} workers, "
        f"{calls.sent / took:.0f} calls a second: from write to live in every worker p50 {p50:.0f} ms, "
        f"p99 {p99:.0f} ms, longest {seconds[-1] * 1000:.0f} ms; {calls.sent} calls, {len(calls.failed)} failed; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    if calls.failed:
        raise SystemExit(f"failed: {sorted(set(calls.failed))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500, help="calls a second")
    parser.add_argument("--workers", type=int, default=2, help="two or more")
    parser.add_argument("--specialists", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port), encoding="utf-8")
        nginx = subprocess.Popen(["nginx", "-p", name, "-c", str(folder / "nginx.conf")])
        try:
            uvloop.run(measure(chosen, folder, port))
        finally:
            nginx.terminate()
            nginx.wait()


if __name__ == "__main__":
    main()
