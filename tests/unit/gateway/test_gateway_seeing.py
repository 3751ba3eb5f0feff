"""Access log, spans and metrics of calls: what is told, what is never told, and that no call waits for it."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from gateway_collector import FakeCollector, Span
from gateway_fakes import (
    STREAM_HEAD,
    FakeLlm,
    Heard,
    Rig,
    chat,
    chat_events,
    chunk,
    classifier_from,
    fingerprint,
    task,
    until,
    whole,
)
from prometheus_client.parser import text_string_to_metric_families

from slmfleet.gateway.accesslog import AccessLog
from slmfleet.gateway.otlp import Collector
from slmfleet.gateway.seen import Seen
from slmfleet.gateway.server import Gateway, Seeing

PARENT = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
SECRET = "my card is 4111"


async def seen_by(rig: Rig, **seeing: Any) -> Rig:
    """The rig with a gateway that is watched."""
    await rig.gateway.stop()
    options = replace(rig.gateway.options, seeing=Seeing(**seeing))
    rig.gateway = Gateway(options, load=classifier_from, fingerprint=fingerprint)
    await rig.gateway.start()
    return rig


async def traced(rig: Rig, collector: FakeCollector, **seeing: Any) -> Rig:
    where = Collector(collector.url, {"x-tenant": "t"}, {"service.name": "g"}, flush_seconds=0.05)
    return await seen_by(rig, collector=where, **seeing)


async def lines(rig: Rig, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rig.stopped = True
    await rig.gateway.stop()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in found if line["event"] == "Call"]


async def spans(rig: Rig, collector: FakeCollector) -> list[Span]:
    rig.stopped = True
    await rig.gateway.stop()
    return collector.collected().spans


# --- the access log ---


async def test_the_access_log_has_a_line_a_call_and_never_a_prompt_or_a_key(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    await seen_by(rig, access_log_percent=100)
    rig.triton.text = "nonsense"
    key = "Authorization: Bearer sk-1\r\n"
    await rig.post(chat(SECRET), headers=key)
    await rig.post(task(SECRET), headers=key)
    await rig.get("/v1/models")
    await rig.raw(b"GET /secret HTTP/1.1\r\nhost: g\r\n\r\n")
    llm, escalated, models, unknown = found = await lines(rig, capsys)
    assert SECRET not in json.dumps(found) and "sk-1" not in json.dumps(found)
    assert {name: llm[name] for name in ("level", "method", "path", "status", "api", "tier", "rule", "model")} == {
        "level": "info", "method": "POST", "path": "/v1/chat/completions", "status": 200, "api": "chat.completions",
        "tier": "llm", "rule": "abstain", "model": "big"}  # fmt: skip
    assert (llm["input_tokens"], llm["output_tokens"]) == (11, 5)
    assert llm["caller"] == escalated["caller"] and 0 < llm["latency_seconds"] < 60
    assert (escalated["specialist"], escalated["escalated"], escalated["tier"]) == ("intents", "invalid", "llm")
    assert not escalated["id"].endswith("-llm")
    assert (models["path"], models["status"]) == ("/v1/models", 200)
    assert (unknown["path"], unknown["status"]) == ("/secret", 404)


async def test_a_caller_that_left_is_in_the_access_log_as_499(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await seen_by(rig, access_log_percent=0.000001)

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rig.llm.reply = reply
    caller = await rig.connect()
    data = json.dumps(chat("x")).encode()
    caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data))
    await until(lambda: rig.llm.heard)
    caller.close()
    await until(lambda: rig.llm.closed)
    [line] = await lines(rig, capsys)
    assert (line["status"], line["error"], line["tier"]) == (499, "cancelled", "llm")


def test_the_access_log_is_a_sample_and_failures_are_always_in_it() -> None:
    log = AccessLog(10, random.Random(1))
    for status in (200,) * 1000 + (429,) * 1000 + (503,) * 10:
        log.offer(Seen("", 0.0, 0.0, "POST", "/v1/x", status))
    kept = [seen.status for seen in log.queue._items]
    assert 70 < kept.count(200) < 130 and 70 < kept.count(429) < 130
    assert kept.count(503) == 10


# --- spans ---


async def test_a_call_to_the_llm_is_a_server_span_and_a_client_span_in_its_callers_trace(
    rig: Rig, collector: FakeCollector
) -> None:
    await traced(rig, collector)
    body = chat(SECRET, temperature=0, max_tokens=7, stop=["secret"], seed=3, response_format={"type": "json_object"})
    await rig.post(body, headers=f"Traceparent: 00-{PARENT}-01\r\ntracestate: a=b\r\nx-conversation-id: c1\r\n")
    heard = rig.llm.heard[0]
    server, client = await spans(rig, collector)
    trace_id, _, parent = PARENT.partition("-")
    assert (server.trace_id, server.parent_id, server.kind) == (trace_id, parent, 2)
    assert (client.trace_id, client.parent_id, client.kind) == (trace_id, server.span_id, 3)
    assert [h for h in heard.headers if h[0].lower() == "traceparent"] == [
        ("traceparent", f"00-{trace_id}-{client.span_id}-01")]  # fmt: skip
    assert heard.header("tracestate") == "a=b"
    assert server.name == "POST /v1/chat/completions"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["slmfleet.rule"] == "abstain"
    assert server.start <= client.start <= client.end <= server.end + 1_000_000
    port = int(rig.llm.url.rpartition(":")[2])
    assert (client.name, client.failed) == ("chat big", False)
    assert client.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "big",
        "gen_ai.conversation.id": "c1", "gen_ai.request.max_tokens": 7, "gen_ai.request.temperature": 0.0,
        "gen_ai.request.seed": 3, "gen_ai.output.type": "json", "gen_ai.response.model": "big",
        "gen_ai.response.id": "chatcmpl-1", "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 5, "server.address": "127.0.0.1",
        "server.port": port, "slmfleet.tier": "llm"}  # fmt: skip
    assert not any(SECRET.encode() in heard.body or b"secret" in heard.body for heard in collector.heard)
    assert collector.heard[0].header("x-tenant") == "t"
    assert collector.collected().resources[0]["service.instance.id"] == rig.gateway.counters.instance


async def test_an_escalated_call_has_a_span_for_each_try_and_each_upstream_hears_its_own(
    rig: Rig, collector: FakeCollector
) -> None:
    await traced(rig, collector)
    rig.triton.text = "nonsense"
    await rig.post(task(SECRET))
    server, specialist, llm = await spans(rig, collector)
    assert specialist.parent_id == llm.parent_id == server.span_id
    assert specialist.span_id in (rig.triton.heard[0].header("traceparent") or "")
    assert llm.span_id in (rig.llm.heard[0].header("traceparent") or "")
    assert (specialist.name, specialist.failed) == ("chat intents-1", True)
    assert specialist.attributes["error.type"] == "invalid"
    assert specialist.attributes["gen_ai.provider.name"] == "slmfleet"
    assert server.attributes["slmfleet.escalated"] == "invalid"
    assert server.attributes["slmfleet.tier"] == "llm" and not server.failed


async def test_a_stream_of_the_llm_has_its_usage_and_its_end(rig: Rig, collector: FakeCollector) -> None:
    await traced(rig, collector)
    await rig.post(chat("x", stream=True))
    _, client = await spans(rig, collector)
    assert client.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert client.attributes["gen_ai.usage.output_tokens"] == 3


async def test_an_llm_that_breaks_off_is_an_error_with_its_word(rig: Rig, collector: FakeCollector) -> None:
    await traced(rig, collector)

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(chat_events("a")[0]))
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    await rig.post(chat("x", stream=True))
    _, client = await spans(rig, collector)
    assert client.failed and client.attributes["error.type"] == "upstream_broken"


@pytest.mark.parametrize("header", ["", f"traceparent: 00-{PARENT}\r\n", "traceparent: 00-0-0-01\r\n"])
async def test_a_call_without_a_usable_parent_begins_a_trace(rig: Rig, collector: FakeCollector, header: str) -> None:
    await traced(rig, collector)
    await rig.post(chat("x"), headers=header)
    server, client = await spans(rig, collector)
    assert server.parent_id is None and client.trace_id == server.trace_id
    assert PARENT.partition("-")[0] != server.trace_id


async def test_what_the_caller_does_not_sample_is_passed_on_unsampled_and_not_sent(
    rig: Rig, collector: FakeCollector
) -> None:
    await traced(rig, collector)
    await rig.post(chat("x"), headers=f"traceparent: 00-{PARENT}-00\r\n")
    assert (rig.llm.heard[0].header("traceparent") or "").endswith("-00")
    assert await spans(rig, collector) == []
    assert collector.collected().metrics["gen_ai.client.operation.duration"][0].count == 1


async def test_a_path_that_is_no_genai_call_is_one_span_that_its_upstream_continues(
    rig: Rig, collector: FakeCollector
) -> None:
    await traced(rig, collector)
    await rig.get("/v1/files")
    [server] = await spans(rig, collector)
    assert (server.name, server.kind) == ("GET", 2)
    assert server.span_id in (rig.llm.heard[0].header("traceparent") or "")


async def test_without_a_collector_the_callers_traceparent_passes_as_it_is(rig: Rig) -> None:
    await rig.post(chat("x"), headers=f"TraceParent: 00-{PARENT}-01\r\n")
    assert ("TraceParent", f"00-{PARENT}-01") in rig.llm.heard[0].headers


# --- metrics ---


async def test_metrics_follow_the_genai_conventions(rig: Rig, collector: FakeCollector) -> None:
    await traced(rig, collector, trace_percent=0)
    await rig.post(chat("x"))
    await rig.post(task())
    rig.llm.reply = broken
    await rig.post(chat("x"))
    assert await spans(rig, collector) == []
    found = collector.collected()
    assert found.units == {"gen_ai.client.operation.duration": "s", "gen_ai.client.token.usage": "{token}",
                           "gen_ai.server.request.duration": "s"}  # fmt: skip
    duration = {(p.attributes["gen_ai.provider.name"], p.attributes.get("error.type")): p
                for p in found.metrics["gen_ai.client.operation.duration"]}  # fmt: skip
    assert {key: p.count for key, p in duration.items()} == {
        ("openai", None): 1, ("slmfleet", None): 1, ("openai", "500"): 1}  # fmt: skip
    assert duration["openai", None].bounds[:2] == [0.01, 0.02] and duration["openai", None].bounds[-1] == 81.92
    tokens = {(p.attributes["gen_ai.provider.name"], p.attributes["gen_ai.token.type"]): p.total
              for p in found.metrics["gen_ai.client.token.usage"]}  # fmt: skip
    assert tokens == {("openai", "input"): 11, ("openai", "output"): 5, ("slmfleet", "input"): 9,
                      ("slmfleet", "output"): 4}  # fmt: skip
    requests = found.metrics["gen_ai.server.request.duration"]
    assert sorted((p.attributes.get("error.type", ""), p.count) for p in requests) == [("", 2), ("500", 1)]


async def broken(heard: Heard, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(b"{}", status="500 Internal Server Error"))


async def test_prometheus_metrics_have_conventional_names_and_labels_from_the_table_only(rig: Rig) -> None:
    await rig.post(chat("x") | {"model": "anything-a-caller-says"}, headers="x-conversation-id: c7\r\n")
    await rig.post(task())
    text = (await rig.get("/metrics", admin=True)).body.decode()
    assert "anything-a-caller-says" not in text and "c7" not in text
    families = list(text_string_to_metric_families(text))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("slmfleet_gateway_") and family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            assert sample.labels.keys() <= {"tier", "direction", "specialist", "revision", "result", "pool", "le",
                                            "rule", "limit", "signal"}  # fmt: skip
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert samples["slmfleet_gateway_decisions_total", "fingerprint"] == 1
    assert samples["slmfleet_gateway_arm_assigned_total", "intents", "rev1"] == 1
    assert samples["slmfleet_gateway_arm_calls_total", "intents", "rev1", "served"] == 1


# --- nothing waits ---


async def test_a_collector_that_is_away_or_hangs_fails_no_call_and_what_was_lost_is_counted(
    rig: Rig, collector: FakeCollector
) -> None:
    hangs = asyncio.Event()

    async def hang(heard: Heard, writer: asyncio.StreamWriter) -> None:
        hangs.set()
        await asyncio.Event().wait()

    collector.reply = hang
    await traced(rig, collector)
    watch = rig.gateway.watch
    assert watch is not None and watch.exporter is not None
    await rig.post(chat("x"))
    await asyncio.wait_for(hangs.wait(), 60)
    assert [(await rig.post(chat("x"))).status for _ in range(3)] == [200, 200, 200]
    await collector.stop()
    await until(lambda: watch.exporter is not None and watch.exporter._failing)
    assert (await rig.post(task())).route["tier"] == "specialist"
    rig.stopped = True
    await rig.gateway.stop()
    assert watch.exporter.dropped == 5




async def test_the_generalist_is_a_try_like_the_others(rig: Rig, collector: FakeCollector) -> None:
    small = FakeLlm()
    await small.start()
    await rig.use({**rig.content, "version": 2, "generalist": {"url": f"{small.url}/v1", "model": "small"}})
    await traced(rig, collector)
    await rig.post(chat("x"), headers=f"traceparent: 00-{PARENT}-01\r\n")
    small.reply = broken
    await rig.post(chat("x"))
    served, generalist, _, failed, llm = await spans(rig, collector)
    await small.stop()
    assert (generalist.name, generalist.attributes["slmfleet.tier"], generalist.failed) == (
        "chat small", "generalist", False)  # fmt: skip
    assert generalist.parent_id == served.span_id
    assert served.start <= generalist.start <= generalist.end <= served.end + 1_000_000
    assert generalist.span_id in (small.heard[0].header("traceparent") or "")
    assert served.attributes["slmfleet.tier"] == "generalist"
    assert (failed.attributes["error.type"], llm.attributes["slmfleet.tier"]) == ("error", "llm")
