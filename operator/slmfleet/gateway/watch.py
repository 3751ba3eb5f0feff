"""Watches the route table's file and swaps tables in. A bad file is refused, and the table before stays.

Polling by stat: it works on every volume, also where the file is replaced by rename or through a link as Kubernetes
mounts do, and 100 ms is well under what a rollout notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slmfleet.gateway.balance import Server
from slmfleet.gateway.log import log
from slmfleet.gateway.table import LoadClassifier, Table, TableError, compile_table, parse
from slmfleet.wire.routes import RouteTable

POLL_SECONDS = 0.1
CLASSIFIER_RETRY_SECONDS = 2.0
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(slots=True)
class Watcher:
    """Polls the file and calls `swap` with every new table, `problem` with what is wrong (None: nothing)."""

    path: Path
    store: Path | None
    load: LoadClassifier | None
    swap: Callable[[Table], None]
    problem: Callable[[str | None], None]
    servers: dict[str, Server] = field(default_factory=dict)
    current: Table | None = None
    _stamp: Stamp = ()
    _retry_at: float = 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await asyncio.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Read the file if it, or a key file it names, changed, or if its classifier is still missing."""
        stamp = self._stamps()
        now = asyncio.get_running_loop().time()
        missing = self.current is not None and self.current.classifier_problem is not None
        if stamp == self._stamp and not (missing and now >= self._retry_at):
            return
        changed, self._stamp, self._retry_at = stamp != self._stamp, stamp, now + CLASSIFIER_RETRY_SECONDS
        if stamp[0] is None:
            return
        try:
            table = await asyncio.to_thread(self._read)
        except TableError as error:
            self._refuse(f"{error}")
            return
        except OSError as error:
            self._refuse(f"(file): {error.strerror}")
            return
        except Exception as error:
            self._refuse(f"(file): {type(error).__name__}")
            return
        self._take(table, changed)

    def _read(self) -> Table | None:
        spec = parse(self.path.read_bytes())
        if self.current is not None and spec.version < self.current.spec.version and _same_router(self.current, spec):
            return None
        return compile_table(spec, self.servers, self.store, self.load, self.current)

    def _take(self, table: Table | None, changed: bool) -> None:
        if table is None:
            log("warning", "TableIgnored", reason="version: lower than the one in use", path=str(self.path))
            return
        if not changed and table.classifier is None:
            return
        self.current = table
        self._stamp = (self._stamp[0], *self._stamps()[1:])  # of the key files that this table names
        self.swap(table)
        self._forget(table)
        self.problem(table.classifier_problem)
        log("info", "TableInUse", version=table.spec.version, specialists=len(table.by_name))
        if table.classifier_problem:
            log("error", "ClassifierMissing", reason=table.classifier_problem, effect="unknown calls go to the LLM")

    def _refuse(self, reason: str) -> None:
        self.problem(reason)
        kept = self.current.spec.version if self.current else None
        log("error", "TableRefused", reason=reason, path=str(self.path), version_in_use=kept)

    def _forget(self, table: Table) -> None:
        """Drop the state of servers that left the table; calls in flight there keep their own reference."""
        known = {endpoint.url for pool in table.spec.pools for endpoint in pool.endpoints}
        for url in [url for url in self.servers if url not in known]:
            del self.servers[url]

    def _stamps(self) -> Stamp:
        spec = self.current.spec if self.current else None
        upstreams = (spec.llm, spec.generalist) if spec else ()
        keys = [upstream.api_key_file for upstream in upstreams if upstream and upstream.api_key_file]
        return (_stamp(self.path), *(_stamp(Path(key)) for key in keys))


def _same_router(current: Table, spec: RouteTable) -> bool:
    return current.spec.router == spec.router


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
