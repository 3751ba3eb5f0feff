"""Usage records of a mixed log, built from the shared data: two narrow tasks among an agent's broad calls.

Pure: a seed in, records out. The true task of each record is returned beside the log and is never in it. `part` picks
disjoint slices of every source, so that what was tuned on `tune` is reported on `report`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SETTINGS = ("own", "shared", "none", "reworded")
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

OWN = {
    "snips": 'You route a voice assistant. Name the intent. Answer with JSON: {"intent": "..."}.',
    "banking": "You are the triage step of a bank's help desk. Which intent is it? Reply in JSON only.",
    "dstc": "Insurance contact centre. Decide what the caller wants and give it as JSON.",
}
SHARED = 'You are a precise intent classifier. Read the message and answer with JSON: {"intent": "..."}.'
REWORDED = {
    "snips": [
        "You route a voice assistant. Name the intent of the utterance. Answer with JSON.",
        "Act as the intent router of a smart speaker. Output one JSON object with the key intent.",
        "Given what the user said to the assistant, tell which skill is meant. JSON only, key: intent.",
        'Voice command classifier. Respond with {"intent": "..."} and nothing else.',
        "Please identify the command the speaker gives to the home assistant and return it as JSON.",
        "What is the user asking the assistant to do? Produce a JSON object holding the intent.",
    ],
    "banking": [
        "You are the triage step of a bank's help desk. Which intent is it? Reply in JSON only.",
        "Classify the banking customer's question. Output: JSON with the field intent.",
        "Support ticket router for an online bank. Give the customer's intent as a JSON object.",
        "Read the message of the bank client and decide on its intent. Only JSON is allowed.",
        "A customer writes to the bank. Label the request with one intent and answer in JSON.",
        'Determine which help topic of the bank fits the question; respond as {"intent": "..."}.',
    ],
}
REWORDED["dstc"] = [p.replace("bank", "insurer") for p in REWORDED["banking"]]


@dataclass
class Log:
    """Records and, apart from them, the truth: id to task, or None for calls no specialist should take."""

    records: list[dict[str, Any]] = field(default_factory=list)
    truth: dict[str, str | None] = field(default_factory=dict)


def data_dir() -> Path | None:
    """Where the shared data lie: $SLMFLEET_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("SLMFLEET_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return path if path.is_dir() else None


def _slice(key: str, part: str) -> bool:
    half = hashlib.sha256(key.encode()).digest()[0] % 2
    return part == "all" or half == (0 if part == "tune" else 1)


def utterances(data: Path, source: str, part: str) -> list[tuple[str, str]]:
    """(text, label) of one labelled source."""
    if source == "snips":
        rows = [json.loads(line) for line in (data / "intents/snips.jsonl").read_text("utf-8").splitlines()]
        pairs = [(r["text"].strip(), r["intent"]) for r in rows]
    elif source == "banking":
        with (data / "intents/banking77_train.csv").open(encoding="utf-8", newline="") as f:
            pairs = [(r["text"].strip(), r["category"]) for r in csv.DictReader(f)]
    else:
        rows = [
            json.loads(line) for line in (data / "intents/dstc11_development.jsonl").read_text("utf-8").splitlines()
        ]
        pairs = [(r["utterance"].strip(), r["intent"]) for r in rows]
    return [(t, y) for t, y in dict(pairs).items() if _slice(t, part)]


def broad(data: Path, part: str) -> list[tuple[str, str, str]]:
    """(conversation, prompt, answer) of MetaGPT's and the coding agent's recorded calls."""
    found = []
    cache = json.loads(gzip.decompress((data / "agent-logs/metagpt-rsp_cache.json.gz").read_bytes()))
    for prompt, answer in cache.items():
        if _slice(prompt, part):
            found.append(("metagpt-" + hashlib.sha256(prompt.encode()).hexdigest()[:4], prompt, str(answer)))
    prompts = json.loads(gzip.decompress((data / "agent-logs/agbenchmark-turbo-prompt.json.gz").read_bytes()))
    answers = json.loads(gzip.decompress((data / "agent-logs/agbenchmark-turbo-response.json.gz").read_bytes()))
    for test, runs in prompts.items():
        for when, steps in runs.items():
            for step, prompt in steps.items():
                answer = answers.get(test, {}).get(when, {}).get(step)
                if answer is None or not _slice(test + when, part):
                    continue
                text = answer.get("content") if isinstance(answer, dict) else answer
                found.append((f"turbo-{test}-{when}", _text(prompt), str(text)))
    return found


def _text(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(str(m.get("content", "")) if isinstance(m, dict) else str(m) for m in prompt)


def unseen(data: Path, kind: str) -> list[str]:
    """Prompts of kinds of traffic that no log of ours contains."""
    if kind == "gsm8k":
        with (data / "router/routellm_gsm8k_responses.csv").open(encoding="utf-8", newline="") as f:
            return [r["prompt"] for r in csv.DictReader(f)]
    if kind == "bfcl":
        found = []
        for name in ("BFCL_v4_simple_python.json", "BFCL_v4_irrelevance.json"):
            for line in (data / "toolcall" / name).read_text("utf-8").splitlines():
                found.append(json.loads(line)["question"][0][-1]["content"])
        return found
    if kind == "pii":
        return [r["full_text"] for r in json.loads((data / "pii/presidio_generated_large.json").read_text("utf-8"))]
    if kind == "tau":
        turns = []
        for line in gzip.decompress((data / "agent-logs/tau-retail-few_shot.jsonl.gz").read_bytes()).splitlines():
            shown = json.loads(line)["messages_display"]
            turns += [t[6:].split("\n")[0] for t in shown.split("\n") if t.startswith("user: ")]
        return turns
    return [t for t, _ in utterances(data, kind, "all")]


def messages_of(task: str, text: str, setting: str, rng: random.Random) -> list[dict[str, str]]:
    """The messages a call of a narrow task is sent with."""
    user = {"role": "user", "content": text}
    if setting == "none":
        return [user]
    system = {"own": OWN[task], "shared": SHARED}.get(setting) or rng.choice(REWORDED[task])
    return [{"role": "system", "content": system}, user]


def build(
    data: Path,
    setting: str,
    tasks: dict[str, int],
    *,
    seed: int = 0,
    part: str = "report",
    noise: dict[str, float] | None = None,
    with_broad: bool = True,
    answer: Callable[[str, str], str] = lambda task, label: json.dumps({"intent": label}),
) -> Log:
    """A log of `tasks` (name to number of calls) in one of SETTINGS, mixed with the broad calls."""
    rng = random.Random(f"{seed}-{setting}-{part}")
    wrong = {"snips": 0.02, "banking": 0.08, "dstc": 0.03} if noise is None else noise
    calls: list[tuple[str | None, str, list[dict[str, str]], str]] = []
    for task, count in tasks.items():
        pairs = utterances(data, task, part)
        rng.shuffle(pairs)
        labels = sorted({y for _, y in pairs})
        for i, (text, label) in enumerate(pairs[:count]):
            said = rng.choice([x for x in labels if x != label]) if rng.random() < wrong.get(task, 0) else label
            calls.append((task, f"{task}-{i // 3}", messages_of(task, text, setting, rng), answer(task, said)))
    if with_broad:
        calls += [(None, c, [{"role": "user", "content": p}], a) for c, p, a in broad(data, part)]
    begins = {c: rng.random() for c in sorted({call[1] for call in calls})}
    calls.sort(key=lambda call: begins[call[1]] + rng.random() * 0.003)
    log, now = Log(), START
    for i, (task, conversation, messages, said) in enumerate(calls):
        now += timedelta(seconds=rng.expovariate(0.5))
        name = f"call-{i:06d}"
        log.truth[name] = task
        log.records.append(_record(name, now, conversation, messages, said))
    return log


def _record(name: str, now: datetime, conversation: str, messages: list[dict[str, str]], said: str) -> dict[str, Any]:
    return {
        "id": name,
        "time": now.isoformat().replace("+00:00", "Z"),
        "conversation": hashlib.sha256(conversation.encode()).hexdigest()[:16],
        "api": "chat.completions",
        "status": 200,
        "latency_seconds": 0.8,
        "tier": "llm",
        "request": {"model": "big-llm", "messages": messages, "temperature": 0},
        "response": {
            "id": "r-" + name,
            "object": "chat.completion",
            "model": "big-llm",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": sum(len(m["content"]) for m in messages) // 4,
                "completion_tokens": max(1, len(said) // 4),
            },
        },
    }


def write(log: Log, path: Path, truth: Path | None = None) -> None:
    """The log as JSON lines, its truth as another file."""
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in log.records), "utf-8")
    if truth is not None:
        truth.write_text("".join(json.dumps({"id": i, "cluster": t}) + "\n" for i, t in log.truth.items()), "utf-8")


def take(values: Iterable[str], count: int, seed: int) -> list[str]:
    """A seeded sample without repeats."""
    pool = sorted(set(values))
    random.Random(seed).shuffle(pool)
    return pool[:count]
