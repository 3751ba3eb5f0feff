"""The log: what is in it, what is not, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

from gateway_fakes import COMPLETION, STREAM_HEAD, Heard, Rig, chat, chat_events, chunk, task, until, whole

from slmfleet.gateway.capture import Capture
from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.records import Logged
from slmfleet.store.segments import read_directory
from slmfleet.wire.records import UsageRecord
from slmfleet.wire.routes import Capture as CaptureSpec


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


async def test_a_caller_that_left_is_logged_as_such(rig: Rig) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(chat_events("a")[0]))
        await asyncio.sleep(10)

    rig.llm.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("hi", stream=True)).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await caller.head()
    caller.close()
    await until(lambda: not rig.gateway.public.in_flight, 2)
    [record] = await rig.records()
    assert record["status"] == 499


async def test_a_store_that_cannot_be_written_fails_no_call_and_recovers(rig: Rig) -> None:
    store = rig.folder / "store"
    store.write_text("in the way", encoding="utf-8")
    assert (await rig.post(chat("hi"))).status == 200
    await until(lambda: rig.signals.capture.failing, 3)
    assert str(store) in rig.signals.capture.failing
    store.unlink()
    await until(lambda: rig.signals.capture.records, 5)
    assert rig.signals.capture.failing is None
    assert len(await rig.records()) == 1


def logged(number: int, size: int = 10) -> Logged:
    body = json.dumps(chat("x" * size)).encode()
    return Logged(f"r{number}", 0.0, "c", "chat.completions", 200, 0.1, "llm", body, b"{}")


def test_a_full_buffer_drops_and_counts_and_never_blocks(tmp_path: Path, identity: object) -> None:
    counter = CaptureCounter()
    (tmp_path / "store").write_text("in the way", encoding="utf-8")
    capture = Capture(tmp_path / "store", "i", b"k" * 16, 100_000, counter)
    recipient = str(identity.to_public())  # type: ignore[attr-defined]
    capture.configure(CaptureSpec(recipients=[recipient], segment_records=10), "ns/r")
    for number in range(300):
        capture.add(logged(number, 1000))
    assert 200 < counter.dropped < 300
    capture.close(0.3)
    assert counter.dropped == 300
    assert counter.records == 0


def test_closing_writes_everything_in_segments_of_the_asked_size(tmp_path: Path, identity: object) -> None:
    counter = CaptureCounter()
    capture = Capture(tmp_path, "i", b"k" * 16, 1 << 20, counter)
    recipient = str(identity.to_public())  # type: ignore[attr-defined]
    capture.configure(CaptureSpec(recipients=[recipient], segment_records=10, segment_seconds=60), "ns/r")
    for number in range(95):
        capture.add(logged(number))
    capture.close(5)
    reader = read_directory(tmp_path, [str(identity)])
    assert [json.loads(record)["id"] for record in reader] == [f"r{number}" for number in range(95)]
    assert (counter.records, reader.segments, reader.broken) == (95, 10, [])
