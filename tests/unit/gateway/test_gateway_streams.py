"""Streams as servers write them, odd but legal: passed on byte for byte, and logged as the object they stand for."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

import pytest
from gateway_fakes import Heard, Rig, chat, chunk, event
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slmfleet.gateway.bodies import assemble
from slmfleet.gateway.endings import cut_short
from slmfleet.gateway.records import Logged, to_record

FRAME = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "big", "system_fingerprint": None}


def deltas() -> list[dict[str, Any]]:
    """Two choices: one that thinks and says something, one that calls two tools at once; then usage."""

    def piece(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**FRAME, "choices": [{"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    def call(index: int, **more: Any) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, **more}]}

    return [
        piece(1, {"role": "assistant", "content": None}),
        piece(0, {"role": "assistant", "content": "", "reasoning_content": "Hm"}),
        piece(0, {"reasoning_content": "m\r\n"}),
        piece(1, call(0, id="a", type="function", function={"name": "f", "arguments": ""})),
        piece(0, {"content": "caf\u00e9 "}),
        piece(1, call(1, id="b", type="function", function={"name": "g", "arguments": "{"})),
        piece(1, call(0, function={"arguments": '{"x":'})),
        piece(1, call(1, function={"arguments": "}"})),
        piece(1, call(0, function={"arguments": " 1}"})),
        piece(0, {"content": "\U0001f600"}),
        piece(1, {}, "tool_calls"),
        piece(0, {}, "stop"),
        {**FRAME, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}},
    ]


WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "big",
    "system_fingerprint": None,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "caf\u00e9 \U0001f600", "reasoning_content": "Hmm\r\n"},
            "finish_reason": "stop",
            "logprobs": None,
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "finish_reason": "tool_calls",
            "logprobs": None,
        },
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
}


def odd_stream(rng: random.Random) -> bytes:
    """The same events with any line ends, comments, names, empty events and data over several lines."""
    end = rng.choice(["\n", "\r\n", "\r"])
    text = rng.choice(["", f": ready{end}{end}", end])
    for delta in deltas():
        data = json.dumps(delta, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))
        space = rng.choice(["", " "])
        lines = [f"data:{space}{line}" for line in data.split("\n")]
        lines += rng.choice([[], [": ping"], ["id: 7"], ["event: message"], ["retry: 10"], ["unknown"]])
        if len(lines) == 2:
            rng.shuffle(lines)
        text += "".join(line + end for line in lines) + end
        text += rng.choice(["", "", f": keep-alive{end}{end}", f"event: ping{end}{end}", end])
    return (text + rng.choice(["", f"data: [DONE]{end}{end}", f"data:[DONE]{end}{end}"])).encode()


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    places = sorted({0, len(data), *(rng.randrange(len(data)) for _ in range(rng.randrange(40)))})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize("framing", ["chunked", "length", "closed"])
async def test_an_odd_stream_reaches_the_caller_as_it_was_and_the_log_as_its_object(rig: Rig, framing: str) -> None:
    streams = [odd_stream(random.Random(seed)) for seed in range(25)]

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        number = int(heard.header("x-stream") or 0)
        end = {"chunked": "transfer-encoding: chunked", "closed": "connection: close"}.get(framing)
        end = end or f"content-length: {len(streams[number])}"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; x=y\r\n{end}\r\n\r\n".encode())
        for piece in cut(streams[number], random.Random(number)):
            writer.write(chunk(piece) if framing == "chunked" else piece)
            await writer.drain()
        if framing == "chunked":
            writer.write(b"0\r\nx-trailer: 1\r\n\r\n")
        if framing == "closed":
            await writer.drain()
            writer.close()

    rig.llm.reply = reply
    for number, stream in enumerate(streams):
        answer = await rig.post(chat("hi", stream=True), headers=f"x-stream: {number}\r\n")
        assert (answer.status, answer.headers["content-type"]) == (200, "Text/Event-Stream; x=y")
        assert answer.body == stream
    assert rig.signals.tiers["llm"].output_tokens == 9 * len(streams)
    records = await rig.records()
    assert [record["response"] for record in records] == [WHOLE] * len(streams)


CHUNK = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"total_tokens": 3}}
LONG = {"type": "response.completed", "response": {"output": "y" * 9000}}


@pytest.mark.parametrize(
    ("api", "events", "cut"),
    [
        ("chat.completions", [], True),
        ("chat.completions", [CHUNK], True),
        ("chat.completions", [END, CHUNK], True),
        ("chat.completions", [CHUNK, END], False),
        ("completions", [CHUNK, END, USAGE], False),
        ("completions", [CHUNK, USAGE], True),
        ("completions", [{"value": "x"}], False),
        ("responses", [{"type": "response.created"}, {"type": "response.output_text.delta"}], True),
        ("responses", [{"type": "response.output_text.delta"}, {"type": "response.completed"}], False),
        ("responses", [{"type": "response.output_text.delta"}, LONG], False),
        ("messages", [{"type": "message_start"}, {"type": "content_block_stop"}], True),
        ("messages", [{"type": "message_start"}, {"type": "message_stop"}], False),
        (None, [{"type": "thread.run.completed"}], False),
    ],
)
def test_a_stream_that_ends_by_closing_was_cut_or_not(api: str | None, events: list[Any], cut: bool) -> None:
    tail = b"".join(event(content) for content in events)[-8192:]
    assert cut_short(tail, api, 8192) is cut
    assert cut_short(tail.replace(b"\n", b"\r\n"), api, 8192) is cut
    if api in ("chat.completions", "completions"):
        assert not cut_short(tail + b"data: [DONE]\n\n", api, 8192)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_way_of_writing_a_stream_stands_for_the_same_object(rng: random.Random) -> None:
    assert assemble(odd_stream(rng), "chat.completions") == WHOLE


@pytest.mark.parametrize("end", ["\n\n", "\n\n\n", "\r\n\r\n", "\r\r", "\n\r\n"])
@pytest.mark.parametrize("start", ["", "\n", ": beats\n\n"])
def test_events_end_at_one_empty_line_or_more(start: str, end: str) -> None:
    lines = [f"data: {json.dumps(piece)}" for piece in deltas()]
    stream = start + "".join(line + end for line in [*lines, "data:[DONE]"])
    assert assemble(stream.encode(), "chat.completions") == WHOLE


def record(stream: bytes, api: str) -> dict[str, Any]:
    logged = Logged("1", 0.0, "c", api, 200, 0.1, "llm", b"{}", stream, streamed=True)
    logged.cut_to(4096)
    return json.loads(to_record(logged, b"0123456789abcdef", 4096))


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["chat.completions", "completions", "responses", "messages"]))
def test_no_stream_is_too_odd_for_the_log(data: bytes, api: str) -> None:
    record(data, api)
    record(b"data: " + data + b"\n\n", api)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "tool_calls", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "index",
                    "text",
                    "logprobs",
                    "tool_calls",
                    "function",
                    "arguments",
                    "content",
                    "role",
                    "error",
                    "response",
                    "type",
                    "content_block",
                    "usage",
                    "input",
                    "partial_json",
                    "citation",
                    "thinking",
                    "signature",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
EVENTS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["message_start", "content_block_start", "content_block_delta", "message_delta", "error"]
            )
        },
        optional=dict.fromkeys(("message", "index", "content_block", "delta", "usage"), JSON),
    )
    | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({}, optional={"index": JSON, "delta": JSON}))}),
    max_size=5,
)


@settings(deadline=None)
@example([{"type": "message_start", "message": [[None, None]]}], "messages")
@example([{"type": "message_start"}, {"type": "message_delta", "delta": [[None, 0]], "usage": [[0, 0]]}], "messages")
@given(EVENTS, st.sampled_from(["chat.completions", "completions", "responses", "messages"]))
def test_no_events_are_too_odd_for_the_log(events: list[Any], api: str) -> None:
    record(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events), api)
