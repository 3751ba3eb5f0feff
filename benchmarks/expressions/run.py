"""What a tenant's regular expressions cost on RE2, beside Python's `re` on the same texts, in one run.

    make bench-expressions

Both find the same values (`re` with ASCII classes), or the run fails. CPU time, best of five, in turn. What loses:
texts of a sentence, and values in every word, where each search costs a microsecond or two of the binding to Python.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import platform
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean

from slmfleet.wire.expressions import Encoded, Expression

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PATTERNS = (
    r"EMP-\d{6}",
    r"\bST-\d{6}\b",
    r"\b[\w.-]+@[\w.-]+\.\w+\b",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"\d{4}[ -]?\d{4}[ -]?\d{4}",
    r"[A-Z]{2,5}-\d{3,8}",
    r"(?i)case[ -]?no\.?\s*(?P<v>[A-Z]{2}\d+)",
    r"(?i)project (?P<v>[a-z]+)",
    r"(?:https?://)?example\.com(?:/[\w-]+)*",
    r"[a-z]+",
)
HEADER = "| texts | expression | values | `re`, MB/s | RE2, MB/s | times as fast |\n|---|---|---|---|---|---|"


def texts(data: Path) -> dict[str, list[str]]:
    """Sentences; the same, a hundred at a time; prompts and answers of an agent, in ASCII and not."""
    rows = json.loads((data / "pii/presidio_generated_large.json").read_text("utf-8"))
    sentences = [row["full_text"] for row in rows]
    with gzip.open(data / "agent-logs/metagpt-rsp_cache.json.gz", "rt", encoding="utf-8") as file:
        agent = [text for pair in json.load(file).items() for text in map(str, pair)]
    return {
        "sentences": sentences,
        "pages": ["\n".join(sentences[at : at + 100]) for at in range(0, len(sentences), 100)],
        "agent, ASCII": [text for text in agent if text.isascii()],
        "agent, other": [text for text in agent if not text.isascii()],
    }


def by_re(regex: str, several: Sequence[str]) -> Callable[[], int]:
    compiled = re.compile(regex, re.ASCII)
    group = "v" if "v" in compiled.groupindex else 0
    return lambda: sum(1 for text in several for match in compiled.finditer(text) if match.end(group) >= 0)


def by_re2(regex: str, several: Sequence[str]) -> Callable[[], int]:
    expression = Expression(regex)
    return lambda: sum(len(expression.spans(Encoded(text))) for text in several)


def best(runs: Sequence[Callable[[], int]], times: int = 5) -> list[tuple[float, int]]:
    """(least CPU seconds, values) of each."""
    seconds, values = [math.inf] * len(runs), [0] * len(runs)
    for _ in range(times):
        for i, run in enumerate(runs):
            began = time.process_time()
            values[i] = run()
            seconds[i] = min(seconds[i], time.process_time() - began)
    return list(zip(seconds, values, strict=True))


def table(data: Path) -> list[str]:
    rows = [HEADER]
    for name, several in texts(data).items():
        size, ratios = sum(len(text.encode()) for text in several) / 1e6, []
        for regex in PATTERNS:
            (python, values), (ours, same) = best((by_re(regex, several), by_re2(regex, several)))
            if values != same:
                raise SystemExit(f"{regex} on {name}: {values} values with re, {same} with RE2")
            ratios.append(python / ours)
            shown = regex.replace("|", "\\|")
            rates = f"{size / python:,.0f} | {size / ours:,.0f} | {python / ours:.1f}"
            rows.append(f"| {name} | `{shown}` | {values} | {rates} |")
        rows.append(f"| {name} | all, geometric mean | | | | **{geometric_mean(ratios):.1f}** |")
    return rows


def squares() -> list[str]:
    """Where each match reads on to the end: not linear, with RE2 as with `re`."""
    rows = ["| `a(?:.*b)?` on as many a | `re`, s | RE2, s |", "|---|---|---|"]
    for length in (10_000, 20_000, 40_000):
        (python, _), (ours, _) = best([run(r"a(?:.*b)?", ["a" * length]) for run in (by_re, by_re2)], 1)
        rows.append(f"| {length:,} | {python:.2f} | {ours:.2f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    chosen = parser.parse_args()
    where = f"{platform.machine()}, Python {platform.python_version()}, google-re2 {version('google-re2')}"
    head = f"{__doc__.strip()}\n\n{datetime.now(UTC):%Y-%m-%d}, {where}; texts: `shared/data` (pii, agent-logs)."
    chosen.out.write_text("\n\n".join((f"# RE2 beside `re`\n\n{head}", "\n".join(table(chosen.data)),
                                       "\n".join(squares()))) + "\n", "utf-8")  # fmt: skip


if __name__ == "__main__":
    main()
