"""What several workers counted, as one: signals and metrics of a gateway of many processes. Pure.

Counters are summed. A worker that died keeps what it had last told, so no total ever falls; what it counted after that
is lost. A conversation whose calls came over several workers is judged by each of them, as it is by several replicas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from slmfleet.wire.signals import GatewaySignals

# The log's: an age, and settings that are each worker's own.
_NO_AMOUNTS = frozenset(("unacknowledged_seconds", "segment_records", "segment_seconds"))

_LEVELS = frozenset(("segment_records", "segment_seconds", "unacknowledged_seconds"))  # of each worker, not amounts
_CAPTURE_COUNTS = frozenset(("records", "dropped", "segments", "expired_segments"))


def sum_signals(instance: str, uptime_seconds: float, alive: list[Any], gone: list[Any]) -> GatewaySignals:
    """The signals of one gateway from its workers' (parsed JSON each), those of dead workers apart.

    The table's version is the oldest in use; a problem of one worker is a problem.
    """
    total: Any = {}
    for signals in [*alive, *map(_without_gauges, gone)]:
        total = _added(total, signals)
    for name in _LEVELS if alive else ():
        total["capture"][name] = max(signals["capture"].get(name, 0) for signals in alive)
    versions = [signals["table_version"] for signals in alive]
    classifiers = {signals["classifier"] for signals in alive}
    own = {
        "instance": instance,
        "uptime_seconds": uptime_seconds,
        "table_version": min(versions, default=0),
        "classifier": classifiers.pop() if len(classifiers) == 1 else None,
    }
    return GatewaySignals.model_validate({**total, **own})


def sum_metrics(alive: list[str], gone: list[str]) -> bytes:
    """The same for Prometheus' text format: gauges of dead workers are left out."""
    families: dict[str, Metric] = {}
    for text in alive:
        _add_families(families, text_string_to_metric_families(text))
    for text in gone:
        found = text_string_to_metric_families(text)
        _add_families(families, (family for family in found if family.type != "gauge"))
    registry = CollectorRegistry()
    registry.register(_Given(families.values()))
    return generate_latest(registry)


class _Given(Collector):
    """Families as they are."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _add_families(families: dict[str, Metric], found: Iterable[Metric]) -> None:
    for family in found:
        known = families.get(family.name)
        if known is None:
            families[family.name] = family
            continue
        places = {_key(sample): index for index, sample in enumerate(known.samples)}
        for sample in family.samples:
            place = places.get(_key(sample))
            if place is None:
                known.samples.append(sample)
                continue
            other = known.samples[place]
            value = _gauge(family.name, other.value, sample.value) if family.type == "gauge" else None
            known.samples[place] = other._replace(value=other.value + sample.value if value is None else value)


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _gauge(name: str, one: float, other: float) -> float | None:
    """How a gauge that is no amount is joined; None: it is summed."""
    if name.endswith("_version"):
        return min(one, other)
    return max(one, other) if name.endswith(("_failing", "_unacknowledged_seconds")) else None


def _without_gauges(signals: Any) -> Any:
    pools = {name: {**pool, "in_flight": 0} for name, pool in signals["pools"].items()}
    capture = {key: signals["capture"][key] for key in ("records", "dropped", "segments", "expired_segments")}
    return {**signals, "pools": pools, "table_problem": None, "capture": capture}


def _joined(key: str, one: Any, other: Any) -> Any:
    return max(one, other) if key in _NO_AMOUNTS else _added(one, other)


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: _joined(key, one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
            for key in (one | other)
        }
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other if one is None else one
