"""The log: what is in it, what is not, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_fakes import COMPLETION, STREAM_HEAD, Heard, Rig, chat, chat_events, chunk, table, task, until, whole

from slmfleet.gateway.capture import Capture
from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.expiry import expire_once
from slmfleet.gateway.records import Logged, is_plain, to_record
from slmfleet.gateway.server import Gateway, Options
from slmfleet.gateway.spool import Sealed, Spool
from slmfleet.store.files import atomic_write
from slmfleet.store.segments import read_directory
from slmfleet.wire.records import UsageRecord
from slmfleet.wire.routes import Capture as CaptureSpec
from slmfleet.wire.routes import RouteTable
from slmfleet.wire.signals import CaptureSignals


async def test_every_call_is_a_valid_usage_record(rig: Rig) -> None:
    await rig.post(chat("hi", user="alice@example.com"), headers="authorization: Bearer secret-key\r\n")
    await rig.post(task(), headers="x-conversation-id: c1\r\n")
    await rig.post({"model": "e", "input": "x"}, path="/v1/embeddings")
    await rig.post({"x": 1}, path="/v1/files")
    found = await rig.records()
    for record in found:
        UsageRecord.model_validate(record)
    assert [record["api"] for record in found] == ["chat.completions", "chat.completions", "embeddings"]
    assert [record["tier"] for record in found] == ["llm", "specialist", "llm"]
    assert found[0]["response"] == COMPLETION
    assert found[0]["request"]["messages"] == chat("hi")["messages"]
    assert found[1]["conversation"] == "c1"
    assert found[1]["revision"] == "rev1"
    assert found[0]["conversation"].startswith("h:")
    assert rig.gateway.counters.capture.segments >= 1


async def test_a_sample_is_of_whole_conversations_and_an_escalation_is_always_in_it(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "capture": {**rig.content["capture"], "sample_percent": 40}})
    rig.triton.text = "no JSON"
    for turn in range(2):
        for number in range(40):
            await rig.post(chat(f"{turn}"), headers=f"x-conversation-id: c{number}\r\n")
    await rig.post(task(), headers="x-conversation-id: broken\r\n")
    found = Counter(record["conversation"] for record in await rig.records())
    assert found.pop("broken") == 2
    assert set(found.values()) == {2}
    assert 4 < len(found) < 36


async def test_who_called_is_nowhere_in_the_log(rig: Rig) -> None:
    for _ in range(2):
        await rig.post(chat("hi", user="alice@example.com"), headers="authorization: Bearer secret-key\r\n")
    first, second = await rig.records()
    text = json.dumps([first, second])
    assert "alice" not in text
    assert "secret-key" not in text
    assert "127.0.0.1" not in text
    assert first["origin"] == second["origin"]
    assert first["request"]["user"] == second["request"]["user"]


NAMED: list[tuple[str, dict[str, Any]]] = [
    ("chat.completions", {"user": "alice", "safety_identifier": "alice"}),
    ("messages", {"metadata": {"user_id": "alice"}}),
    ("responses", {"safety_identifier": "alice", "metadata": {"ticket": "7"}}),
]


def record_of(api: str, request: bytes, response: bytes, limit: int = 10_000, **more: Any) -> dict[str, Any]:
    """The usage record of a call, made as the capture thread makes it."""
    try:
        parsed = json.loads(request)
    except ValueError:
        parsed = None
    logged = Logged("r", 0.0, "c", api, 200, 0.1, "llm", request, response, plain=is_plain(parsed), **more)
    logged.cut_to(limit)
    record: dict[str, Any] = json.loads(to_record(logged, b"k" * 16, limit))
    UsageRecord.model_validate(record)
    return record


@pytest.mark.parametrize(("api", "fields"), NAMED)
@pytest.mark.parametrize("limit", [10_000, 150])
@pytest.mark.parametrize("streamed", [False, True])
def test_no_api_names_the_caller_in_body_or_answer(
    api: str, fields: dict[str, Any], limit: int, streamed: bool
) -> None:
    body = json.dumps({**fields, "model": "big", "input": "x" * 200}).encode()
    echo = json.dumps({**fields, "object": "response", "output": "y" * 200}).encode()
    answer = b'event: response.completed\ndata: {"response":%b}\n\n' % echo if streamed else echo
    record = record_of(api if not streamed else "responses", body, answer, limit, streamed=streamed)
    assert "alice" not in json.dumps(record)
    assert record.get("truncated", False) is (limit == 150)
    assert "x" * 50 in json.dumps(record["request"])
    assert "y" * 20 in json.dumps(record["response"])


def test_a_body_that_names_nobody_is_logged_byte_for_byte() -> None:
    body = b'{"model": "big",  "seed": 123456789012345678901234567890, "top_p": 1.0e0}'
    logged = Logged("r", 0.0, "c", "chat.completions", 200, 0.1, "llm", body, body, plain=is_plain(json.loads(body)))
    logged.cut_to(1000)
    line = to_record(logged, b"k" * 16, 1000)
    assert line.count(body) == 2
    assert b"\n" not in line


@pytest.mark.parametrize(
    "stream",
    [b'data: {"choices": [7]}\n\n', b'data: {"choices": 7}\n\n', b"data: [1]\n\n", b"data: nothing\n\n", b"<html>",
     b'data: {"choices":[{"delta":{"tool_calls":[{"index":99999,"id":"x"}]}}]}\n\n'],
)  # fmt: skip
def test_a_stream_of_no_known_form_is_logged_as_text(stream: bytes) -> None:
    record = record_of("chat.completions", b"{}", stream, streamed=True)
    assert record["response"] == stream.decode()


async def test_the_log_on_disk_shows_nothing_without_the_private_key(rig: Rig) -> None:
    await rig.post(chat("a very secret sentence"))
    await rig.records()
    segments = list((rig.folder / "store" / "usage" / "agents").rglob("*.seg"))
    assert len(segments) == 1
    assert b"secret" not in segments[0].read_bytes()
    assert list((rig.folder / "store").rglob("*.tmp")) == []


async def test_a_stream_is_logged_as_the_answer_without_streaming(rig: Rig) -> None:
    await rig.post(chat("hi", stream=True))
    [record] = await rig.records()
    assert record["streamed"] is True
    response = record["response"]
    assert response["object"] == "chat.completion"
    assert response["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    ]
    assert response["usage"]["total_tokens"] == 10


async def test_a_compressed_answer_is_passed_on_as_it_is_and_logged_readable(rig: Rig) -> None:
    packed = gzip.compress(json.dumps(COMPLETION).encode())

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(packed, extra="content-encoding: gzip\r\n"))

    rig.llm.reply = reply
    assert (await rig.post(chat("hi"))).body == packed
    assert rig.signals.tiers["llm"].input_tokens == 11
    [record] = await rig.records()
    assert record["response"] == COMPLETION


async def test_a_large_body_is_cut_and_says_so(rig: Rig) -> None:
    body = json.dumps(chat("x" * 400_000)).encode()
    await rig.post(body)
    [record] = await rig.records()
    assert record["truncated"] is True
    assert record["size_bytes"] > len(body)
    assert len(record["request"]) == 262_144


async def test_days_that_are_past_are_deleted_by_the_gateway_and_only_its_own(rig: Rig) -> None:
    usage = rig.folder / "store" / "usage"
    for path in ("agents/2020-01-01/a.seg", "agents/2020-01-02/b.seg", "others/2020-01-01/c.seg"):
        atomic_write(usage / path, b"old")
    capture = {**rig.content["capture"], "retention_days": 30}
    await rig.use({**rig.content, "version": 2, "capture": capture})
    assert rig.gateway.app.table is not None
    today = datetime.now(UTC).date()
    await rig.post(chat("today"))
    expire_once(rig.folder / "store", rig.gateway.app.table.spec, rig.gateway.counters.capture, today)
    assert rig.signals.capture.expired_segments == 2
    await rig.gateway.stop()
    rig.stopped = True
    assert len(list(read_directory(usage / "agents", [str(rig.identity)]))) == 1
    assert [path.name for path in usage.rglob("*.seg") if path.read_bytes() == b"old"] == ["c.seg"]


async def test_retention_runs_by_itself_when_the_table_asks_for_it(tmp_path: Path, identity: Any) -> None:
    atomic_write(tmp_path / "store/usage/agents/2020-01-01/a.seg", b"old")
    content = table("http://127.0.0.1:9", "http://127.0.0.1:9", str(identity.to_public()))
    content["capture"]["retention_days"] = 30
    (tmp_path / "table.json").write_text(json.dumps(content), encoding="utf-8")
    options = Options(
        table=tmp_path / "table.json", listen="127.0.0.1:0", admin="127.0.0.1:0", store=tmp_path / "store"
    )
    gateway = Gateway(options)
    await gateway.start()
    await until(lambda: gateway.counters.capture.expired_segments == 1)
    await gateway.stop()
    assert list((tmp_path / "store/usage/agents").iterdir()) == []


def test_a_store_that_refuses_to_delete_is_logged_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "usage").mkdir()
    (tmp_path / "usage" / "agents").write_text("no folder", encoding="utf-8")
    spec = RouteTable.model_validate(
        {"router": "ns/agents", "llm": {"url": "http://x/v1"}, "capture": {"enabled": False, "retention_days": 1}}
    )
    expire_once(tmp_path, spec, CaptureCounter(), date(2026, 1, 1))
    assert json.loads(capsys.readouterr().out)["event"] == "CaptureNotExpired"


async def test_a_caller_that_left_is_logged_as_such(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(chat_events("a")[0]))
        await asyncio.Event().wait()

    rig.llm.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi", stream=True)).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await caller.head()
    caller.close()
    await until(lambda: not rig.gateway.public.in_flight)
    [record] = await rig.records()
    assert record["status"] == 499


async def test_a_store_that_cannot_be_written_fails_no_call_and_recovers(rig: Rig) -> None:
    store = rig.folder / "store"
    store.write_text("in the way", encoding="utf-8")
    assert (await rig.post(chat("hi"))).status == 200
    await until(lambda: rig.signals.capture.failing)
    assert str(store) in rig.signals.capture.failing
    store.unlink()
    await until(lambda: rig.signals.capture.records)
    assert rig.signals.capture.failing is None
    assert len(await rig.records()) == 1


def logged(number: int, size: int = 10) -> Logged:
    """A call whose body does not compress to less than half of `size`."""
    text = hashlib.shake_128(b"%d" % number).hexdigest(size // 2)
    return Logged(f"r{number}", 0.0, "c", "chat.completions", 200, 0.1, "llm", json.dumps(chat(text)).encode(), b"{}")


class Log:
    """A log's writer with a store of its own, and a clock that stands still."""

    def __init__(self, folder: Path, identity: Any, **settings: Any) -> None:
        self.store = folder / "store"
        self.identity = str(identity)
        self.now = 1000.0
        self.counter = CaptureCounter()
        self.capture = Capture(self.store, "i", b"k" * 16, None, self.counter, lambda: self.now)
        self.settings = {"recipients": [str(identity.to_public())], "segment_seconds": 3600, **settings}
        self.capture.configure(CaptureSpec(**self.settings), "ns/r")

    def add(self, numbers: Iterable[int], size: int = 10) -> None:
        for number in numbers:
            self.capture.add(logged(number, size))

    async def settled(self, holds: Callable[[], Any]) -> None:
        """Until something holds, with the clock going on: the thread's pauses are by this clock, and it is told."""
        async with asyncio.timeout(60):
            while not holds():
                self.now += 1.0
                self.capture.configure(CaptureSpec(**self.settings), "ns/r")
                await asyncio.sleep(0.005)

    def read(self) -> list[str]:
        reader = read_directory(self.store / "usage", [self.identity])
        found = [json.loads(record)["id"] for record in reader]
        assert reader.broken == []
        return found

    @property
    def signals(self) -> CaptureSignals:
        return self.counter.signals(self.now)


def ids(numbers: Iterable[int]) -> list[str]:
    return [f"r{number}" for number in numbers]


def test_closing_writes_everything_in_segments_of_the_asked_size(tmp_path: Path, identity: Any) -> None:
    log = Log(tmp_path, identity, segment_records=10)
    log.add(range(95))
    log.capture.close(5)
    assert log.read() == ids(range(95))
    assert (log.counter.records, log.counter.segments, log.counter.dropped) == (95, 10, 0)


async def test_a_record_waits_for_the_window_and_no_longer(tmp_path: Path, identity: Any) -> None:
    log = Log(tmp_path, identity, segment_records=10, segment_seconds=7)
    log.add(range(13))
    await until(lambda: log.counter.records == 10)
    log.now += 6
    assert (log.signals.unacknowledged, log.signals.unacknowledged_seconds) == (3, 6.0)
    assert (log.signals.segment_records, log.signals.segment_seconds, log.signals.buffer_bytes) == (10, 7.0, 64 << 20)
    await log.settled(lambda: log.counter.records == 13)
    assert (log.signals.unacknowledged, log.signals.unacknowledged_seconds) == (0, 0.0)
    log.capture.close(5)


async def test_while_the_store_is_away_sealed_batches_wait_and_are_then_written_in_order(
    tmp_path: Path, identity: Any
) -> None:
    log = Log(tmp_path, identity, segment_records=5)
    log.store.write_text("in the way", encoding="utf-8")
    log.add(range(40), size=4000)
    held = log.signals.buffered_bytes
    await log.settled(lambda: log.signals.failing and log.signals.buffered_bytes < held * 0.7)
    assert log.signals.unacknowledged == 40
    assert log.signals.unacknowledged_seconds > 0
    log.store.unlink()
    await log.settled(lambda: not log.signals.unacknowledged)
    assert log.read() == ids(range(40))
    assert (log.counter.segments, log.counter.dropped, log.signals.failing) == (8, 0, None)
    assert log.signals.buffered_bytes == 0
    log.capture.close(5)


def test_the_spool_writes_the_oldest_first_and_tries_again_with_growing_pauses(tmp_path: Path) -> None:
    """The oldest has a file in the way of its folder; nothing younger overtakes it."""
    now = 50.0
    counter = CaptureCounter()
    spool = Spool(counter, lambda: now)
    blocked = tmp_path / "day"
    blocked.write_text("in the way", encoding="utf-8")
    spool.put(Sealed(blocked / "1.seg", b"one", 3, noted=40.0))
    spool.put(Sealed(tmp_path / "2.seg", b"two", 4, noted=41.0))
    pauses = []
    for _ in range(7):
        spool.write()
        pauses.append(spool.pause() or 0.0)
        spool.write()
        now += pauses[-1]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert (len(spool), spool.bytes, spool.oldest, (tmp_path / "2.seg").exists()) == (2, 6, 40.0, False)
    assert (counter.records, counter.failing) == (0, f"{blocked}: File exists")
    blocked.unlink()
    spool.write()
    assert (len(spool), spool.bytes, spool.oldest, spool.pause()) == (0, 0, None, None)
    assert (counter.records, counter.segments, counter.failing) == (7, 2, None)


async def test_a_full_buffer_keeps_the_oldest_and_counts_every_drop(tmp_path: Path, identity: Any) -> None:
    log = Log(tmp_path, identity, segment_records=10, buffer_bytes=1 << 20)
    log.store.write_text("in the way", encoding="utf-8")
    log.add(range(600), size=4000)
    assert 0 < log.counter.dropped < 600
    kept = 600 - log.counter.dropped
    assert log.signals.buffered_bytes <= log.signals.buffer_bytes == 1 << 20
    log.store.unlink()
    log.settings["segment_seconds"] = 0.1
    await log.settled(lambda: not log.signals.unacknowledged)
    found = log.read()
    assert len(found) == log.counter.records == kept
    assert found[:100] == ids(range(100))
    log.capture.close(5)


def test_at_the_end_what_a_dead_store_does_not_take_is_counted(tmp_path: Path, identity: Any) -> None:
    log = Log(tmp_path, identity, segment_records=10)
    log.store.write_text("in the way", encoding="utf-8")
    log.add(range(25))
    log.capture.close(0)
    log.add([25])
    assert (log.counter.records, log.counter.dropped) == (0, 26)


async def test_one_record_that_cannot_be_made_costs_no_other(tmp_path: Path, identity: Any) -> None:
    log = Log(tmp_path, identity, segment_records=3)
    bad = logged(1)
    bad.time = float("nan")
    for each in (logged(0), bad, logged(2)):
        log.capture.add(each)
    await until(lambda: not log.signals.unacknowledged)
    assert (log.read(), log.counter.dropped) == (ids([0, 2]), 1)
    log.capture.close(5)


def test_a_store_that_answers_nothing_at_all_shows_by_the_age_of_what_waits() -> None:
    counter = CaptureCounter(noted=3, segment_seconds=5.0, backlog=lambda: (700, 1000.0))
    assert counter.signals(1035.0).failing is None
    assert "waited for 36 s" in str(counter.signals(1036.0).failing)
