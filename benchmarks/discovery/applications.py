"""Whether calls of different applications ever come into one cluster: purity on agents' logs.

    python benchmarks/discovery/applications.py [--out benchmarks/discovery/applications.md]

Four applications' recorded calls in one log: MetaGPT, a coding agent, customer service with tools (tau), single tool
calls (BFCL). Nothing is told to discovery, and nothing of it was chosen on this. `bare` sends what is said alone,
without system prompts and tools, where only the text can tell. Sources and licences: the README beside the data.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "operator")]

import traffic  # noqa: E402

from slmfleet.curation import discover as stage  # noqa: E402
from slmfleet.curation.sources import Log  # noqa: E402
from slmfleet.wire.records import UsageRecord  # noqa: E402

GOAL = 0.95
SERVICE = "You are a customer service agent of an online shop. Authenticate the user, then help; act by the tools."
Call = tuple[str, list[dict[str, Any]], list[Any], str]  # conversation, messages, tools, answer


def applications(data: Path, bare: bool) -> dict[str, list[Call]]:
    """Every application's calls in the order in which they were made."""
    found: dict[str, list[Call]] = {"metagpt": [], "coding agent": [], "customer service": [], "tool calls": []}
    for conversation, prompt, answer in traffic.broad(data, "all"):
        name = "metagpt" if conversation.startswith("metagpt") else "coding agent"
        found[name].append((conversation, [{"role": "user", "content": prompt}], [], answer))
    for number, line in enumerate(_lines(data / "agent-logs/tau-retail-few_shot.jsonl.gz")):
        found["customer service"] += list(_service(f"tau-{number}", line["messages_display"], bare))
    for name in ("BFCL_v4_simple_python.json", "BFCL_v4_irrelevance.json"):
        for line in map(json.loads, (data / "toolcall" / name).read_text("utf-8").splitlines()):
            tools = [] if bare else [{"type": "function", "function": each} for each in line["function"]]
            found["tool calls"].append((line["id"], list(line["question"][0]), tools, "done"))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def _service(conversation: str, shown: str, bare: bool) -> Any:
    """A call for each answer of the agent to the customer."""
    said: list[dict[str, Any]] = [] if bare else [{"role": "system", "content": SERVICE}]
    for line in shown.split("\n"):
        role, _, text = line.partition(": ")
        if role == "assistant" and text not in ("None", ""):
            yield conversation, list(said), [], text
        if role in ("user", "assistant") and text not in ("None", ""):
            said.append({"role": role, "content": text})


def log_of(calls: dict[str, list[Call]]) -> tuple[Log, dict[str, str]]:
    """The log, and which application each record is of."""
    records, owner, now = [], {}, datetime(2026, 3, 2, tzinfo=UTC)
    for application, each in calls.items():
        for conversation, messages, tools, answer in each:
            now += timedelta(seconds=2)
            record = traffic._record(f"call-{len(records):06d}", now, conversation, messages, answer)
            if tools:
                record["request"]["tools"] = tools
            records.append(UsageRecord.model_validate(record))
            owner[record["id"]] = application
    return Log(records=records, digest="sha256:benchmark"), owner


def row(setting: str, calls: dict[str, list[Call]]) -> str:
    """A line of the table."""
    log, owner = log_of(calls)
    found = stage.discover(log, stage.Settings(seed=0))
    clusters: dict[str, Counter[str]] = defaultdict(Counter)
    for record, cluster in found.assigned.items():
        if cluster is not None:
            clusters[cluster][owner[record]] += 1
    taken = sum(map(Counter.total, clusters.values()))
    pure = sum(max(each.values()) for each in clusters.values()) / max(1, taken)
    mixed = sum(len(each) > 1 for each in clusters.values())
    sizes = ", ".join(f"{name} {len(each)}" for name, each in calls.items())
    return f"| {setting} | {len(owner)} ({sizes}) | {len(clusters)} | {taken / len(owner):.0%} | {pure:.4f} | {mixed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = traffic.data_dir()
    if data is None:
        sys.exit("benchmarks/discovery: no shared data; set SLMFLEET_DATA")
    lines = [
        "# Applications apart from each other",
        "",
        f"`make bench-discovery` on {datetime.now(UTC).date()}. Goal: purity at least {GOAL}: of the calls in a "
        "cluster, the share that is of its commonest application. Four agents' calls in one log, nothing told.",
        "",
        "| setting | calls | clusters | of the calls, in one | purity | clusters of several |",
        "|---|---|---|---|---|---|",
    ]
    for setting in ("as sent", "bare"):
        lines.append(row(setting, applications(data, setting == "bare")))
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
