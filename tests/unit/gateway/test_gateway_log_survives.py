"""The log's promise: what the gateway acknowledged survives SIGKILL, of the process and of its pod, and a full store.

What it did not is counted. These run the real command; the mounts and namespaces are their own and leave nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gateway_fakes import FakeLlm, chat, table
from gateway_processes import Running, as_pod, start, with_mount

from slmfleet.store.segments import read_directory


@dataclass
class Site:
    """What a gateway process needs: an LLM, a table, a store, and the key of the log."""

    folder: Path
    identity: Any
    llm: FakeLlm
    started: list[Running] = field(default_factory=list)

    async def start(self, within: Sequence[str] = (), **capture: Any) -> Running:
        """A gateway whose table has this capture."""
        self.started.append(await start(*self.arguments(**capture), within=within))
        return self.started[-1]

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def arguments(self, **capture: Any) -> list[str]:
        content = table(self.llm.url, "http://127.0.0.1:9", str(self.identity.to_public()))
        content["capture"] |= capture
        path = self.folder / "table.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return ["--table", str(path), "--store", str(self.store)]

    def log(self, store: Path | None = None) -> list[int]:
        """The numbers of the calls in the log, in its order; fails on a torn segment."""
        reader = read_directory((store or self.store) / "usage", [str(self.identity)])
        found = [int(json.loads(record)["request"]["messages"][0]["content"].split()[0]) for record in reader]
        assert reader.broken == []
        return found


@pytest.fixture
async def site(tmp_path: Path, identity: Any) -> AsyncIterator[Site]:
    llm = FakeLlm()
    await llm.start()
    (tmp_path / "store").mkdir()
    made = Site(tmp_path, identity, llm)
    yield made
    for each in made.started:
        if each.process.returncode is None:
            each.process.kill()
            await each.process.wait()
    await llm.stop()


def numbered(number: int, size: int = 0) -> dict[str, Any]:
    """A call that says its number; with `size` random bytes, as hex, that do not compress to less than them."""
    return chat(f"{number} {os.urandom(size).hex()}")


async def test_a_killed_process_loses_what_was_not_acknowledged_and_nothing_else(site: Site) -> None:
    gateway = await site.start(segment_records=10, segment_seconds=3600)
    for number in range(95):
        assert await gateway.post(numbered(number)) == 200
    told = await gateway.until(lambda log: log["records"] == 90)
    assert (told["unacknowledged"], told["dropped"]) == (5, 0)
    gateway.process.kill()
    await gateway.process.wait()
    assert site.log() == list(range(90))


async def test_a_kill_under_load_tears_no_segment_and_takes_only_the_window(site: Site) -> None:
    """The window is what the signals said it was: every call that is older than their oldest unacknowledged record is
    in the log. A call is surely noted once its caller has the answer to the next one."""
    gateway = await site.start(segment_records=7, segment_seconds=0.05)
    answered: list[list[tuple[int, float]]] = [[] for _ in range(6)]

    async def caller(own: int) -> None:
        number = own
        while await gateway.post(numbered(number, 500)) == 200:
            answered[own].append((number, time.monotonic()))
            number += len(answered)

    callers = [asyncio.create_task(caller(own)) for own in range(len(answered))]
    told, asked = {"records": 0}, 0.0
    while told["records"] < 150:
        asked = time.monotonic()
        told = await gateway.signals()
    gateway.process.kill()
    await gateway.process.wait()
    await asyncio.wait(callers)
    assert all(isinstance(each.exception(), (OSError, EOFError)) for each in callers)
    found = site.log()
    assert len(found) == len(set(found)) >= told["records"]
    oldest = asked - told["unacknowledged_seconds"] - 0.001
    old = {row[at][0] for row in answered for at in range(len(row) - 1) if row[at + 1][1] < oldest}
    assert old
    assert old <= set(found)


async def test_a_killed_pod_takes_its_disk_and_no_acknowledged_record(site: Site) -> None:
    """Its first process gets SIGKILL, as from the kubelet. The next pod finds the log whole and goes on with it."""
    disk = site.folder / "disk"
    disk.mkdir()
    own = ["env", f"TMPDIR={disk}", f"HOME={disk}", *as_pod(disk)]
    pod = await site.start(own, segment_records=10, segment_seconds=3600)
    for number in range(34):
        assert await pod.post(numbered(number)) == 200
    assert (await pod.until(lambda log: log["records"] == 30))["unacknowledged"] == 4
    os.kill(first_process(pod), signal.SIGKILL)
    await pod.process.wait()
    assert list(disk.iterdir()) == []
    assert site.log() == list(range(30))
    after = await site.start(segment_records=10, segment_seconds=3600)
    for number in range(34, 64):
        assert await after.post(numbered(number)) == 200
    await after.until(lambda log: log["records"] == 30)
    after.process.terminate()
    assert await after.process.wait() == 0
    assert sorted(site.log()) == [*range(30), *range(34, 64)]


def first_process(pod: Running) -> int:
    """Process 1 of the pod's namespace, as this side numbers it."""
    children = Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text(encoding="utf-8").split()
    assert len(children) == 1
    status = Path(f"/proc/{children[0]}/status").read_text(encoding="utf-8")
    assert status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
    return int(children[0])


async def test_a_full_store_tears_nothing_keeps_the_oldest_and_counts_every_drop(site: Site) -> None:
    """On a file system of its own that fills up and is freed again. Each call is 32 KiB that do not compress."""
    small = with_mount(site.store, "1m")
    gateway = await site.start(small, segment_records=4, segment_seconds=0.1, buffer_bytes=1 << 20)
    store = Path(f"/proc/{gateway.process.pid}/root{site.store}")
    calls = iter(range(1000))
    sent: list[int] = []

    async def send(count: int) -> None:
        for number in (next(calls) for _ in range(count)):
            assert await gateway.post(numbered(number, 16 << 10)) == 200
            sent.append(number)

    await send(4)
    written = await gateway.until(lambda log: log["records"] == 4)
    assert written["failing"] is None
    (store / "filler").write_bytes(bytes(filling(store)))
    await send(8)
    full = await gateway.until(lambda log: log["failing"])
    assert "No space left on device" in full["failing"]
    assert (full["dropped"], full["unacknowledged"]) == (0, 12 - full["records"])
    assert set(site.log(store)) == set(range(full["records"]))
    (store / "filler").unlink()
    freed = await gateway.until(lambda log: log["unacknowledged"] == 0)
    assert (freed["failing"], freed["dropped"], freed["records"], freed["buffered_bytes"]) == (None, 0, 12, 0)
    assert site.log(store) == list(range(12))
    (store / "filler").write_bytes(bytes(filling(store)))
    await send(100)
    over = await gateway.until(lambda log: log["failing"] and log["dropped"])
    assert over["records"] + over["unacknowledged"] + over["dropped"] == 112
    assert over["buffered_bytes"] <= over["buffer_bytes"] == 1 << 20
    for path in [*files(store, ".seg"), store / "filler"]:
        path.unlink()
    done = await gateway.until(lambda log: log["unacknowledged"] == 0)
    assert (done["failing"], done["dropped"]) == (None, over["dropped"])
    kept = site.log(store)
    assert kept[:25] == sent[12:37]
    assert kept == sorted(set(kept))
    assert done["records"] == 12 + len(kept) == 112 - over["dropped"]
    assert files(store, ".tmp") == []
    gateway.process.terminate()
    assert await gateway.process.wait() == 0


def files(store: Path, suffix: str) -> list[Path]:
    return list(store.rglob(f"*{suffix}"))


def filling(store: Path) -> int:
    """Bytes that fill the file system but for two pages."""
    free = os.statvfs(store)
    return max(0, free.f_bavail * free.f_frsize - 8192)
