"""A log of any length in the shapes that agents send: labels, extraction with personal data, tool loops, long prompts.

Made of word lists and a seed alone, one record at a time; nothing of it grows with the log. The truth is written beside
it as a finished run of discovery, so that curation can be measured without it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)
INTENTS = [
    "refund", "exchange", "where_is_it", "broken", "cancel", "invoice", "voucher", "address", "size", "stock", "price",
    "complaint",
]  # fmt: skip
_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za bre cli dro fra gle"
_FIRST = "Anna Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Katja Luis Mara Nils Olga Paul"
_LAST = "Abel Brandt Castro Duval Eriksen Fontana Grau Hansen Ivanov Jansen Keller Lopez Meyer Novak"
SORT = 'You sort the messages of a shop\'s customers. Answer with JSON: {{"intent": one of {}}}. Shop {}.'
TAKE = "Take name, mail and order number out of the message. Answer with JSON."
HELP = "You help customers with their orders. Use the tools. Today is {}."
WRITE = "You are a careful engineer. Plan, then write."
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does {name}",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
        },
    }
    for name in ("order_status", "order_cancel", "order_send_again")
]
TASKS = ("sort", "take", "help")
Line = tuple[str, str | None]


def lines(count: int, seed: int = 0) -> Iterator[Line]:
    """(line, task): about a third labels, a fifth each of extraction, tool steps and long prompts, the rest broken."""
    rng = random.Random(seed)
    words = [
        "".join(rng.choice(_SYLLABLES.split()) for _ in range(rng.choice((1, 2, 2, 3)))) for _ in range(4000)
    ]  # a vocabulary
    made = 0
    conversation = 0
    while made < count:
        conversation += 1
        kind = rng.choices(("sort", "take", "help", "write", "junk"), (36, 20, 8, 18, 4))[0]
        for line in _MAKERS[kind](rng, words, made, conversation):
            if made < count:
                yield line
                made += 1


def write(folder: Path, count: int, seed: int = 0) -> None:
    """`log.jsonl` and `found/`, unless they are there already."""
    if (folder / "found/result.json").is_file():
        return
    (folder / "found").mkdir(parents=True, exist_ok=True)
    sizes = dict.fromkeys(TASKS, 0)
    with (folder / "log.jsonl").open("w") as log, (folder / "found/assignments.jsonl").open("w") as assigned:
        for number, (line, task) in enumerate(lines(count, seed)):
            log.write(line + "\n")
            if line.startswith('{"id"'):
                assigned.write(json.dumps({"id": f"r{number:08d}", "cluster": task}) + "\n")
            if task:
                sizes[task] += 1
    (folder / "found/clusters.json").write_text(json.dumps(_clusters(sizes, count)))
    (folder / "found/result.json").write_text("{}")


def _clusters(sizes: dict[str, int], count: int) -> dict[str, Any]:
    person = {k: {"type": "string"} for k in ("name", "mail", "order")}
    forms = {
        "sort": {"type": "object", "properties": {"intent": {"enum": INTENTS}}, "required": ["intent"]},
        "take": {"type": "object", "properties": person, "required": sorted(person)},
        "help": None,
    }
    return {
        "records": count,
        "records_digest": "sha256:0",
        "clusters": [
            {
                "name": name, "version": f"sha256:{name}", "description": name, "size": sizes[name],
                "share": sizes[name] / count, "signature": {},
                "output_format": {"type": "json", "json_schema": form} if form else {"type": "text"},
            }
            for name, form in forms.items()
        ],
    }  # fmt: skip


def _record(number: int, conversation: int, messages: list[Any], answer: dict[str, Any], **more: Any) -> str:
    time = START + timedelta(seconds=number * 3)
    return json.dumps(
        {
            "id": f"r{number:08d}",
            "time": time.isoformat(),
            "conversation": f"c{conversation}",
            "origin": f"o{conversation % 97}",
            "api": "chat.completions",
            "latency_seconds": 0.8,
            "tier": "llm",
            "request": {"model": "big", "messages": messages, "temperature": 0} | more.pop("asked", {}),
            "response": {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "model": "big-2026-01",
                "choices": [{"index": 0, "message": {"role": "assistant", **answer}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 210, "completion_tokens": 21, "total_tokens": 231},
            },
        }
        | more
    )


def _said(rng: random.Random, words: list[str], least: int, most: int) -> str:
    return " ".join(rng.choice(words) for _ in range(rng.randrange(least, most)))


def _sort(rng: random.Random, words: list[str], number: int, conversation: int) -> Iterator[Line]:
    system = SORT.format(", ".join(INTENTS), rng.randrange(40))
    intent = rng.choice(INTENTS)
    text = f"{intent} {_said(rng, words, 4, 40)}"
    answer = json.dumps({"intent": intent if rng.random() > 0.01 else "else"})
    if rng.random() < 0.02:
        answer = f"```json\n{answer}\n```"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    yield _record(number, conversation, messages, {"content": answer}), "sort"


def _take(rng: random.Random, words: list[str], number: int, conversation: int) -> Iterator[Line]:
    first, last = rng.choice(_FIRST.split()), rng.choice(_LAST.split())
    mail = f"{first}.{last}{rng.randrange(9999)}@{rng.choice(words)}.com".lower()
    order = f"A-{rng.randrange(10**6):06d}"
    text = f"Hello, my name is {first} {last}, order {order}. {_said(rng, words, 10, 60)} Write to {mail} or call +49 170 {rng.randrange(10**7):07d}."  # noqa: E501
    messages = [{"role": "system", "content": TAKE}, {"role": "user", "content": text}]
    answer = json.dumps({"name": f"{first} {last}", "mail": mail, "order": order})
    yield _record(number, conversation, messages, {"content": answer}), "take"


def _help(rng: random.Random, words: list[str], number: int, conversation: int) -> Iterator[Line]:
    day = START + timedelta(seconds=number * 3)
    messages: list[Any] = [{"role": "system", "content": HELP.format(day.date())}]
    messages.append({"role": "user", "content": _said(rng, words, 8, 40)})
    for step in range(rng.randrange(1, 6)):
        arguments = json.dumps({"order": f"A-{rng.randrange(10**6):06d}"})
        call = {"name": rng.choice(TOOLS)["function"]["name"], "arguments": arguments}  # type: ignore[index]
        answer = {"content": None, "tool_calls": [{"id": f"t{step}", "type": "function", "function": call}]}
        yield _record(number + step, conversation, messages, answer, asked={"tools": TOOLS}), "help"
        found = '{"error": "no such order"}' if rng.random() < 0.05 else json.dumps({"state": _said(rng, words, 4, 30)})
        messages = [*messages, {"role": "assistant", **answer}]
        messages.append({"role": "tool", "tool_call_id": f"t{step}", "content": found})


def _write(rng: random.Random, words: list[str], number: int, conversation: int) -> Iterator[Line]:
    messages = [{"role": "system", "content": WRITE}, {"role": "user", "content": _said(rng, words, 200, 700)}]
    yield _record(number, conversation, messages, {"content": _said(rng, words, 80, 300)}), None


def _junk(rng: random.Random, words: list[str], number: int, conversation: int) -> Iterator[Line]:
    if rng.random() < 0.3:
        yield _said(rng, words, 1, 20), None
        return
    messages = [{"role": "user", "content": _said(rng, words, 5, 20)}]
    yield _record(number, conversation, messages, {"content": ""}, status=rng.choice((429, 500, 400))), None


_MAKERS = {"sort": _sort, "take": _take, "help": _help, "write": _write, "junk": _junk}
