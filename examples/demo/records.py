"""The traffic as usage records, without a gateway: for `slmfleet discover --records` and its scores.

    python -m demo.records --traffic DIR --phase train --out records.jsonl
    slmfleet discover --records records.jsonl --out found
    python -m demo.records --traffic DIR --score found/assignments.jsonl

A record carries what a gateway would have logged and nothing else: no task, no label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.keys import prompt_tokens, request_key, tokens
from demo.scoring import TaskScore, score
from demo.traffic import WRONG_SHARE, read_lines, write_lines

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


def records(calls: list[dict[str, Any]], answers: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """A usage record a call, in the order of the calls."""
    recorded: dict[str, str] = {}
    for row in answers:
        recorded.setdefault(row["key"], row["content"])
    for call in calls:
        request = call["request"]
        answer = recorded[request_key(request["messages"])]
        used = {"prompt_tokens": prompt_tokens(request["messages"]), "completion_tokens": tokens(answer)}
        message = {"role": "assistant", "content": answer}
        yield {
            "id": call["id"],
            "time": (BEGIN + timedelta(seconds=call["at_seconds"])).isoformat().replace("+00:00", "Z"),
            "conversation": call["conversation"],
            "api": "chat.completions",
            "status": 200,
            "latency_seconds": round(0.45 + 0.015 * used["completion_tokens"], 3),
            "tier": "llm",
            "specialist": None,
            "revision": None,
            "request": request,
            "response": {
                "id": f"chatcmpl-{call['id']}",
                "object": "chat.completion",
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {**used, "total_tokens": sum(used.values())},
            },
        }


def score_assignments(calls: list[dict[str, Any]], assignments: list[dict[str, Any]]) -> list[TaskScore]:
    """Score what `slmfleet discover` assigned; a record that it does not mention is in no cluster."""
    cluster = {row["id"]: row["cluster"] for row in assignments}
    known = [call for call in calls if call["id"] in cluster] or calls
    return score(((call["task"], cluster.get(call["id"])) for call in known), WRONG_SHARE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.records", description=__doc__.split("\n\n")[0])
    parser.add_argument("--traffic", type=Path, required=True, help="folder that demo.traffic wrote")
    parser.add_argument("--phase", choices=("train", "later"), default="train")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="write usage records")
    what.add_argument("--score", type=Path, metavar="ASSIGNMENTS", help="score an assignments.jsonl")
    given = parser.parse_args()
    calls = [call for call in read_lines(given.traffic / "calls.jsonl") if call["phase"] == given.phase]
    if given.out:
        write_lines(given.out, records(calls, read_lines(given.traffic / "answers.jsonl")))
        print(f"wrote {given.out}: {len(calls)} records")
        return
    for each in score_assignments(calls, read_lines(given.score)):
        row = {
            "task": each.task, "cluster": each.group, "sent": each.sent, "purity": each.purity.value,
            "missed": each.missed.good, "foreign": each.foreign.good, "fragments": each.fragments,
        }  # fmt: skip
        print(json.dumps(row))


if __name__ == "__main__":
    main()
