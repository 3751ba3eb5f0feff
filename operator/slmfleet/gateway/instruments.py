"""Histograms by OpenTelemetry's GenAI conventions, added up in the event loop and read by the exporter.

Names, units, attributes and bucket bounds: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
(status: development), as of version 1.37, the first with `gen_ai.provider.name`. The model's name comes from callers,
so only so many different ones are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from slmfleet.gateway.seen import Seen, Try

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(float(4**power) for power in range(14))
MODELS = 100
OTHER = "_OTHER"
OURSELVES = "slmfleet"

Labels = tuple[tuple[str, str | int], ...]


class Series:
    """One series: counts by bucket (a value belongs to the first bound that it does not exceed) and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histogram:
    """One instrument."""

    def __init__(self, name: str, unit: str, description: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self.bounds = bounds
        self._series: dict[Labels, Series] = {}

    def series(self, labels: Labels) -> Series:
        """The series of these labels, made when it is asked for first."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = Series(self.bounds)
        return found

    def points(self) -> Iterator[tuple[Labels, list[int], float]]:
        """Labels, counts and sum of each series with a value; from any thread."""
        for labels, series in list(self._series.items()):
            counts = list(series.counts)
            if any(counts):
                yield labels, counts, series.total


class Instruments:
    """The three histograms of a gateway: it is the client of its upstreams, and a model server to its callers."""

    def __init__(self) -> None:
        self.operation = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", SECONDS)
        self.tokens = Histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", TOKENS
        )
        self.request = Histogram(
            "gen_ai.server.request.duration",
            "s",
            "Generative AI server request duration such as time-to-last byte or last output token.",
            SECONDS,
        )
        self._models: set[str] = set()
        self._asked: dict[tuple[object, ...], tuple[Series, Series, Series]] = {}
        self._answered: dict[tuple[object, ...], Series] = {}

    @property
    def all(self) -> tuple[Histogram, ...]:
        return self.operation, self.tokens, self.request

    def record(self, seen: Seen) -> None:
        """Count one call and its tries."""
        operation = seen.operation
        if operation is None:
            return
        for tried in seen.tries:
            self._record_try(operation, tried)
        key = (operation, self._bounded(seen.model), seen.status)
        series = self._answered.get(key)
        if series is None:
            error = str(seen.status) if seen.status >= 400 else None
            series = self._answered[key] = self.request.series(_labels(operation, OURSELVES, key[1], error))
        series.record(seen.seconds)

    def _record_try(self, operation: str, tried: Try) -> None:
        model = self._bounded(tried.model)
        key = (operation, tried.provider, model, tried.error, tried.address, tried.port)
        known = self._asked.get(key)
        if known is None:
            known = self._asked[key] = self._series_of(operation, tried, model)
        duration, inputs, outputs = known
        duration.record(tried.seconds)
        if tried.input_tokens or tried.output_tokens:
            inputs.record(tried.input_tokens)
            outputs.record(tried.output_tokens)

    def _series_of(self, operation: str, tried: Try, model: str) -> tuple[Series, Series, Series]:
        where: Labels = ()
        if tried.address is not None and tried.port is not None:
            where = (("server.address", tried.address), ("server.port", tried.port))
        common = _labels(operation, tried.provider, model, None) + where
        return (
            self.operation.series(_labels(operation, tried.provider, model, tried.error) + where),
            self.tokens.series((*common, ("gen_ai.token.type", "input"))),
            self.tokens.series((*common, ("gen_ai.token.type", "output"))),
        )

    def _bounded(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= MODELS:
                return OTHER
            self._models.add(model)
        return model


def _labels(operation: str, provider: str, model: str, error: str | None) -> Labels:
    labels: Labels = (("gen_ai.operation.name", operation), ("gen_ai.provider.name", provider))
    if model:
        labels += (("gen_ai.request.model", model),)
    return (*labels, ("error.type", error)) if error is not None else labels
