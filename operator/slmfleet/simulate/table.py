"""The result for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slmfleet.simulate.results import Figures, Quantiles, Result, SystemFigures

HEAD = ("", "latency p50", "p95", "p99", "first token p95", "turned away", "for", "server-hours", "most", "loads",
        "cost")


def table(result: Result, specialists: int) -> Iterator[str]:
    """Lines: one row a system; then the first system's worst specialists, at most `specialists` of them."""
    seen = result.trace
    yield (f"{seen.arrivals:,} calls of {seen.specialists} specialists in {seen.seconds:,.0f} s; "
           f"{seen.input_tokens:,} tokens in, {seen.output_tokens:,} out; seed {result.seed}")
    yield ""
    yield from _aligned([HEAD, *(_row(system) for system in result.systems)])
    yield ""
    for system in result.systems:
        yield f"{system.name}: {system.description}"
    if specialists:
        yield ""
        yield from _worst(result.systems[0], specialists)


def _row(system: SystemFigures) -> tuple[str, ...]:
    figures, pools = system.figures, system.pools.values()
    return (system.name, *_figures(figures), f"{system.replica_seconds / 3600:.2f}",
            str(sum(pool.most_servers for pool in pools)), str(figures.adapter_loads),
            "-" if system.cost is None else f"{system.cost.total:.2f}")


def _figures(figures: Figures) -> tuple[str, ...]:
    return (*_seconds(figures.latency_seconds, "p50", "p95", "p99"),
            *_seconds(figures.time_to_first_token_seconds, "p95"), f"{figures.turned_away_share:.2%}",
            ", ".join(f"{count} {why}" for why, count in figures.turned_away_for.items()) or "-")


def _seconds(found: Quantiles | None, *names: str) -> tuple[str, ...]:
    return tuple("-" if found is None else f"{getattr(found, name):.3f} s" for name in names)


def _worst(system: SystemFigures, count: int) -> Iterator[str]:
    """Those with the largest share turned away first, then the slowest."""

    def badness(item: tuple[str, Figures]) -> tuple[float, float, str]:
        found = item[1].latency_seconds
        return (-item[1].turned_away_share, -(found.p95 if found else 0.0), item[0])

    rows = [(name, str(figures.arrivals), *_figures(figures), str(figures.adapter_loads))
            for name, figures in sorted(system.specialists.items(), key=badness)[:count] if figures.arrivals]
    yield from _aligned([(f"worst under {system.name}", "calls", *HEAD[1:7], "loads"), *rows])


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns as wide as their widest cell; text to the left in the first and in "for", numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {0, rows[0].index("for")}
    for row in rows:
        cells = [cell.ljust(width) if column in left else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        yield "  ".join(cells).rstrip()
