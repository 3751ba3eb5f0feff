"""Many processes on one port: a supervisor that starts them, replaces what dies or hangs, and speaks for all on one
admin port.

Every worker listens by itself (SO_REUSEPORT: the kernel spreads connections); the supervisor holds the port but never
listens on it, so it is in no call's way. Workers are started by exec, get their options through a pipe, and drain when
that pipe closes, so none outlives its supervisor. Bounds of one gateway (calls in flight per server, bytes of the log's
buffer) are divided among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import secrets
import signal
import socket
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from slmfleet.gateway.admin import TEXT
from slmfleet.gateway.binding import EVERYWHERE, everywhere
from slmfleet.gateway.exchange import JSON, Exchange
from slmfleet.gateway.heartbeat import end_when_silent, tell_where_it_stands
from slmfleet.gateway.log import log
from slmfleet.gateway.protocol import Server
from slmfleet.gateway.server import FLUSH_SECONDS, Options, address_of, listen, serve
from slmfleet.gateway.summing import sum_metrics, sum_signals
from slmfleet.gateway.table import Fingerprint, LoadClassifier
from slmfleet.gateway.windows import make as make_windows
from slmfleet.wire.addresses import authority, host_and_port

ASK_SECONDS = 2.0
SHORT_LIFE_SECONDS = 5.0
RESTART_SECONDS = 0.5
RESTART_SECONDS_MAX = 10.0
GRACE_SECONDS = FLUSH_SECONDS + 5.0
_START = "from slmfleet.gateway.workers import work; work()"
Page = tuple[int, tuple[bytes, bytes], bytes]


class Worker:
    """One process, and what it last told."""

    def __init__(self, process: asyncio.subprocess.Process, socket_path: Path) -> None:
        self.process = process
        self.told: dict[bytes, bytes] = {}
        self.has_answered = False
        self._socket = socket_path

    async def answers(self) -> bool:
        """Whether its event loop runs."""
        return await self.ask(b"/healthz") is not None

    async def ask(self, page: bytes) -> tuple[int, bytes] | None:
        """A page of its admin port; None while it does not answer."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(b"GET %b HTTP/1.0\r\nhost: worker\r\n\r\n" % page)
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                finally:
                    writer.close()
            status = int(head.split(b" ", 2)[1])
        except (OSError, ValueError, IndexError, TimeoutError):
            return None
        self.has_answered = True
        if status == 200:
            self.told[page] = body
        return status, body


class Supervisor:
    """Keeps `count` workers alive until it is told to stop."""

    def __init__(
        self, options: Options, count: int, *, load: LoadClassifier | None, fingerprint: Fingerprint | None
    ) -> None:
        self._options = options
        self._count = count
        self._load = load
        self._fingerprint = fingerprint
        self._instance = f"{socket.gethostname()[:40]}-{os.getpid():x}-{secrets.token_hex(4)}"
        self._started = time.monotonic()
        self._draining = False
        self._workers: dict[int, Worker] = {}
        self._gone: dict[bytes, bytes] = {}  # by page: what all dead workers told, as one

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then the workers drain. Raises OSError or ValueError for an unusable address."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        with reserve(self._options.listen) as held, tempfile.TemporaryDirectory(prefix="slmfleet-") as folder:
            admin_server = Server(self._admin, self._options.limits, loop)
            admin = await listen(admin_server, self._options.admin)
            address = authority(*held.getsockname()[:2])
            windows = Path(folder) / "windows"
            make_windows(windows)
            shared = _of_one_worker(self._options, self._count, address, windows)
            keepers = [asyncio.create_task(self._keep(n, shared, Path(folder))) for n in range(self._count)]
            log(
                "info", "Supervising", listen=address, admin=address_of(admin), workers=self._count,
                instance=self._instance,
            )  # fmt: skip
            await stopping.wait()
            await self._drain(keepers)
            admin.close()
            admin_server.close()

    async def _keep(self, number: int, options: Options, folder: Path) -> None:
        """Start worker `number`, and again whenever it ends."""
        options = replace(options, admin=f"unix:{folder}/{number}")
        short_lives = 0
        while True:
            begun = time.monotonic()
            ended = await self._live(number, options, folder / str(number))
            if self._draining:
                return
            short_lives = short_lives + 1 if time.monotonic() - begun < SHORT_LIFE_SECONDS else 0
            wait = min(RESTART_SECONDS * 2**short_lives, RESTART_SECONDS_MAX) if short_lives else 0.0
            log("error", "WorkerDied", worker=number, **ended, restart_seconds=wait)
            await asyncio.sleep(wait)

    async def _live(self, number: int, options: Options, admin: Path) -> dict[str, Any]:
        """One life of a worker, and how it ended."""
        try:
            worker = self._workers[number] = await self._start(options, admin)
        except OSError as error:
            return {"reason": f"it cannot be started: {error.strerror}"}
        watching = asyncio.create_task(end_when_silent(worker, self._options.silent_seconds, time.monotonic))
        code = await worker.process.wait()
        watching.cancel()
        del self._workers[number]
        self._remember(worker)
        return {"pid": worker.process.pid, "code": code}

    async def _start(self, options: Options, admin: Path) -> Worker:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(admin)  # noqa: PTH108  (of the one before; a few microseconds)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _START, stdin=asyncio.subprocess.PIPE)
        assert process.stdin is not None
        data = pickle.dumps((options, self._load, self._fingerprint))
        process.stdin.write(len(data).to_bytes(8) + data)
        log("info", "WorkerStarted", pid=process.pid)
        return Worker(process, admin)

    def _remember(self, worker: Worker) -> None:
        """Fold what a dead worker told into what those before it told."""
        for page, told in worker.told.items():
            if page not in (b"/signals", b"/metrics"):
                continue
            both = [told, self._gone[page]] if page in self._gone else [told]
            self._gone[page] = self._summed(page, [], both)

    async def _drain(self, keepers: list[asyncio.Task[None]]) -> None:
        self._draining = True
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        for number, keeper in enumerate(keepers):
            if number not in self._workers:  # it waits to start another
                keeper.cancel()
        _, late = await asyncio.wait(keepers, timeout=self._options.drain_seconds + GRACE_SECONDS)
        for worker in list(self._workers.values()) if late else ():
            log("error", "WorkerKilled", pid=worker.process.pid, reason="it did not end in time")
            worker.process.kill()

    # --- the admin port ---

    async def _admin(self, exchange: Exchange) -> None:
        pages = {
            b"/healthz": self._healthz,
            b"/readyz": self._readyz,
            b"/signals": self._signals,
            b"/metrics": self._metrics,
            b"/table": self._table,
        }
        page = pages.get(exchange.request.path)
        status, header, body = await page() if page else (404, JSON, b'{"error":"no such page"}')
        exchange.send(status, [header], body)

    async def _ask_all(self, page: bytes) -> list[tuple[int, bytes]]:
        answers = await asyncio.gather(*(worker.ask(page) for worker in list(self._workers.values())))
        return [answer for answer in answers if answer is not None]

    async def _healthz(self) -> Page:
        well = bool(await self._ask_all(b"/healthz")) and not self._draining
        state = "ok" if well else "draining" if self._draining else "no worker answers"
        return 200 if well else 503, JSON, orjson.dumps({"status": state})

    async def _readyz(self) -> Page:
        """Ready when every worker that accepts calls is; one that starts does not accept any yet."""
        answers = await self._ask_all(b"/readyz")
        reason = next((body for status, body in answers if status != 200), None)
        if reason is not None:
            return 503, JSON, reason
        if not answers:
            return 503, JSON, orjson.dumps({"ready": False, "reason": "no worker answers"})
        return 200, JSON, orjson.dumps({"ready": True, "reason": None, "workers": len(answers)})

    async def _table(self) -> Page:
        answers = await self._ask_all(b"/table")
        status, body = min(answers, key=lambda answer: answer[0] == 200) if answers else (503, b"{}")
        return status, JSON, body

    async def _signals(self) -> Page:
        return 200, JSON, await self._sum(b"/signals")

    async def _metrics(self) -> Page:
        return 200, TEXT, await self._sum(b"/metrics")

    async def _sum(self, page: bytes) -> bytes:
        """Of all workers; one that does not answer now counts with what it last told."""
        await self._ask_all(page)
        alive = [worker.told[page] for worker in self._workers.values() if page in worker.told]
        return self._summed(page, alive, [self._gone[page]] if page in self._gone else [])

    def _summed(self, page: bytes, alive: list[bytes], gone: list[bytes]) -> bytes:
        if page == b"/metrics":
            return sum_metrics([told.decode() for told in alive], [told.decode() for told in gone])
        uptime = time.monotonic() - self._started
        summed = sum_signals(self._instance, uptime, [*map(orjson.loads, alive)], [*map(orjson.loads, gone)])
        return summed.model_dump_json(by_alias=True).encode()


def reserve(address: str) -> socket.socket:
    """Hold HOST:PORT for workers that listen there. Raises OSError where somebody does, ValueError for no address."""
    host, port = host_and_port(address)
    if host in EVERYWHERE:
        everywhere(port).close()  # a second gateway would share the port silently
        return everywhere(port, shared=True)
    family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family) as probe:  # as above
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(place)
    return held


def _of_one_worker(options: Options, count: int, address: str, windows: Path) -> Options:
    return replace(
        options,
        listen=address,
        processes=count,
        windows=windows,
        origin_key=options.origin_key or secrets.token_bytes(32),
    )


def work() -> None:
    """The worker's side: options from standard input, whose end is the supervisor's end."""
    import uvloop

    pipe = sys.stdin.fileno()
    size = int.from_bytes(_exactly(pipe, 8))
    tell_where_it_stands()
    options, load, fingerprint = pickle.loads(_exactly(pipe, size))
    uvloop.run(serve(options, load=load, fingerprint=fingerprint, parent=pipe))


def _exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            raise SystemExit(1)
        data += piece
    return data
