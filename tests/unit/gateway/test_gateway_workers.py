"""Many processes on one port: all serve, all are summed, a dead one is replaced, none is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_fakes import Answer, Caller, FakeLlm, FakeTriton, Heard, chat, table
from gateway_virtual import virtual
from prometheus_client.parser import text_string_to_metric_families

from slmfleet.gateway.admin import registry
from slmfleet.gateway.balance import share_of
from slmfleet.gateway.counters import CaptureCounter, Counters
from slmfleet.gateway.heartbeat import TOLD_SECONDS, end_when_silent
from slmfleet.gateway.summing import sum_metrics, sum_signals
from slmfleet.gateway.workers import reserve
from slmfleet.store.segments import read_directory

COMMAND = [sys.executable, "-c", "import typer; from slmfleet.cli.gateway import gateway; typer.run(gateway)"]


@dataclass
class Fleet:
    """A gateway of two workers, and its log lines as they come."""

    process: asyncio.subprocess.Process
    llm: FakeLlm
    folder: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    async def seen(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Read the log until this event came `count` times."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while len(found := [line for line in self.events if line["event"] == event]) < count:
                line = await self.process.stdout.readline()
                if not line:
                    raise AssertionError(f"the gateway ended: {self.events}")
                self.events.append(json.loads(line))
        return found

    async def ask(self, address: str, data: bytes) -> Answer:
        host, _, port = address.rpartition(":")
        caller = Caller(*await asyncio.open_connection(host, int(port)))
        try:
            caller.send(data)
            async with asyncio.timeout(60):
                return await caller.answer()
        finally:
            caller.close()

    async def admin(self, page: str) -> Answer:
        [up] = await self.seen("Supervising")
        return await self.ask(up["admin"], f"GET {page} HTTP/1.1\r\nhost: g\r\n\r\n".encode())

    async def post(self, body: Any) -> int:
        [up] = await self.seen("Supervising")
        data = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n" % len(data)
        return (await self.ask(up["listen"], head + data)).status

    async def pids(self) -> list[int]:
        return [event["pid"] for event in await self.seen("WorkerStarted", 2)]

    def records(self, identity: Any) -> list[dict[str, Any]]:
        return [json.loads(record) for record in read_directory(self.folder / "store", [str(identity)])]

    def writers(self) -> int:
        """Distinct processes that wrote segments."""
        return len({path.name.rpartition("-")[0] for path in (self.folder / "store").rglob("*.seg")})


@pytest.fixture
async def fleet(tmp_path: Path, identity: Any) -> AsyncIterator[Fleet]:
    llm, triton = FakeLlm(), FakeTriton()
    await llm.start()
    await triton.start()
    path = tmp_path / "table.json"
    content = table(llm.url, triton.url, str(identity.to_public()))
    content["pools"][0]["max_in_flight"] = 1000
    path.write_text(json.dumps(content), encoding="utf-8")
    arguments = [
        "--table", str(path), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", str(tmp_path / "store"),
        "--workers", "2", "--drain-seconds", "5",
    ]  # fmt: skip
    scratch = tempfile.mkdtemp()  # a killed supervisor leaves its sockets; a short path, since theirs is bounded
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": scratch}
    )
    made = Fleet(process, llm, tmp_path)
    await made.seen("Listening", 2)
    yield made
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.read()  # to its end: every worker has ended, too
        await process.wait()
    shutil.rmtree(scratch)
    await llm.stop()
    await triton.stop()


def owned(text: str) -> dict[str, Any]:
    """A call that names its specialist."""
    return {**chat(text), "model": "intents"}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_calls_spread_over_the_workers_are_summed_on_one_admin_port(fleet: Fleet, identity: Any) -> None:
    statuses = await asyncio.gather(*(fleet.post(chat(str(n)) if n % 2 else owned(str(n))) for n in range(60)))
    assert set(statuses) == {200}
    ready = await fleet.admin("/readyz")
    assert (ready.status, ready.json["workers"]) == (200, 2)
    signals = (await fleet.admin("/signals")).json
    assert (signals["tiers"]["llm"]["calls"], signals["tiers"]["specialist"]["calls"]) == (30, 30)
    assert signals["table_version"] == 1
    metrics = (await fleet.admin("/metrics")).body
    assert b'slmfleet_gateway_calls_total{tier="llm"} 30.0' in metrics
    assert (await fleet.admin("/table")).json["specialists"] == ["intents"]
    assert (await fleet.admin("/healthz")).status == 200
    assert (await fleet.admin("/nope")).status == 404
    fleet.process.terminate()
    assert await fleet.process.wait() == 0
    assert len({record["id"] for record in fleet.records(identity)}) == 60
    assert fleet.writers() == 2


async def test_a_worker_that_dies_is_replaced_and_no_total_falls(fleet: Fleet) -> None:
    assert set(await asyncio.gather(*(fleet.post(chat(str(n))) for n in range(20)))) == {200}
    assert (await fleet.admin("/signals")).json["tiers"]["llm"]["calls"] == 20
    assert b'calls_total{tier="llm"} 20.0' in (await fleet.admin("/metrics")).body
    for pid in await fleet.pids():
        os.kill(pid, signal.SIGKILL)
    died = await fleet.seen("WorkerDied", 2)
    assert {event["code"] for event in died} == {-signal.SIGKILL}
    await fleet.seen("Listening", 4)
    assert set(await asyncio.gather(*(fleet.post(chat(str(n))) for n in range(10)))) == {200}
    assert (await fleet.admin("/signals")).json["tiers"]["llm"]["calls"] == 30
    assert b'calls_total{tier="llm"} 30.0' in (await fleet.admin("/metrics")).body


async def test_sigterm_under_load_loses_no_call_and_no_record(fleet: Fleet, identity: Any) -> None:
    go = asyncio.Event()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await fleet.llm.default(heard, writer)

    fleet.llm.reply = reply
    calls = [asyncio.create_task(fleet.post(chat(str(n)))) for n in range(40)]
    async with asyncio.timeout(60):
        while len(fleet.llm.heard) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    fleet.process.terminate()
    await fleet.seen("Draining", 2)
    late = await fleet.post(owned("after SIGTERM"))
    go.set()
    assert set(await asyncio.gather(*calls)) == {200}
    assert late == 200
    assert await fleet.process.wait() == 0
    assert len({record["id"] for record in fleet.records(identity)}) == 41


async def test_a_keys_limit_holds_for_all_workers_together(fleet: Fleet) -> None:
    path = fleet.folder / "table.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    (fleet.folder / "new").write_text(json.dumps(content | {"version": 2, "limits": {"requests_per_minute": 20}}))
    (fleet.folder / "new").replace(path)
    while sum(event["version"] == 2 for event in await fleet.seen("TableInUse")) < 2:
        await fleet.seen("TableInUse", len([event for event in fleet.events if event["event"] == "TableInUse"]) + 1)
    statuses = [await fleet.post(chat(str(n))) for n in range(40)]
    assert statuses == [200] * 20 + [429] * 20
    assert b'rate_limited_total{limit="requests"} 20.0' in (await fleet.admin("/metrics")).body


async def test_no_worker_outlives_its_supervisor(fleet: Fleet) -> None:
    pids = await fleet.pids()
    fleet.process.kill()
    await fleet.process.wait()
    async with asyncio.timeout(60):
        while any(map(alive, pids)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def hanging(tmp_path: Path, identity: Any) -> AsyncIterator[Fleet]:
    llm = FakeLlm()
    await llm.start()
    path = tmp_path / "table.json"
    content = table(llm.url, "http://127.0.0.1:9", str(identity.to_public()))
    path.write_text(json.dumps(content | {"capture": {"enabled": False}}), encoding="utf-8")
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{os.environ.get('PYTHONPATH', '')}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(here / "gateway_hanging.py"), str(path), "3",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    made = Fleet(process, llm, tmp_path)
    await made.seen("Listening", 2)
    assert (await made.admin("/readyz")).json["workers"] == 2  # each has answered once: neither is starting
    yield made
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    async with asyncio.timeout(60):
        await process.communicate()
    await llm.stop()


async def test_a_worker_that_hangs_is_ended_and_replaced_and_says_where_it_stood(hanging: Fleet) -> None:
    pids = await hanging.pids()
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await hanging.post(chat("hang for ever"))
    [hung] = await hanging.seen("WorkerHung")
    [died] = await hanging.seen("WorkerDied")
    assert hung["pid"] in pids
    assert (died["pid"], died["code"]) == (hung["pid"], -signal.SIGKILL)
    started = await hanging.seen("WorkerStarted", 3)
    assert started[2]["pid"] not in pids
    await hanging.seen("Listening", 3)
    assert set(await asyncio.gather(*(hanging.post(chat(str(n))) for n in range(20)))) == {200}
    assert (await hanging.admin("/readyz")).json["workers"] == 2
    hanging.process.terminate()
    async with asyncio.timeout(60):
        _, said = await hanging.process.communicate()
    assert b"in fingerprint" in said, "the stack that it stood in"


class Child:
    """A process that notes its signals, and answers as planned."""

    pid = 7

    def __init__(self, answers: list[bool]) -> None:
        self.signals: list[int] = []
        self.process = self
        self.has_answered = False
        self._left = iter(answers)

    async def answers(self) -> bool:
        answer = next(self._left)
        self.has_answered |= answer
        return answer

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ([False] * 100, 126),  # never: it had the time to start
        ([False] * 10 + [True] + [False] * 100, 96),  # 30 seconds after its last answer
        ([True, False, False, False, False, True, False, True] + [False] * 100, 78),
    ],
)
def test_a_worker_is_ended_when_it_was_silent_for_so_long(answers: list[bool], seconds: float) -> None:
    child = Child(answers)
    with virtual() as loop:
        loop.run_until_complete(end_when_silent(child, 30.0, loop.time))  # type: ignore[arg-type]
        assert loop.time() == pytest.approx(seconds + TOLD_SECONDS)
    assert child.signals == [signal.SIGUSR1, signal.SIGKILL]


def test_a_port_that_is_taken_is_refused_even_by_a_gateway_that_shares_it() -> None:
    with reserve("127.0.0.1:0") as held:
        held.listen()
        host, port = held.getsockname()
        with pytest.raises(OSError, match="in use"):
            reserve(f"{host}:{port}")


def counted(calls: int, failing: str | None = None) -> Counters:
    counters = Counters(f"w{calls}", lambda: 0.0)
    counters.tiers["llm"].calls = calls
    counters.tiers["llm"].latency.observe(0.02)
    counters.arm("intents", f"rev{calls}").served = calls
    counters.arm("intents", "llm").served = calls
    counters.pool("tiny").change(+calls, 0.0)
    counters.capture = CaptureCounter(
        noted=9, records=calls, failing=failing, segment_records=512, segment_seconds=5.0, buffer_bytes=32,
        expired_segments=1, backlog=lambda: (10, -float(calls)),
    )  # fmt: skip
    counters.table_version = calls
    counters.classifier = "sha256:a"
    return counters


def test_signals_of_workers_are_one_gateways() -> None:
    told = [orjson.loads(counted(n, failing).signals().model_dump_json()) for n, failing in ((2, None), (3, "full"))]
    both = sum_signals("g", 7.0, told, [])
    assert (both.instance, both.uptime_seconds, both.table_version, both.classifier) == ("g", 7.0, 2, "sha256:a")
    assert (both.tiers["llm"].calls, both.tiers["llm"].latency_seconds["+Inf"]) == (5, 2)
    assert {name: arm.served for name, arm in both.specialists["intents"].arms.items()} == {
        "rev2": 2, "rev3": 3, "llm": 5,
    }  # fmt: skip
    assert (both.pools["tiny"].in_flight, both.capture.failing) == (5, "full")
    after = sum_signals("g", 7.0, told[:1], told[1:])
    assert (after.tiers["llm"].calls, after.pools["tiny"].in_flight, after.capture.failing) == (5, 2, None)
    assert sum_signals("g", 1.0, [], []).tiers == {}


def test_what_is_a_setting_of_every_worker_is_not_summed() -> None:
    told = [orjson.loads(counted(n).signals().model_dump_json()) for n in (2, 3)]
    for signals, age in zip(told, (1.5, 0.5), strict=True):
        signals["capture"] |= {
            "records": 10, "unacknowledged": 4, "unacknowledged_seconds": age, "segment_seconds": 5, "buffer_bytes": 64,
        }  # fmt: skip
    both = sum_signals("g", 7.0, told, []).capture
    assert (both.records, both.unacknowledged, both.unacknowledged_seconds) == (20, 8, 1.5)
    assert (both.segment_seconds, both.buffer_bytes) == (5, 128)
    after = sum_signals("g", 7.0, told[:1], told[1:]).capture
    assert (after.records, after.unacknowledged, after.segment_seconds, after.buffer_bytes) == (20, 4, 5, 64)


def test_the_log_of_several_workers_is_one_log() -> None:
    """Amounts are summed; an age is the oldest's and a window is every worker's. The dead hold and wait for nothing."""
    told = [orjson.loads(counted(n).signals().model_dump_json()) for n in (2, 3)]
    both, after = sum_signals("g", 7.0, told, []).capture, sum_signals("g", 7.0, told[:1], told[1:]).capture
    assert (both.records, both.unacknowledged, both.buffered_bytes, both.buffer_bytes) == (5, 7 + 6, 20, 64)
    assert (both.unacknowledged_seconds, both.segment_records, both.segment_seconds) == (3.0, 512, 5.0)
    assert (after.records, after.unacknowledged, after.buffered_bytes, after.buffer_bytes) == (5, 7, 10, 32)
    assert (after.unacknowledged_seconds, after.segment_seconds, after.expired_segments) == (2.0, 5.0, 2)


def test_metrics_of_workers_are_one_gateways() -> None:
    from prometheus_client import generate_latest

    told = [generate_latest(registry(counted(n))).decode() for n in (2, 3)]

    def values(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
        families = text_string_to_metric_families(text.decode())
        return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}

    both, after = values(sum_metrics(told, [])), values(sum_metrics(told[:1], told[1:]))
    assert both["slmfleet_gateway_calls_total", ("llm",)] == after["slmfleet_gateway_calls_total", ("llm",)] == 5
    assert both["slmfleet_gateway_latency_seconds_count", ("llm",)] == 2
    assert both["slmfleet_gateway_pool_in_flight", ("tiny",)] == 5
    assert after["slmfleet_gateway_pool_in_flight", ("tiny",)] == 2
    assert both["slmfleet_gateway_table_version", ()] == 2
    assert both["slmfleet_gateway_capture_unacknowledged", ()] == 13
    assert both["slmfleet_gateway_capture_unacknowledged_seconds", ()] == 3
    assert set(both) == set(values(told[0].encode())) | set(values(told[1].encode()))


@pytest.mark.parametrize(("bound", "processes", "share"), [(32, 1, 32), (32, 4, 8), (33, 4, 9), (1, 4, 1)])
def test_a_bound_of_the_gateway_is_divided_among_its_workers(bound: int, processes: int, share: int) -> None:
    assert share_of(bound, processes) == share
