"""The pure parts: arms, answers, streams put together, templates, checks, balance, counters."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import SCHEMA
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.gateway.arms import ENDS_CHARACTERS, bucket, choose, conversation_of
from slmfleet.gateway.balance import Placement, Server, pick
from slmfleet.gateway.bodies import assemble, decode, token_counts
from slmfleet.gateway.budget import WINDOW_SECONDS, RetryBudget
from slmfleet.gateway.checks import compile_check
from slmfleet.gateway.counters import Counters
from slmfleet.gateway.exchange import Exchange, Request
from slmfleet.gateway.frames import WAITING_BYTES, Frames
from slmfleet.gateway.headers import Headers, block
from slmfleet.gateway.llm import with_model
from slmfleet.gateway.origin import Origin
from slmfleet.gateway.relay import LAST_BYTES, TAIL_BYTES, Relay, end_to_end
from slmfleet.gateway.render import compile_template, plain_messages
from slmfleet.wire.routes import OutputFormat, Revision, SpecialistRoute

REVISION = Revision(name="c", adapter="a", pool="p")
STABLE = Revision(name="s", adapter="b", pool="p")


def route(weight: int, stable: Revision | None = None) -> SpecialistRoute:
    return SpecialistRoute(name="x", cluster="x", candidate=REVISION, stable=stable, weight_percent=weight, salt="salt")


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_growing_the_weight_only_moves_conversations_to_the_candidate(conversation: str, a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    if choose(route(low), conversation)[0] == "candidate":
        assert choose(route(high), conversation)[0] == "candidate"


@given(st.text())
def test_no_weight_is_no_call_and_full_weight_is_every_call(conversation: str) -> None:
    assert choose(route(0), conversation) == ("llm", None)
    assert choose(route(0, STABLE), conversation) == ("stable", STABLE)
    assert choose(route(100, STABLE), conversation) == ("candidate", REVISION)


@given(st.text(), st.integers(0, 100), st.integers(0, 50))
def test_who_is_held_back_is_so_at_every_weight(conversation: str, weight: int, percent: int) -> None:
    held = choose(route(0, STABLE).model_copy(update={"holdback_percent": percent}), conversation) == ("llm", None)
    now = choose(route(weight, STABLE).model_copy(update={"holdback_percent": percent}), conversation)
    assert (now == ("llm", None)) is held
    assert not (held and percent == 0)


def test_a_holdback_is_its_share_of_conversations() -> None:
    holding = route(100, STABLE).model_copy(update={"holdback_percent": 20})
    share = sum(choose(holding, str(n))[0] == "llm" for n in range(10_000)) / 10_000
    assert 0.185 < share < 0.215


def test_buckets_are_even() -> None:
    share = sum(bucket("s", str(n)) < 25 for n in range(10_000)) / 10_000
    assert 0.235 < share < 0.265


def test_a_conversation_is_its_header_or_its_opening() -> None:
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    later = [*opening, {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}]
    assert conversation_of(None, {"messages": opening}) == conversation_of(None, {"messages": later})
    assert conversation_of(None, {"messages": opening}) != conversation_of(None, {"messages": opening[1:]})
    assert conversation_of(b"c1", {"messages": opening}) == "c1"


@pytest.mark.parametrize("form", [lambda text: text, lambda text: [{"type": "text", "text": text}]])
def test_a_long_opening_is_told_apart_by_its_length_and_its_ends(form: Callable[[str], Any]) -> None:
    def of(text: str) -> str:
        return conversation_of(None, {"messages": [{"role": "user", "content": form(text)}]})

    text = "a" * ENDS_CHARACTERS + "m" * 9_000 + "z" * ENDS_CHARACTERS
    others = ["b" + text[1:], text[:-1] + "y", text + "z"]
    assert len({of(text), *map(of, others)}) == 4
    assert of(text[:5_000] + "n" + text[5_001:]) == of(text), "the middle is not looked at"
    assert of(text[: 2 * ENDS_CHARACTERS]) != of(text[: 2 * ENDS_CHARACTERS - 1] + "x"), "all of a short one is"


def stream(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def test_streamed_tool_calls_are_put_together() -> None:
    def delta(**content: object) -> dict[str, object]:
        return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": content, "finish_reason": None}]}

    def call(index: int, **function: str) -> dict[str, object]:
        return {"index": index, "function": function}

    whole = assemble(
        stream(
            delta(role="assistant", content=None),
            delta(tool_calls=[{**call(0, name="f", arguments=""), "id": "1", "type": "function"}]),
            delta(tool_calls=[call(0, arguments='{"a"')]),
            delta(tool_calls=[{**call(1, name="g", arguments="{}"), "id": "2", "type": "function"}]),
            delta(tool_calls=[call(0, arguments=":1}")]),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        ),
        "chat.completions",
    )
    [choice] = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [(c["id"], c["function"]) for c in choice["message"]["tool_calls"]] == [
        ("1", {"name": "f", "arguments": '{"a":1}'}),
        ("2", {"name": "g", "arguments": "{}"}),
    ]


def test_streams_of_the_other_apis_are_put_together() -> None:
    pieces = ({"object": "text_completion", "choices": [{"index": 0, "text": text}]} for text in "ab")
    text = assemble(stream(*pieces), "completions")
    assert text["choices"][0]["text"] == "ab"
    done = {"type": "response.completed", "response": {"id": "r", "output": []}}
    assert assemble(b"event: x\r\ndata: " + json.dumps(done).encode() + b"\r\n\r\n", "responses") == done["response"]
    assert assemble(stream({"error": {"message": "m"}}), "chat.completions") == {"error": {"message": "m"}}
    assert assemble(b"", "chat.completions") is None


@given(st.binary(max_size=300))
def test_nothing_that_an_llm_streams_breaks_the_log(data: bytes) -> None:
    assemble(data, "chat.completions")
    assemble(b"data: " + data + b"\n\n", "responses")
    decode(data, b"gzip")


def test_tokens_are_read_from_an_answers_tail() -> None:
    assert token_counts(b'..."usage": {"prompt_tokens": 12, "completion_tokens" :3,"x":{}}') == (12, 3)
    assert token_counts(b"nothing") == (0, 0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"z"}'),
        (b'{ "x": {"model":"a"}, "model" : "a" }', b'{ "x": {"model":"a"}, "model" : "z" }'),
        (b'{"model":"a","x":"\\"model\\":\\"q\\""}', b'{"model":"z","x":"\\"model\\":\\"q\\""}'),
        (b'{"m":[{"model":"b"},"{"],"model":"a"}', b'{"m":[{"model":"b"},"{"],"model":"z"}'),
        (b'{"mod\\u0065l":"a"}', b'{"model":"z"}'),
    ],
)
def test_an_alias_changes_the_top_level_model_and_no_other_byte(body: bytes, expected: bytes) -> None:
    assert with_model(body, json.loads(body), "z") == expected


def test_templates_render_as_transformers_does() -> None:
    template = (
        "{%- for m in messages %}\n    {%- if loop.index0 > 1 %}{% break %}{% endif %}\n"
        "{{ '<' + m.role + '>' }}{% generation %}{{ m.content | tojson }}{% endgeneration %}\n{% endfor %}\n"
        "{%- if add_generation_prompt %}{{ eos_token }}{% endif %}"
    )
    render = compile_template(template, "<s>", "</s>")
    messages = [{"role": "developer", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": "<"}]}]
    assert render(plain_messages(messages)) == '<system>"é\\n<"</s>'
    with pytest.raises(Exception, match="no"):
        compile_template("{{ raise_exception('no') }}")([])
    with pytest.raises(ValueError, match="chat template"):
        compile_template("{% for %}")
    with pytest.raises(Exception, match=r"unsafe|undefined|access"):
        compile_template("{{ messages.append(1) }}{{ ''.__class__.__mro__ }}")([])


def test_checks_say_what_is_wrong() -> None:
    check = compile_check(OutputFormat(type="json", json_schema=SCHEMA))
    assert check('{"intent":"x"}') is None
    assert [check(text) for text in ("", "[]", '{"a":1}')] == [
        "not JSON", "not a JSON object", "does not fit its schema",
    ]  # fmt: skip
    label = compile_check(OutputFormat(type="label", labels=["a"]))
    assert (label(" a\n"), label("b"), label(" ")) == (None, "not one of the labels", "empty")
    remote = compile_check(OutputFormat(type="json", json_schema={"$ref": "http://127.0.0.1:9/x"}))
    assert "cannot be applied" in (remote("{}") or "")


def servers(*loads: int) -> list[Placement]:
    return [
        Placement(Server(Origin(str(i), 80, False), in_flight=load), frozenset("a")) for i, load in enumerate(loads)
    ]


def test_the_less_loaded_of_two_is_asked() -> None:
    assert pick(servers(3, 1), "a", 8, 0.0, random.Random(1)).in_flight == 1  # type: ignore[union-attr]
    assert pick(servers(8, 8), "a", 8, 0.0, random.Random(1)) == "full"
    assert pick(servers(0), "other", 8, 0.0, random.Random(1)) == "cold"
    assert pick([], "a", 8, 0.0, random.Random(1)) == "cold"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_free_server_is_always_found(loads: list[int], seed: int) -> None:
    found = pick(servers(*loads), "a", 5, 0.0, random.Random(seed))
    assert (found == "full") == (min(loads) >= 5) or (len(loads) > 2 and not isinstance(found, str))


def test_a_failing_server_is_left_alone_longer_each_time_and_forgiven() -> None:
    server = Server(Origin("h", 80, False))
    waits, now = [], 100.0
    for _ in range(8):
        server.failed(now)
        server.failed(now + 0.1)  # was under way at the same time
        waits.append(server.ejected_until - now)
        now = server.ejected_until
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15]
    server.observe(0.2, 200.0)
    assert (server.failures, server.latency) == (0, 0.2)


def test_what_an_adapter_takes_is_told_by_its_own_answers() -> None:
    server = Server(Origin("h", 80, False))
    server.observe(0.2, 100.0, "short")
    server.observe(8.0, 100.0, "long")
    assert server.expected_seconds(100.0, "short") == pytest.approx(0.2)
    assert server.expected_seconds(110.0, "long") == pytest.approx(8.0 / 2.718281828)
    assert server.expected_seconds(100.0, "never heard of") == 0
    server.observe(0.1, 300.0, "new")
    assert set(server.by_adapter) == {"new"}, "what faded is forgotten"


def test_a_server_that_errs_is_left_alone_after_a_row_and_then_after_one() -> None:
    server = Server(Origin("h", 80, False))
    for _ in range(4):
        server.erred(1.0)
    server.observe(0.2, 1.0)
    for _ in range(4):
        server.erred(2.0)
    assert server.ejected_until == 0
    server.erred(2.0)
    assert server.ejected_until == 2.5
    server.erred(3.0)
    assert server.ejected_until == 4.0


def test_retries_are_a_tenth_of_the_calls_and_a_few_in_a_quiet_hour() -> None:
    now = [0.0]
    budget = RetryBudget(lambda: now[0])
    granted = 0
    for _ in range(500):
        budget.call()
        granted += budget.spend()
    assert granted == 50
    now[0] += WINDOW_SECONDS
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.sampled_from([b"data: {}", b"\n", b"\r\n", b"\r", b": x", b"\n\n", b"\r\n\r\n"]), max_size=40))
def test_whole_events_are_passed_on_as_soon_as_they_are_whole(pieces: list[bytes]) -> None:
    frames, sent = Frames(), b""
    for piece in pieces:
        sent += frames.feed(piece)
        assert sent == b"" or sent.endswith((b"\n\n", b"\n\r\n", b"\r\r"))
    rest = frames.rest()
    assert sent + rest == b"".join(pieces)
    assert not any(mark in rest for mark in (b"\n\n", b"\n\r\n", b"\r\r"))


def test_an_event_too_large_to_wait_for_is_passed_on_torn() -> None:
    frames = Frames()
    assert frames.feed(b"data: 1\n\ndata: " + b"x" * WAITING_BYTES)[-1:] == b"x"
    assert frames.torn
    assert frames.feed(b"x\n\n") == b"x\n\n"
    assert not frames.torn


def test_the_integral_of_in_flight_calls_is_exact() -> None:
    now = [0.0]
    pool = Counters("i", lambda: now[0]).pool("p")
    for change, at in ((1, 1.0), (1, 2.0), (-1, 4.0), (-1, 4.5)):
        pool.change(change, at)
    assert pool.in_flight_seconds(9.0) == 1 + 4 + 0.5


def test_a_conversation_is_judged_once_and_fails_once() -> None:
    counters = Counters("i", lambda: 0.0)
    for conversation, failed in (("a", False), ("a", True), ("a", True), ("b", False), ("a", False)):
        counters.judge("s", "r", conversation, failed=failed)
    arm = counters.arm("s", "r")
    assert (arm.conversations, arm.conversations_failed) == (2, 1)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ([(b"A", b"1"), (b"Connection", b"keep-alive"), (b"Keep-Alive", b"5")], [b"A"]),
        ([(b"A", b"1"), (b"connection", b"A, close"), (b"B", b"2")], [b"B"]),
        ([(b"A", b"1"), (b"Connection", b"b"), (b"B", b"2"), (b"connection", b"keep-alive")], [b"A"]),
        ([(b"Host", b"x"), (b"TE", b"trailers"), (b"Set-Cookie", b"1"), (b"set-cookie", b"2")], [b"Set-Cookie"] * 2),
    ],
)
def test_only_end_to_end_headers_are_passed_on(fields: list[tuple[bytes, bytes]], left: list[bytes]) -> None:
    kept = end_to_end(Headers(fields), frozenset((b"host",)))
    assert [name.lower() for name, _ in kept] == [name.lower() for name in left]


@pytest.mark.parametrize(
    ("tail", "counts"),
    [
        (b'"usage":{"prompt_tokens":3,"completion_tokens":4}}', (3, 4)),
        (b'"usage": {"input_tokens" : 3, "output_tokens" : 4}', (3, 4)),
        (b'"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n"usage":null', (3, 4)),
        (b'oken_details":{"prompt_tokens":1}, "completion_tokens":4}', (1, 4)),
        (b'"content":"\\"usage\\": no"', (0, 0)),
    ],
)
def test_tokens_are_counted_from_the_end_of_an_answer(tail: bytes, counts: tuple[int, int]) -> None:
    assert token_counts(tail) == counts


def test_a_block_of_headers_ends_each_of_its_lines() -> None:
    assert block([(b"A", b"1"), (b"b", b"")]) == b"A: 1\r\nb: \r\n"
    assert block([]) == b""


@pytest.mark.parametrize("size", [1, 37, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1, 100_000])
def test_the_tail_of_an_answer_is_its_last_bytes_whatever_its_pieces(size: int) -> None:
    relay = Relay(Exchange(None, Request(b"GET", b"/", Headers(), b"", True, True, "")), [], 0)  # type: ignore[arg-type]
    relay._held = []
    whole = b""
    for number in range(400_000 // size // (20 if size == 1 else 1)):
        piece = str(number).encode().rjust(size, b".")[-size:]
        whole += piece
        relay.on_data(piece)
    assert relay.tail == whole[-TAIL_BYTES:]
    assert sum(map(len, relay._last)) <= LAST_BYTES + size
