"""Instructions per call inside our gateway, counted by valgrind: a figure that no other work on the machine changes.

    PYTHONPATH=operator python benchmarks/gateway/instructions.py [--calls 500]      (needs Debian's valgrind)

One gateway in one process, with transports that only pass bytes on, so the kernel's share (about a third of a call's
time) is not in it; the log's thread is. Use it to see what a change to the hot path costs, at one percent. It is no
measure of time: caches and branches are not in it, and SHA-256 runs here without the processor's own instructions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parent)]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import load  # noqa: E402
import pyrage  # noqa: E402
import uvloop  # noqa: E402
from fleet import draw, store, table, write_table  # noqa: E402

from slmfleet.gateway.origin import Origin  # noqa: E402
from slmfleet.gateway.protocol import Connection  # noqa: E402
from slmfleet.gateway.server import Gateway, Options  # noqa: E402
from slmfleet.gateway.upstream import Client, UpstreamConnection  # noqa: E402
from slmfleet.recognise import Classifier, frame_fingerprint  # noqa: E402

BY_SPECIALIST = ("a specialist answers", "a specialist answers, no hedging")
STREAMS = ("stream", "everything on, stream")
SETTINGS = ("pass-through", "everything on, frames known", "everything on", *STREAMS, "220 KB", *BY_SPECIALIST)
SPECIALISTS = 100
CHUNKS = 200
_CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"token "}}]}\n\n'
_ANSWER = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}}]}).encode()
_WHOLE = [
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 11:08:33 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (len(_ANSWER), _ANSWER)
]
_TRITON = b'{"text_output":"yes","finish_reason":"stop","num_input_tokens":9,"num_output_tokens":4}'
_SERVED = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_TRITON), _TRITON)
]
_ENDS = (b"0\r\n\r\n", _ANSWER, b'"total_tokens":13}}')
_STREAM = [
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    *[b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)] * CHUNKS,
    b"0\r\n\r\n",
]


class Passing(asyncio.Transport):
    """A transport that hands what is written to a function."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.write = written  # type: ignore[assignment, method-assign]

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class LoopbackClient(Client):
    """Connections that answer at once with the same bytes."""

    answer: list[bytes]

    async def _connect(self, origin: Origin, timeout: float) -> UpstreamConnection:
        connection = UpstreamConnection(self, origin)
        later = self.loop.call_soon
        connection.connection_made(Passing(lambda _: [later(connection.data_received, p) for p in self.answer]))
        self._open[origin] = self._open.get(origin, 0) + 1
        return connection


async def work(setting: str, calls: int) -> None:
    """Send calls one after another, counting from the second part on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = Options(_table(setting, folder, calls), "127.0.0.1:0", "127.0.0.1:0", store=folder)
        gateway = Gateway(options, load=Classifier.load, fingerprint=frame_fingerprint)
        client = LoopbackClient(asyncio.get_running_loop())
        answers = dict.fromkeys(STREAMS, _STREAM) | dict.fromkeys(BY_SPECIALIST, _SERVED)
        client.answer = answers.get(setting, _WHOLE)
        gateway.app.client = gateway.app.specialists._client = client
        await gateway.start()
        requests = _requests(setting)
        await _send(gateway, requests, calls)
        await _logged(gateway)
        subprocess.run(["callgrind_control", "-i", "on", str(os.getpid())], check=True, capture_output=True)  # noqa: ASYNC221
        await _send(gateway, requests, calls)
        await _logged(gateway)
        subprocess.run(["callgrind_control", "-i", "off", str(os.getpid())], check=True, capture_output=True)  # noqa: ASYNC221
        await gateway.stop()


async def _logged(gateway: Gateway) -> None:
    """Until the log's thread has done its part of all calls so far."""
    counter = gateway.app.counters.capture
    while counter.records < counter.noted:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def _send(gateway: Gateway, requests: list[bytes], calls: int) -> None:
    loop = asyncio.get_running_loop()
    done, left = loop.create_future(), iter(range(calls))

    def following() -> None:
        number = next(left, None)
        if number is None:
            done.set_result(None)
            return
        connection.data_received(requests[number % len(requests)])

    def written(data: bytes) -> None:
        if data.endswith(_ENDS):
            loop.call_soon(following)

    connection = Connection(gateway.public)
    connection.connection_made(Passing(written))
    following()
    await done


def _table(setting: str, folder: Path, calls: int) -> Path:
    llm = "http://127.0.0.1:1/v1"
    content: dict[str, Any] = {"router": "bench/router", "llm": {"url": llm}}
    if setting.startswith("everything") or setting == "220 KB":
        made = store(Path("~/.cache/slmfleet/bench").expanduser(), SPECIALISTS) / "classifier"
        (folder / "classifier").write_bytes(made.read_bytes())
        recipient = str(pyrage.x25519.Identity.generate().to_public())
        capture = {"enabled": True, "recipients": [recipient], "body_limit_bytes": 16_384}
        capture |= {"segment_records": calls, "segment_seconds": 600}  # always one segment
        content = table(draw(SPECIALISTS), folder / "classifier", llm) | {"capture": capture}
    if setting in BY_SPECIALIST:
        content |= _pool_of_two() | ({"hedge_percent": 0} if setting == BY_SPECIALIST[1] else {})
    return write_table(folder / "table.json", content)


def _pool_of_two() -> dict[str, Any]:
    """A specialist on two servers, which every call names."""
    endpoints = [{"url": f"http://127.0.0.1:{port}", "adapters": ["one"]} for port in (2, 3)]
    stable = {"name": "one", "adapter": "one", "pool": "p"}
    output = {"type": "label", "labels": ["yes", "no"]}
    return {
        "pools": [{"name": "p", "chat_template": "{{ messages[0].content }}", "endpoints": endpoints}],
        "specialists": [{"name": "big", "cluster": "big", "output": output, "stable": stable}],
    }


def _requests(setting: str) -> list[bytes]:
    size = load.PAYLOADS["220 KB" if setting == "220 KB" else "1 KB"]
    texts = load.bodies(draw(SPECIALISTS), size, stream=setting in STREAMS)
    known = [text for number, text in enumerate(texts) if number % load.UNKNOWN or "known" not in setting]
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: x\r\ncontent-type: application/json\r\n"
    bodies = [text.replace(load.MARK, str(number)).encode() for number, text in enumerate(known)]
    return [head + b"content-length: %d\r\n\r\n%b" % (len(body), body) for body in bodies]


def count(setting: str, calls: int) -> float:
    """Instructions per call of a setting (per chunk of a stream)."""
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    argv = [*valgrind, sys.executable, __file__, "--work", setting, "--calls", str(calls)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.findall(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{setting}: {done.stderr[-500:]}")
    return sum(map(int, found)) / calls / (CHUNKS if setting in STREAMS else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--work", choices=SETTINGS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        uvloop.run(work(chosen.work, chosen.calls))
        return
    for setting in SETTINGS:
        calls = max(1, chosen.calls // 20) if setting in STREAMS else chosen.calls
        print(f"{setting}: {count(setting, calls):,.0f}", flush=True)


if __name__ == "__main__":
    main()
