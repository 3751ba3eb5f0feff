"""The results as a page: medians over rounds, ratios of those medians, and the conditions they hold under."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

OURS = "slmfleet, everything on"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
SETTINGS = [f"{payload}, {connections}" for payload in ("0.2 KB", "1 KB", "220 KB") for connections in (16, 256)]
CHUNKS = 200
STREAMS = ["stream, 16", "stream, 256"]


def write(path: Path, result: dict[str, Any]) -> None:
    """Put the tables between the marks of the page; what is written around them by hand stays."""
    page = path.read_text(encoding="utf-8") if path.exists() else f"# The gateway beside others\n\n{BEGIN}{END}"
    before, _, rest = page.partition(BEGIN)
    path.write_text(before + BEGIN + tables(result) + END + rest.partition(END)[2], encoding="utf-8")


def tables(result: dict[str, Any]) -> str:
    cells = {name: found for name, found in result["cells"].items() if name != "no gateway"}
    skipped = [f"| {name} | not run: {why} |" for name, why in sorted(result["not_run"].items())]
    parts = [
        _conditions(result["conditions"]),
        "CPU per call in microseconds (how many times ours with everything on), by payload and connections:",
        _table(cells, SETTINGS, _cpu_per_request, result),
        "Calls a second, with one core for the gateway (falls behind: hardly a call or stream is whole in its time):",
        _table(cells, SETTINGS, _per_second, result),
        f"Added latency in milliseconds at {result['conditions']['rate']} calls a second of 1 KB over 16 connections "
        "(nginx alone taken off), and CPU per call at that rate:",
        _paced(result),
        "CPU per streamed chunk in microseconds (streams of 200 chunks, 5 ms apart), by connections; resident memory:",
        _table(cells, STREAMS, _cpu_per_chunk, result, memory=True),
        *(["Not run:\n\n| gateway | why |\n|---|---|\n" + "\n".join(skipped)] if skipped else []),
    ]
    return "\n\n".join(parts) + "\n\n"


def _conditions(given: dict[str, Any]) -> str:
    kind = "A quick run (one round: a check that everything runs, not a result)" if given["quick"] else "A full run"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(given["versions"].items()))
    return (
        f"{kind}: {given['date']}, {given['cpu']}, {given['cores']} cores, load {given['load_before']} before and "
        f"{given['load_after']} after (of which the benchmark itself is up to 2), Linux {given['kernel']}, Python "
        f"{given['python']}; {given['rounds']} interleaved rounds of {given['seconds']} s; ours knows "
        f"{given['specialists']} specialists. {versions}."
    )


def _table(
    cells: dict[str, Any], settings: list[str], value: Any, result: dict[str, Any], *, memory: bool = False
) -> str:
    lines = ["| gateway | " + " | ".join([*settings, *(["resident MiB"] if memory else [])]) + " |"]
    lines.append("|---" * (1 + len(settings) + memory) + "|")
    ours = {setting: value(cells.get(OURS, {}).get(setting, [])) for setting in settings}
    for name, found in cells.items():
        shown = [_shown(value(found.get(setting, [])), ours[setting], found.get(setting, [])) for setting in settings]
        resident = [str(result["resident_mib"].get(name, "-"))] if memory else []
        lines.append("| " + " | ".join([name, *shown, *resident]) + " |")
    return "\n".join(lines)


def _shown(mine: float | None, ours: float | None, rounds: list[dict[str, Any]]) -> str:
    if not rounds:
        return "-"
    failed, done = sum(one["failed"] for one in rounds), sum(one["requests"] for one in rounds)
    if 2 * failed >= max(1, done):
        return f"fails ({failed} of {done})"
    if mine is None or (_chunks(rounds) and done * CHUNKS < _chunks(rounds) / 3):
        return "falls behind"
    ratio = f" ({mine / ours:.2f})" if ours else ""
    number = f"{mine:,.0f}" if mine >= 10 else f"{mine:.1f}"
    return number + ratio + (f", {failed} failed" if failed else "")


def _chunks(rounds: list[dict[str, Any]]) -> int:
    return sum(one.get("chunks", 0) for one in rounds)


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _cpu_per_request(rounds: list[dict[str, Any]]) -> float | None:
    return _median([1e6 * one["cpu_seconds"] / one["requests"] for one in rounds if one["requests"]])


def _per_second(rounds: list[dict[str, Any]]) -> float | None:
    return _median([one["requests"] / one["seconds"] for one in rounds if one["requests"]])


def _cpu_per_chunk(rounds: list[dict[str, Any]]) -> float | None:
    return _median([1e6 * one["cpu_seconds"] / one["chunks"] for one in rounds if one["chunks"]])


def _paced(result: dict[str, Any]) -> str:
    direct = result["cells"].get("no gateway", {}).get("paced", [])
    base = {key: _median([one[key] for one in direct]) or 0.0 for key in ("p50", "p99")}
    lines = ["| gateway | added p50 | added p99 | CPU per call, µs | reached calls a second |", "|---|---|---|---|---|"]
    lines.append(f"| nginx alone (not added) | {base['p50']:.2f} | {base['p99']:.2f} | - | - |")
    for name, found in result["cells"].items():
        rounds = found.get("paced", [])
        if name == "no gateway" or not rounds:
            continue
        reached = _median([one["reached"] for one in rounds]) or 0.0
        done = [1e6 * one["cpu_seconds"] / (one["reached"] * _seconds(result)) for one in rounds if one["reached"]]
        added = [(_median([one[key] for one in rounds]) or 0.0) - base[key] for key in ("p50", "p99")]
        held = "" if reached > 0.97 * rounds[0]["asked"] else " (does not hold the rate)"
        lines.append(f"| {name} | {added[0]:.2f} | {added[1]:.2f} | {_median(done) or 0:.0f} | {reached:,.0f}{held} |")
    return "\n".join(lines)


def _seconds(result: dict[str, Any]) -> float:
    return float(result["conditions"]["seconds"])


if __name__ == "__main__":
    given = Path(sys.argv[1])
    write(given.with_name("results.md"), json.loads(given.read_text(encoding="utf-8")))
