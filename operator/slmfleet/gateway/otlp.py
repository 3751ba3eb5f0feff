"""Spans and metrics to an OpenTelemetry collector: OTLP over HTTP in JSON, from a thread of its own.

Written here and not taken from opentelemetry-sdk: noting a call's two spans and four histogram values costs 66 us there
and 16 here (benchmarks/gateway/seeing.py), of a whole call's tens; and it would bring a dozen packages. A call leaves
one object in a bounded queue; everything else happens beside it. What a collector does not take is dropped, counted
and never waited for.

Protocol: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Not covered: gRPC, protobuf, compression, logs.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from slmfleet.gateway.background import Background
from slmfleet.gateway.instruments import Histogram, Instruments
from slmfleet.gateway.log import log
from slmfleet.gateway.seen import Seen
from slmfleet.gateway.spans import Json, attributes, spans_of

QUEUE = 4096
BATCH = 256
FLUSH_SECONDS = 5.0
METRICS_SECONDS = 60.0
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (1.0, 2.0, 4.0)
RETRYABLE = frozenset((429, 502, 503, 504))
SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
CUMULATIVE = 2


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans and metrics go, and how often. `endpoint`: base URL, without /v1/traces."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    resource: Mapping[str, str] = field(default_factory=dict)
    flush_seconds: float = FLUSH_SECONDS
    metrics_seconds: float = METRICS_SECONDS


def collector_from(endpoint: str, environment: Mapping[str, str]) -> Collector:
    """A collector with what OpenTelemetry's own environment variables say. Raises ValueError."""
    base = urlsplit(endpoint)
    if base.scheme not in ("http", "https") or not base.hostname or base.query or base.fragment:
        raise ValueError(f"--otlp-endpoint {endpoint[:200]!r} is no http(s) URL; give one like http://collector:4318")
    resource = {"service.name": "slmfleet-gateway", **_pairs("OTEL_RESOURCE_ATTRIBUTES", environment)}
    if environment.get("OTEL_SERVICE_NAME"):
        resource["service.name"] = environment["OTEL_SERVICE_NAME"]
    return Collector(
        endpoint,
        _pairs("OTEL_EXPORTER_OTLP_HEADERS", environment),
        resource,
        _seconds("OTEL_BSP_SCHEDULE_DELAY", environment, FLUSH_SECONDS),
        _seconds("OTEL_METRIC_EXPORT_INTERVAL", environment, METRICS_SECONDS),
    )


def _seconds(name: str, environment: Mapping[str, str], otherwise: float) -> float:
    """Milliseconds, as OpenTelemetry gives them."""
    text = environment.get(name, "").strip()
    if not text:
        return otherwise
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"{name}: {text[:50]!r} is no number of milliseconds")
    return int(text) / 1000


def _pairs(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`a=1,b=2`, percent-encoded."""
    found = {}
    for item in filter(None, (part.strip() for part in environment.get(name, "").split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{name}: {item[:50]!r} is not KEY=VALUE")
        found[key.strip()] = unquote(value.strip())
    return found


class Refused(Exception):
    """The collector did not take a message. `again`: it may later."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Exporter:
    """Sends what is offered. `retry_seconds`: the waits between tries."""

    def __init__(
        self,
        collector: Collector,
        *,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.instruments = Instruments()
        self.rejected = 0
        self.queue: Background[Seen] = Background(
            "otlp", self._work, size=QUEUE, batch=BATCH, seconds=collector.flush_seconds, idle=True
        )
        self._collector = collector
        self._retry_seconds = retry_seconds
        self._clock, self._wall = clock, wall
        self._began = wall()
        self._metrics_due = 0.0
        self._failing = False
        self._stopping = threading.Event()
        self._resource = {"attributes": attributes(collector.resource)}
        self._scope = {"name": "slmfleet.gateway"}
        self._line: http.client.HTTPConnection | None = None

    def offer(self, seen: Seen) -> None:
        """Count a call, and queue its spans where its trace is sampled. From the event loop; never waits."""
        self.instruments.record(seen)
        if seen.trace is not None and seen.trace.sampled:
            self.queue.offer(seen)

    @property
    def dropped(self) -> int:
        """Calls whose spans were not taken."""
        return self.queue.dropped + self.rejected

    def close(self, seconds: float) -> None:
        """Send what is left, once, within this time."""
        self._stopping.set()
        self._metrics_due = 0.0
        self.queue.close(seconds)

    def _work(self, batch: list[Seen]) -> None:
        spans = [span for seen in batch for span in spans_of(seen)]
        if spans and not self._send("/v1/traces", self._traces(spans)):
            self.rejected += len(batch)
        if self._clock() >= self._metrics_due:
            self._metrics_due = self._clock() + self._collector.metrics_seconds
            metrics = self._metrics()
            if metrics:
                self._send("/v1/metrics", self._metrics_message(metrics))

    # --- messages ---

    def _traces(self, spans: list[Json]) -> Json:
        scoped = {"scope": self._scope, "spans": spans, "schemaUrl": SCHEMA}
        return {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scoped]}]}

    def _metrics_message(self, metrics: list[Json]) -> Json:
        scoped = {"scope": self._scope, "metrics": metrics, "schemaUrl": SCHEMA}
        return {"resourceMetrics": [{"resource": self._resource, "scopeMetrics": [scoped]}]}

    def _metrics(self) -> list[Json]:
        times = {"startTimeUnixNano": str(int(self._began * 1e9)), "timeUnixNano": str(int(self._wall() * 1e9))}
        made = [(histogram, _points(histogram, times)) for histogram in self.instruments.all]
        return [
            {"name": histogram.name, "unit": histogram.unit, "description": histogram.description,
             "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points}}
            for histogram, points in made if points
        ]  # fmt: skip

    # --- sending ---

    def _send(self, path: str, message: Json) -> bool:
        """Whether the collector took it, after as many tries as there are waits (one, once stopping)."""
        body = orjson.dumps(message)
        for wait in (*self._retry_seconds, None):
            try:
                self._post(path, body)
            except Refused as refused:
                self._tell(str(refused))
                if not refused.again or wait is None or self._stopping.wait(wait):
                    return False
            else:
                self._tell(None)
                return True
        return False

    def _post(self, path: str, body: bytes) -> None:
        base = urlsplit(self._collector.endpoint)
        headers = {"content-type": "application/json", **self._collector.headers}
        try:
            if self._line is None:
                self._line = _connection(self._collector.endpoint)
            self._line.request("POST", base.path.rstrip("/") + path, body, headers)
            answer = self._line.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise Refused(f"{type(error).__name__}: {error}", again=True) from error
        if answer.will_close:
            self._hang_up()
        if answer.status in RETRYABLE:
            raise Refused(f"status {answer.status}", again=True)
        if answer.status >= 300:
            raise Refused(f"status {answer.status}: {said[:200].decode('utf-8', 'replace')}", again=False)
        self.rejected += _rejected(said)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _tell(self, problem: str | None) -> None:
        """One line when the collector begins to fail, one when it is well again."""
        if problem is not None and not self._failing:
            log("warning", "OtlpFailing", endpoint=self._collector.endpoint, reason=problem)
        if problem is None and self._failing:
            log("info", "OtlpRecovered", endpoint=self._collector.endpoint, dropped=self.dropped)
        self._failing = problem is not None


def _connection(endpoint: str) -> http.client.HTTPConnection:
    base = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    return kind(base.hostname or "", base.port, timeout=TIMEOUT_SECONDS)


def _points(histogram: Histogram, times: Mapping[str, str]) -> list[Json]:
    return [
        {**times, "attributes": attributes(dict(labels)), "count": str(sum(counts)), "sum": total,
         "bucketCounts": [str(count) for count in counts], "explicitBounds": list(histogram.bounds)}
        for labels, counts, total in histogram.points()
    ]  # fmt: skip


def _rejected(said: bytes) -> int:
    """How many spans a collector refused of a message that it took."""
    try:
        answer: Any = orjson.loads(said or b"{}")
        return int((answer.get("partialSuccess") or {}).get("rejectedSpans") or 0)
    except (orjson.JSONDecodeError, AttributeError, ValueError):
        return 0
