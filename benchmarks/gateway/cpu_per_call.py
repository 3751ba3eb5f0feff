"""CPU per proxied 1 KB chat call: of the gateway's process tree, from /proc/PID/stat, over loopback.

CPU per call is the figure that other work on the machine disturbs least; requests a second and latencies would not be
honest here, since load, upstream and gateway share its cores. Rounds are interleaved and the median is given. What
runs beside us: nothing yet, so this compares our own settings only.

    PYTHONPATH=operator python benchmarks/gateway/cpu_per_call.py [--calls 5000] [--rounds 3] [--classifier FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyrage
import uvloop

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 16
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "big",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 200}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250},
    }
).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


class Upstream(asyncio.Protocol):
    """Answers every request the same, as nginx's `return 200` would."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.seen = transport, b""

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while (end := self.seen.find(b"\r\n\r\n")) >= 0:
            head = self.seen[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self.seen) < end + 4 + length:
                return
            self.seen = self.seen[end + 4 + length :]
            self.transport.write(REPLY)  # type: ignore[attr-defined]


async def upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def call(number: int) -> bytes:
    messages = [
        {"role": "system", "content": "You are a careful assistant. " * 10},
        {"role": "user", "content": f"Question {number}: " + "what is it " * 55},
    ]
    body = json.dumps({"model": "big", "messages": messages, "temperature": 0}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer x\r\nuser-agent: bench\r\n"
    return head + b"accept: application/json\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def load(port: int, calls: int) -> None:
    """Keep-alive callers, each waiting for its answer. Raises if an answer is not 200."""
    numbers = iter(range(calls))

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(call(number))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length))
        writer.close()

    await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def settings(url: str, folder: Path, classifier: Path | None) -> dict[str, dict[str, Any]]:
    plain = {"router": "bench/router", "llm": {"url": f"{url}/v1"}}
    pool = {"name": "p", "chat_template": TEMPLATE, "endpoints": []}
    specialist = {"name": "s", "cluster": "s", "fingerprints": ["none"]}
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    deciding = {**plain, "pools": [pool], "specialists": [specialist]}
    if classifier is not None:
        shutil.copy(classifier, folder / "classifier")
        digest = hashlib.sha256(classifier.read_bytes()).hexdigest()
        deciding["classifier"] = {"path": "classifier", "digest": f"sha256:{digest}"}
    capture = {"enabled": True, "recipients": [recipient]}
    return {
        "pass-through": plain,
        "deciding": deciding,
        "capture": {**plain, "capture": capture},
        "everything on": {**deciding, "capture": capture},
    }


def start_gateway(table: dict[str, Any], folder: Path, name: str) -> tuple[subprocess.Popen[str], int]:
    path = folder / f"{name.replace(' ', '-')}.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    command = "import typer; from slmfleet.cli.gateway import gateway; typer.run(gateway)"
    arguments = ["--table", str(path), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", str(folder)]
    process = subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "Listening":
            return process, int(event["listen"].rpartition(":")[2])
    raise RuntimeError("the gateway did not start")


async def measure(calls: int, rounds: int, classifier: Path | None, folder: Path) -> dict[str, Any]:
    server = subprocess.Popen([sys.executable, __file__, "--upstream"], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    gateways = {name: start_gateway(table, folder, name) for name, table in settings(url, folder, classifier).items()}
    costs: dict[str, list[float]] = {name: [] for name in gateways}
    try:
        for _, port in gateways.values():
            await load(port, 500)
        for _ in range(rounds):
            for name, (process, port) in gateways.items():
                before = cpu_seconds(process.pid)
                await load(port, calls)
                costs[name].append((cpu_seconds(process.pid) - before) / calls * 1e6)
        memory = {name: rss_mib(process.pid) for name, (process, _) in gateways.items()}
    finally:
        for process in [server, *(process for process, _ in gateways.values())]:
            process.terminate()
            process.wait(30)
    return {
        name: {
            "cpu_microseconds_per_call": round(statistics.median(found), 1),
            "rounds": [round(cost, 1) for cost in found],
            "rss_mib": round(memory[name], 1),
        }
        for name, found in costs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--classifier", type=Path)
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.upstream:
        uvloop.run(upstream())
        return
    with tempfile.TemporaryDirectory() as folder:
        results = uvloop.run(measure(arguments.calls, arguments.rounds, arguments.classifier, Path(folder)))
    conditions = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "calls": arguments.calls,
        "rounds": arguments.rounds,
        "connections": CONNECTIONS,
        "request_bytes": len(call(1)),
        "classifier": arguments.classifier is not None,
    }
    print(json.dumps({"conditions": conditions, "results": results}, indent=2))


if __name__ == "__main__":
    main()
