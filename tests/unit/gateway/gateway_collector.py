"""An OpenTelemetry collector on loopback: takes OTLP over HTTP in JSON, and decodes it strictly by the protocol."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway_fakes import FakeServer, Heard, whole

SPAN = {"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes",
        "status"}  # fmt: skip
POINT = {"startTimeUnixNano", "timeUnixNano", "attributes", "count", "sum", "bucketCounts", "explicitBounds"}


@dataclass
class Span:
    """One span, decoded."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Point:
    """One series of a histogram, decoded."""

    attributes: dict[str, Any]
    counts: list[int]
    total: float
    bounds: list[float]

    @property
    def count(self) -> int:
        return sum(self.counts)


@dataclass
class Collected:
    """What came, newest last."""

    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)


class FakeCollector(FakeServer):
    """Answers 200 to everything; `answers` are given first, one a message."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bytes] = []

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answers.pop(0) if self.answers else whole(b"{}"))

    def collected(self) -> Collected:
        """Everything that came, decoded; metrics are cumulative, so the last message counts."""
        found = Collected()
        for heard in self.heard:
            assert heard.header("content-type") == "application/json"
            if heard.target.endswith("/v1/traces"):
                found.spans += traces(heard.json, found.resources)
            elif heard.target.endswith("/v1/metrics"):
                metrics(heard.json, found)
            else:
                raise AssertionError(heard.target)
        return found


def traces(message: dict[str, Any], resources: list[dict[str, Any]]) -> Iterator[Span]:
    for of_resource in only(message, {"resourceSpans"})["resourceSpans"]:
        resources.append(values(only(of_resource, {"resource", "scopeSpans"})["resource"]["attributes"]))
        for scoped in of_resource["scopeSpans"]:
            assert only(scoped, {"scope", "spans", "schemaUrl"})["scope"]["name"]
            yield from (span(raw) for raw in scoped["spans"])


def span(raw: dict[str, Any]) -> Span:
    only(raw, SPAN)
    assert re.fullmatch("[0-9a-f]{32}", raw["traceId"]) and re.fullmatch("[0-9a-f]{16}", raw["spanId"])
    assert only(raw.get("status", {}), {"code"}).get("code", 2) == 2
    return Span(
        raw["traceId"], raw["spanId"], raw.get("parentSpanId"), raw["name"], raw["kind"],
        number(raw["startTimeUnixNano"]), number(raw["endTimeUnixNano"]), "status" in raw, values(raw["attributes"]),
    )  # fmt: skip


def metrics(message: dict[str, Any], found: Collected) -> None:
    for of_resource in only(message, {"resourceMetrics"})["resourceMetrics"]:
        for scoped in only(of_resource, {"resource", "scopeMetrics"})["scopeMetrics"]:
            for metric in only(scoped, {"scope", "metrics", "schemaUrl"})["metrics"]:
                only(metric, {"name", "unit", "description", "histogram"})
                histogram = only(metric["histogram"], {"aggregationTemporality", "dataPoints"})
                assert histogram["aggregationTemporality"] == 2
                found.units[metric["name"]] = metric["unit"]
                found.metrics[metric["name"]] = [point(raw) for raw in histogram["dataPoints"]]


def point(raw: dict[str, Any]) -> Point:
    only(raw, POINT)
    counts = [number(count) for count in raw["bucketCounts"]]
    assert len(counts) == len(raw["explicitBounds"]) + 1
    assert sum(counts) == number(raw["count"])
    return Point(values(raw["attributes"]), counts, raw["sum"], raw["explicitBounds"])


def values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    found = {only(item, {"key", "value"})["key"]: value(item["value"]) for item in attributes}
    assert len(found) == len(attributes), "a key stands once"
    return found


def value(raw: dict[str, Any]) -> Any:
    [(kind, content)] = raw.items()
    if kind == "intValue":
        return number(content)
    if kind == "arrayValue":
        return [value(item) for item in content["values"]]
    assert kind in ("stringValue", "doubleValue", "boolValue")
    return content


def number(text: Any) -> int:
    """A 64-bit integer is a string in JSON."""
    assert isinstance(text, str)
    return int(text)


def only(message: dict[str, Any], known: set[str]) -> dict[str, Any]:
    assert message.keys() <= known, message.keys() - known
    return message
