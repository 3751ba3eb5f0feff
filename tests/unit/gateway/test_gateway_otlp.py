"""The parts of seeing: trace context, the bounded queue, histograms, and the exporter against a collector."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from gateway_collector import FakeCollector
from gateway_fakes import until, whole
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.cli.gateway import _collector
from slmfleet.gateway.background import Background
from slmfleet.gateway.instruments import MODELS, OTHER, SECONDS, TOKENS, Histogram, Instruments
from slmfleet.gateway.otlp import BATCH, Collector, Exporter, collector_from
from slmfleet.gateway.seen import Seen, Try
from slmfleet.gateway.trace import continue_trace, parse

A, B = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENTS: list[tuple[str, bool]] = [
    (f"00-{A}-{B}-01", True),
    (f" 00-{A}-{B}-00 ", True),
    (f"01-{A}-{B}-01-later", True),
    (f"00-{A}-{B}-01-later", False),
    (f"ff-{A}-{B}-01", False),
    (f"00-{A.upper()}-{B}-01", False),
    (f"00-{'0' * 32}-{B}-01", False),
    (f"00-{A}-{'0' * 16}-01", False),
    (f"00-{A}-{B}", False),
    ("", False),
]


@pytest.mark.parametrize(("header", "good"), PARENTS, ids=[header for header, _ in PARENTS])
def test_a_traceparent_is_read_as_the_standard_says(header: str, good: bool) -> None:
    found = parse(header.encode())
    assert (found is not None) is good
    if found is not None:
        assert found[:2] == (A, B)


@given(st.binary(max_size=80))
def test_no_header_breaks_the_reading(header: bytes) -> None:
    parse(header)


def test_the_share_of_sampled_traces_is_the_one_asked_for() -> None:
    bits = random.Random(7).getrandbits
    sampled = sum(continue_trace(None, 10, bits).sampled for _ in range(4000))
    assert 330 < sampled < 470
    assert not continue_trace(None, 0, bits).sampled
    assert continue_trace(None, 100, bits).sampled


def test_a_caller_decides_about_its_own_trace() -> None:
    bits = random.Random(7).getrandbits
    assert continue_trace(f"00-{A}-{B}-01".encode(), 0, bits).sampled
    assert not continue_trace(f"00-{A}-{B}-00".encode(), 100, bits).sampled


def test_a_full_queue_drops_and_counts_and_what_is_in_it_is_worked_off() -> None:
    done: list[int] = []
    queue: Background[int] = Background("test", done.extend, size=3, batch=2, seconds=60)
    for item in range(5):
        queue.offer(item)
    assert queue.dropped == 2
    queue.start()
    queue.close(5)
    assert done == [0, 1, 2]


def test_a_batch_that_cannot_be_worked_is_dropped_and_the_next_one_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def work(batch: list[int]) -> None:
        if 0 in batch:
            raise ValueError("no")
        done.extend(batch)

    queue: Background[int] = Background("test", work, size=10, batch=2, seconds=60)
    for item in range(4):
        queue.offer(item)
    queue.start()
    queue.close(5)
    assert (queue.dropped, done) == (2, [2, 3])
    assert "BackgroundFailed" in capsys.readouterr().out


@given(st.lists(st.floats(0, 200)))
def test_a_value_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed(values: list[float]) -> None:
    histogram = Histogram("x", "s", "", SECONDS)
    for value in values:
        histogram.series(()).record(value)
    [(_, counts, total)] = list(histogram.points()) or [((), [0] * (len(SECONDS) + 1), 0.0)]
    below = [sum(value <= bound for value in values) for bound in SECONDS]
    assert [sum(counts[: place + 1]) for place in range(len(SECONDS))] == below
    assert sum(counts) == len(values)
    assert total == pytest.approx(sum(values))


def test_the_bounds_are_the_conventions() -> None:
    assert TOKENS[:3] == (1, 4, 16) and TOKENS[-1] == 67108864
    assert SECONDS[0] == 0.01 and SECONDS[-1] == 81.92


def call(model: str = "big", **more: Any) -> Seen:
    tried = Try("llm", 0.0, 0.1, "openai", model, input_tokens=3, output_tokens=1, span_id="1" * 16)
    trace = continue_trace(None, 100, random.Random(1).getrandbits)
    return Seen("1", 0.0, 0.2, "POST", "/v1/chat/completions", 200, "chat.completions", model, tries=[tried],
                trace=trace, **more)  # fmt: skip


def test_callers_cannot_make_labels_without_end() -> None:
    instruments = Instruments()
    for number in range(MODELS + 50):
        instruments.record(call(f"model-{number}"))
    models = {dict(labels)["gen_ai.request.model"] for labels, _, _ in instruments.request.points()}
    assert len(models) == MODELS + 1 and OTHER in models


# --- the exporter ---


async def sent(collector: FakeCollector, calls: int = 1, messages: int = 2) -> Exporter:
    """An exporter that was given calls, after as many messages."""
    exporter = Exporter(Collector(f"{collector.url}/base/", {"authorization": "x"}), retry_seconds=(0.01, 0.01))
    exporter.queue.start()
    for _ in range(calls):
        exporter.offer(call())
    exporter.queue._wake.set()
    await until(lambda: len(collector.heard) >= messages)
    await asyncio.to_thread(exporter.close, 5)
    return exporter


async def test_spans_and_metrics_go_to_their_paths_below_the_endpoint(collector: FakeCollector) -> None:
    exporter = await sent(collector, 2 * BATCH, 3)
    assert {heard.target for heard in collector.heard} == {"/base/v1/traces", "/base/v1/metrics"}
    assert len(collector.collected().spans) == 4 * BATCH
    assert exporter.dropped == 0
    assert collector.connections == 1, "one connection serves all messages"


async def test_what_a_busy_collector_refuses_is_sent_again(collector: FakeCollector) -> None:
    collector.answers = [whole(b"", status="503 Service Unavailable"), whole(b"", status="429 Too Many Requests")]
    exporter = await sent(collector, messages=4)
    assert [heard.body for heard in collector.heard[:3]] == [collector.heard[0].body] * 3
    assert exporter.dropped == 0


async def test_what_a_collector_calls_bad_is_not_sent_again(
    collector: FakeCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.answers = [whole(b"no such field", status="400 Bad Request")]
    exporter = await sent(collector)
    assert exporter.dropped == 1
    assert sum(heard.target.endswith("traces") for heard in collector.heard) == 1
    out = capsys.readouterr().out
    assert "OtlpFailing" in out and "no such field" in out and "OtlpRecovered" in out


async def test_a_part_that_was_rejected_is_counted(collector: FakeCollector) -> None:
    collector.answers = [whole(b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"full"}}')]
    assert (await sent(collector)).dropped == 2


# --- the command line ---


def test_opentelemetrys_own_variables_are_read() -> None:
    found = collector_from("http://c:4318", {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x, b=2", "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=prod",
        "OTEL_BSP_SCHEDULE_DELAY": "250"})  # fmt: skip
    assert found.headers == {"authorization": "Bearer x", "b": "2"}
    assert found.resource == {"service.name": "mine", "deployment.environment.name": "prod"}
    assert (found.flush_seconds, found.metrics_seconds) == (0.25, 60.0)


@pytest.mark.parametrize(("endpoint", "environment", "words"), [
    ("collector:4317", {}, "--otlp-endpoint"),
    ("http://c", {"OTEL_EXPORTER_OTLP_HEADERS": "x"}, "OTEL_EXPORTER_OTLP_HEADERS"),
    ("http://c", {"OTEL_BSP_SCHEDULE_DELAY": "soon"}, "OTEL_BSP_SCHEDULE_DELAY"),
])  # fmt: skip
def test_a_setting_that_cannot_be_read_is_refused_by_name(
    endpoint: str, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        collector_from(endpoint, environment)


@pytest.mark.parametrize("endpoint", [None, ""])
def test_nothing_is_sent_unless_somebody_asks(endpoint: str | None) -> None:
    assert _collector(endpoint) is None
