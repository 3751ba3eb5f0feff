"""The process: listeners, table watcher, capture; and its end, which loses nothing.

On SIGTERM health and readiness turn 503 and answers carry `Connection: close`, but the port stays open, since callers
learn of it late. It closes when no call has been in flight for a moment, or at half of the drain time; what is still
in flight then may go on to the drain's end. Last, the log is flushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from slmfleet.gateway.accesslog import AccessLog
from slmfleet.gateway.admin import Admin, registry
from slmfleet.gateway.allocator import collect_seldom, keep_buffers
from slmfleet.gateway.app import App
from slmfleet.gateway.binding import EVERYWHERE, everywhere
from slmfleet.gateway.call import Calls
from slmfleet.gateway.capture import Capture
from slmfleet.gateway.counters import Counters
from slmfleet.gateway.exchange import Limits
from slmfleet.gateway.expiry import keep_expiring
from slmfleet.gateway.generalist import Generalists
from slmfleet.gateway.heartbeat import SILENT_SECONDS
from slmfleet.gateway.log import log
from slmfleet.gateway.otlp import Collector, Exporter
from slmfleet.gateway.protocol import Connection, Handler, Server
from slmfleet.gateway.ratelimit import RateLimits
from slmfleet.gateway.seeing import Watch
from slmfleet.gateway.shadow import Shadow
from slmfleet.gateway.specialist import Specialists
from slmfleet.gateway.table import Fingerprint, LoadClassifier
from slmfleet.gateway.tls import Certificate
from slmfleet.gateway.upstream import Client
from slmfleet.gateway.watch import Watcher
from slmfleet.gateway.windows import SharedWindows
from slmfleet.wire.addresses import authority, host_and_port

SWEEP_SECONDS = 5.0
QUIET_SECONDS = 0.5
FLUSH_SECONDS = 5.0
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Seeing:
    """What is told of calls beside the metrics; all off unless asked for."""

    access_log_percent: float = 0.0
    collector: Collector | None = None
    trace_percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    table: Path
    listen: str = "[::]:8080"
    admin: str = "[::]:9090"
    store: Path | None = None
    origin_key: bytes | None = None
    drain_seconds: float = 20.0
    capture_buffer_bytes: int | None = None  # before the table's
    limits: Limits = field(default_factory=Limits)
    tls: tuple[Path, Path] | None = None  # certificate chain and key of the public port
    processes: int = 1  # that share the public port, each pool's bound on calls in flight, the log's buffer
    seeing: Seeing = field(default_factory=Seeing)
    silent_seconds: float = SILENT_SECONDS  # after which a worker counts as hung
    windows: Path | None = None  # where the workers count what each key sent (`gateway.windows`)


class Gateway:
    """One gateway process, put together. Tests run it inside their own loop."""

    def __init__(
        self, options: Options, *, load: LoadClassifier | None = None, fingerprint: Fingerprint | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        instance = f"{socket.gethostname()[:40]}-{os.getpid():x}-{secrets.token_hex(4)}"
        self.options = options
        self.counters = Counters(instance, time.monotonic)
        self.client = Client(loop)
        origin_key = options.origin_key or secrets.token_bytes(32)
        self.watch = _watch(options.seeing, origin_key, instance)
        specialists = Specialists(
            self.client, self.counters, time.monotonic, random.Random(), processes=options.processes
        )
        self.capture = Capture(
            options.store,
            instance,
            origin_key,
            options.capture_buffer_bytes,
            self.counters.capture,
            processes=options.processes,
        )
        shared = SharedWindows(options.windows, time.monotonic) if options.windows is not None else None
        limits = RateLimits(time.monotonic, shared, salt=origin_key[:64])
        self.app = App(
            client=self.client,
            counters=self.counters,
            specialists=specialists,
            generalists=Generalists(
                self.client, self.counters, self.capture, time.monotonic, limits, options.processes
            ),
            shadows=Shadow(specialists, self.counters),
            capture=self.capture,
            calls=Calls(instance, time.monotonic, time.time),
            clock=time.monotonic,
            limits=limits,
            fingerprint=fingerprint,
            watch=self.watch,
        )
        self.watcher = Watcher(options.table, options.store, load, self.app.swap, self._table_problem)
        self.public = Server(self.app, options.limits, loop)
        admin: Handler = Admin(self.app, lambda: self.public.draining, registry(self.counters, self.watch))
        self.admin = Server(admin, options.limits, loop)
        self._certificate = Certificate(*options.tls) if options.tls else None
        self._listeners: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen and follow the table. A table that is there already is in use when this returns."""
        await self.watcher.look()
        self.app.shadows.start()
        if self.watch is not None:
            self.watch.start()
        self._listeners = [
            await listen(self.public, self.options.listen, self._certificate, shared=self.options.processes > 1),
            await listen(self.admin, self.options.admin),
        ]
        expiring = keep_expiring(self.options.store, lambda: self.app.table, self.counters.capture)
        self._tasks = [asyncio.create_task(each) for each in (self.watcher.run(), self._sweep(), expiring)]
        log("info", "Listening", listen=self.address, admin=self.admin_address, instance=self.counters.instance)

    @property
    def address(self) -> str:
        return address_of(self._listeners[0])

    @property
    def admin_address(self) -> str:
        return address_of(self._listeners[1])

    async def drain(self) -> None:
        """Finish what is in flight, close, flush the log."""
        loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        deadline = begun + self.options.drain_seconds
        self.public.draining = True
        log("info", "Draining", in_flight=self.public.in_flight)
        await _until(lambda: self._quiet(loop.time(), begun), begun + self.options.drain_seconds / 2)
        self._listeners[0].close()
        await _until(lambda: not self.public.in_flight, deadline)
        await self.stop()

    async def stop(self) -> None:
        """Close everything now; the log is still flushed."""
        cut = self.public.in_flight
        for task in self._tasks:
            task.cancel()
        self.app.shadows.stop()
        for listener in self._listeners:
            listener.close()
        self.public.draining = True
        self.public.close()
        await asyncio.sleep(0.05)  # let cancelled calls write their errors
        self.admin.close()
        self.client.close()
        await asyncio.to_thread(self.capture.close, FLUSH_SECONDS)
        if self.watch is not None:
            await asyncio.to_thread(self.watch.close, FLUSH_SECONDS)
        capture = self.counters.capture
        log("info", "Stopped", calls_cut=cut, records=capture.records, records_dropped=capture.dropped)

    def _quiet(self, now: float, begun: float) -> bool:
        return self.public.in_flight == 0 and now - max(self.public.last_activity, begun) >= QUIET_SECONDS

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.public.sweep()
            self.admin.sweep()
            if self._certificate is not None:
                self._certificate.refresh()

    def _table_problem(self, problem: str | None) -> None:
        self.counters.table_problem = problem


def _watch(seeing: Seeing, origin_key: bytes, instance: str) -> Watch | None:
    """None where nobody looks: then calls pay for nothing."""
    if not seeing.access_log_percent and seeing.collector is None:
        return None
    collector = seeing.collector
    if collector is not None:
        collector = replace(collector, resource={**collector.resource, "service.instance.id": instance})
    return Watch(
        time.monotonic,
        time.time,
        origin_key,
        access_log=AccessLog(seeing.access_log_percent, random.Random()) if seeing.access_log_percent else None,
        exporter=Exporter(collector) if collector is not None else None,
        trace_percent=seeing.trace_percent,
    )


async def serve(
    options: Options, *, load: LoadClassifier | None, fingerprint: Fingerprint | None, parent: int | None = None
) -> None:
    """Run until SIGTERM or SIGINT, or until the pipe `parent` (a file descriptor) closes; then drain."""
    keep_buffers()
    gateway = Gateway(options, load=load, fingerprint=fingerprint)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if parent is not None:
        loop.add_reader(parent, stopping.set)
    await gateway.start()
    collect_seldom()
    await stopping.wait()
    if parent is not None:
        loop.remove_reader(parent)
    await gateway.drain()


async def listen(
    server: Server, address: str, certificate: Certificate | None = None, *, shared: bool = False
) -> asyncio.Server:
    """Open a listener on HOST:PORT (`shared`: with other processes) or unix:PATH. An empty host, or [::], is every
    address of the machine.

    Raises OSError, or ValueError for an address that is none.
    """
    loop = asyncio.get_running_loop()
    if address.startswith("unix:"):
        return await loop.create_unix_server(lambda: Connection(server), address.removeprefix("unix:"))
    host, port = host_and_port(address)
    tls = certificate.context if certificate else None
    if host in EVERYWHERE:
        bound = everywhere(port, shared=shared)
        return await loop.create_server(lambda: Connection(server), sock=bound, backlog=BACKLOG, ssl=tls)
    return await loop.create_server(
        lambda: Connection(server),
        host,
        port,
        backlog=BACKLOG,
        reuse_address=True,
        reuse_port=shared,
        ssl=tls,
    )


async def _until(done: Callable[[], bool], deadline: float) -> None:
    clock = asyncio.get_running_loop().time
    while clock() < deadline and not done():  # noqa: ASYNC110  (a poll, so that no call pays for the drain)
        await asyncio.sleep(0.02)


def address_of(listener: asyncio.Server) -> str:
    """Where a listener listens, as `listen` takes it; `closed` where it does not."""
    with contextlib.suppress(IndexError, OSError):
        name = listener.sockets[0].getsockname()
        return f"unix:{name}" if isinstance(name, str) else authority(name[0], name[1])
    return "closed"
