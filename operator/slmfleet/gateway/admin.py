"""The admin port: health, readiness, metrics, signals, the table's version. Never on the public port."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from slmfleet.gateway.app import App
from slmfleet.gateway.counters import BUCKET_NAMES, Counters, Latency
from slmfleet.gateway.exchange import JSON, Exchange
from slmfleet.gateway.seeing import Watch

PREFIX = "slmfleet_gateway"
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


@dataclass(slots=True)
class Admin:
    """The handler of the admin port."""

    app: App
    draining: Callable[[], bool]
    registry: CollectorRegistry

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        page = _PAGES.get(exchange.request.path)
        status, header, body = page(self) if page else (404, JSON, b'{"error":"no such page"}')
        exchange.send(status, [header], body)

    def healthz(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        draining = self.draining()
        return 503 if draining else 200, JSON, orjson.dumps({"status": "draining" if draining else "ok"})

    def readyz(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        reason = "draining" if self.draining() else "no route table yet" if self.app.table is None else None
        return 503 if reason else 200, JSON, orjson.dumps({"ready": reason is None, "reason": reason})

    def metrics(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        return 200, TEXT, generate_latest(self.registry)

    def signals(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        return 200, JSON, self.app.counters.signals().model_dump_json(by_alias=True).encode()

    def table(self) -> tuple[int, tuple[bytes, bytes], bytes]:
        table, counters = self.app.table, self.app.counters
        content = {
            "version": table.spec.version if table else None,
            "router": table.spec.router if table else None,
            "specialists": sorted(table.by_name) if table else [],
            "classifier": counters.classifier,
            "problem": counters.table_problem,
        }
        return 200 if table else 503, JSON, orjson.dumps(content)


_PAGES = {
    b"/healthz": Admin.healthz,
    b"/readyz": Admin.readyz,
    b"/metrics": Admin.metrics,
    b"/signals": Admin.signals,
    b"/table": Admin.table,
}


class Metrics(Collector):
    """The counters as Prometheus metrics, made at the scrape. Labels are names from the table: bounded."""

    def __init__(self, counters: Counters, watch: Watch | None = None) -> None:
        self._counters = counters
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        yield from self._tiers()
        yield from self._arms()
        yield from self._shadow()
        yield from self._pools()
        yield from self._decisions()
        yield from self._limited()
        yield from self._telemetry()
        yield from self._process()

    def _tiers(self) -> Iterable[Metric]:
        tiers = self._counters.tiers
        calls = CounterMetricFamily(f"{PREFIX}_calls", "Calls answered by a tier.", labels=["tier"])
        failed = CounterMetricFamily(f"{PREFIX}_tier_errors", "Failures of a tier.", labels=["tier"])
        tokens = CounterMetricFamily(f"{PREFIX}_tokens", "Tokens by tier.", labels=["tier", "direction"])
        latency = HistogramMetricFamily(f"{PREFIX}_latency_seconds", "Time to the answer's end.", labels=["tier"])
        for name, tier in tiers.items():
            calls.add_metric([name], tier.calls)
            failed.add_metric([name], tier.errors)
            tokens.add_metric([name, "input"], tier.input_tokens)
            tokens.add_metric([name, "output"], tier.output_tokens)
            latency.add_metric([name], _buckets(tier.latency), tier.latency.seconds)
        return [calls, failed, tokens, latency]

    def _arms(self) -> Iterable[Metric]:
        labels = ["specialist", "revision", "result"]
        results = CounterMetricFamily(
            f"{PREFIX}_arm_calls", "Calls by revision and what became of them.", labels=labels
        )
        assigned = CounterMetricFamily(
            f"{PREFIX}_arm_assigned", "Calls whose conversation is in a revision's arm.", labels=labels[:2]
        )
        latency = HistogramMetricFamily(f"{PREFIX}_arm_latency_seconds", "Of a revision's tries.", labels=labels[:2])
        for (specialist, revision), arm in self._counters.arms.items():
            assigned.add_metric([specialist, revision], arm.assigned)
            for result in ("served", "errors", "invalid", "low_confidence", "spilled"):
                results.add_metric([specialist, revision, result], getattr(arm, result))
            latency.add_metric([specialist, revision], _buckets(arm.latency), arm.latency.seconds)
        return [assigned, results, latency]

    def _shadow(self) -> Iterable[Metric]:
        labels = ["specialist", "revision", "result"]
        replays = CounterMetricFamily(f"{PREFIX}_shadow_replays", "Replays to a candidate.", labels=labels)
        for (specialist, revision), shadow in self._counters.shadows.items():
            for result in ("agreed", "disagreed", "failed", "skipped"):
                replays.add_metric([specialist, revision, result], getattr(shadow, result))
        return [replays]

    def _pools(self) -> Iterable[Metric]:
        in_flight = GaugeMetricFamily(f"{PREFIX}_pool_in_flight", "Calls in flight on a pool.", labels=["pool"])
        seconds = CounterMetricFamily(f"{PREFIX}_pool_in_flight_seconds", "Their integral.", labels=["pool"])
        arrivals = CounterMetricFamily(f"{PREFIX}_pool_arrivals", "Calls that wanted a pool.", labels=["pool"])
        spilled = CounterMetricFamily(f"{PREFIX}_pool_spilled", "Of them, passed on untried.", labels=["pool"])
        hedges = CounterMetricFamily(f"{PREFIX}_pool_hedges", "Second requests for a late answer.", labels=["pool"])
        won = CounterMetricFamily(f"{PREFIX}_pool_hedges_won", "Of them, those that answered first.", labels=["pool"])
        now = self._counters.clock()
        for name, pool in self._counters.pools.items():
            in_flight.add_metric([name], pool.in_flight)
            seconds.add_metric([name], pool.in_flight_seconds(now))
            arrivals.add_metric([name], pool.arrivals)
            spilled.add_metric([name], pool.spilled)
            hedges.add_metric([name], pool.hedges)
            won.add_metric([name], pool.hedges_won)
        return [in_flight, seconds, arrivals, spilled, hedges, won]

    def _limited(self) -> Iterable[Metric]:
        limited = CounterMetricFamily(f"{PREFIX}_rate_limited", "Calls over their key's limit.", labels=["limit"])
        for what, count in self._counters.rate_limited.items():
            limited.add_metric([what], count)
        return [limited]

    def _decisions(self) -> Iterable[Metric]:
        decisions = CounterMetricFamily(f"{PREFIX}_decisions", "Chat calls by the rule that decided.", labels=["rule"])
        for rule, count in list(self._counters.decisions.items()):
            decisions.add_metric([rule], count)
        return [decisions]

    def _telemetry(self) -> Iterable[Metric]:
        dropped = CounterMetricFamily(
            f"{PREFIX}_telemetry_dropped", "Calls missing in the access log or in traces.", labels=["signal"]
        )
        if self._watch is not None and self._watch.access_log is not None:
            dropped.add_metric(["access_log"], self._watch.access_log.queue.dropped)
        if self._watch is not None and self._watch.exporter is not None:
            dropped.add_metric(["traces"], self._watch.exporter.dropped)
        return [dropped]

    def _process(self) -> Iterable[Metric]:
        counters, capture = self._counters, self._counters.capture
        counts = {
            "unowned_calls": (counters.unowned_calls, "Calls that no specialist claims."),
            "client_errors": (counters.client_errors, "5xx answers given to callers."),
            "capture_records": (capture.records, "Records sealed and on stable storage."),
            "capture_dropped": (capture.dropped, "Records lost."),
            "capture_segments": (capture.segments, "Segments written."),
            "capture_expired_segments": (capture.expired_segments, "Segments deleted for their age."),
        }
        for name, (value, text) in counts.items():
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)
        log = capture.signals(counters.clock())
        gauges: dict[str, tuple[float, str]] = {
            "capture_failing": (int(log.failing is not None), "1: the store refuses."),
            "capture_unacknowledged": (log.unacknowledged, "Records that a kill would lose now."),
            "capture_unacknowledged_seconds": (log.unacknowledged_seconds, "Age of the oldest of them."),
            "capture_buffered_bytes": (log.buffered_bytes, "Memory that they take."),
            "capture_buffer_bytes": (log.buffer_bytes, "Bound on that memory."),
        }
        for name, (level, text) in gauges.items():
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=level)
        yield GaugeMetricFamily(f"{PREFIX}_table_version", "The table in use.", value=counters.table_version)


def registry(counters: Counters, watch: Watch | None = None) -> CollectorRegistry:
    """A registry with the counters."""
    collectors = CollectorRegistry()
    collectors.register(Metrics(counters, watch))
    return collectors


def _buckets(latency: Latency) -> list[tuple[str, float]]:
    cumulative = latency.cumulative()
    return [(name, cumulative[name]) for name in BUCKET_NAMES]
