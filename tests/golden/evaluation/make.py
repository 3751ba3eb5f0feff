"""Makes the golden inputs again: python tests/golden/evaluation/make.py (SLMFLEET_GOLDEN=write: the results)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CARD = """# Dataset

## Licence
LicenseRef-LLM-Provider-Terms

The prompts belong to whoever runs the agents.

## What it is not
Nothing.
"""
REPORT = {"schema": "slmfleet/curation-result/v1", "redacted": {"email": 3}, "leaks": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
INTENTS = ["Refund", "Refund", "Refund", "Address", "Address", "Complaint"]


def row(number: int, asked: str, answer: str) -> dict[str, Any]:
    return {
        "id": f"call-{number}",
        "conversation": f"conversation-{number // 2}",
        "time": f"2026-03-01T00:{number // 60:02d}:{number % 60:02d}Z",
        "messages": [
            {"role": "system", "content": "Answer as JSON."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ],
    }


def intents(draw: random.Random, number: int) -> tuple[dict[str, Any], str]:
    intent = draw.choice(INTENTS)
    answered = "Complaint" if draw.random() < 0.04 else intent
    asked = f"{'please ' * draw.randrange(6)}ticket {number}: {intent.lower()}"
    return row(number, asked, json.dumps({"intent": intent})), json.dumps({"intent": answered})


def fields(draw: random.Random, number: int) -> tuple[dict[str, Any], str]:
    right = {"order": number, "items": [{"sku": f"s{draw.randrange(9)}", "count": draw.randrange(1, 5)}], "gift": False}
    answered = {**right, "gift": draw.random() < 0.2}
    text = json.dumps(answered) if draw.random() < 0.95 else "I do not know"
    return row(number, f"order {number}", json.dumps(right)), text


def tools(draw: random.Random, number: int) -> tuple[dict[str, Any], str]:
    city, days = draw.choice(["Paris", "Rome"]), draw.choice([1, 2])
    made = row(number, f"weather in {city} for {days} days, call {number}", "")
    call = {"name": "weather", "arguments": {"city": city, "days": days}}
    made["messages"][-1] |= {"content": None, "tool_calls": [{"type": "function", "function": call}]}
    answered = draw.choice([f"weather(days={days}, city='{city.upper()}')", json.dumps(call), "weather(city='Oslo')"])
    return {**made, "tools": [WEATHER]}, answered


def main() -> None:
    for name, make in (("intents", intents), ("fields", fields), ("tools", tools)):
        draw, folder = random.Random(7), HERE / name
        folder.mkdir(exist_ok=True)
        made = [make(draw, number) for number in range(50 if name == "tools" else 120)]
        train, heldout = made[:20], [made[3], *made[20:]]
        lines(folder / "train.jsonl", [r for r, _ in train])
        lines(folder / "heldout.jsonl", [r for r, _ in heldout])
        lines(folder / "answers.jsonl", [{"id": r["id"], "text": text} for r, text in heldout])
        if name == "intents":
            (folder / "card.md").write_text(CARD, "utf-8")
            (folder / "report.json").write_text(json.dumps(REPORT) + "\n", "utf-8")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")


if __name__ == "__main__":
    main()
