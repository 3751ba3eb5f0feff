"""What the gate judges by: the held-out calls with their recorded answers, and what the dataset says of itself.

Reads `heldout.jsonl`, `train.jsonl`, `report.json`, `card.md` and `secrets.json`; only the first must be there.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmtrain.data import Example, read_examples, read_lines
from slmtrain.errors import Refused
from slmtrain.facts import Reports
from slmtrain.metrics.reference import Reference
from slmtrain.metrics.toolcall import parameters_of
from slmtrain.metrics.toolparse import calls_of_json

_LICENCE = re.compile(r"^#+ *licen[cs]e *\n+(.+?)(?:\n#|\Z)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n.*?^license:[ \t]*(\S.*?)[ \t]*$.*?^---$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """One call to be answered: the prompt, what is right, and the slices it belongs to besides its label."""

    example: Example
    reference: Reference
    language: str


@dataclass(frozen=True)
class Planted:
    """A secret that was put into the training data on purpose: `secret` follows `messages`' prompt and `prefix`."""

    name: str
    messages: tuple[dict[str, str], ...]
    prefix: str
    secret: str


@dataclass(frozen=True)
class Secrets:
    """secrets.json: planted secrets, and values that must not be shown, each as HMAC-SHA256 under `key`."""

    planted: tuple[Planted, ...] = ()
    key: bytes = b""
    digests: frozenset[str] = frozenset()


def read_questions(path: Path) -> list[Question]:
    """Every call of one side of a dataset, with its recorded answer."""
    examples = read_examples(path)
    rows = (row for _, row in read_lines(path))
    return [
        Question(example, reference_of(row, example), language_of(row, example))
        for row, example in zip(rows, examples, strict=True)
    ]


def reference_of(row: Mapping[str, Any], example: Example) -> Reference:
    """The recorded answer, and what else is right: `accepted` (texts), `possible` (BFCL's form)."""
    last = row["messages"][-1]
    calls = calls_of_json({"tool_calls": last["tool_calls"]}) if last.get("tool_calls") else None
    accepted, possible = row.get("accepted") or [], row.get("possible") or []
    if not isinstance(accepted, list) or not all(isinstance(text, str) for text in accepted):
        raise Refused("BadDataset", f"example {example.id}: `accepted` must be a list of texts")
    if not isinstance(possible, list) or not all(_is_possible(item) for item in possible):
        raise Refused("BadDataset", f"example {example.id}: `possible` must list {{tool: {{argument: values}}}}")
    return Reference(
        example.answer, tuple(calls or ()), parameters_of(row.get("tools")), tuple(accepted), tuple(possible)
    )


def _is_possible(item: Any) -> bool:
    return isinstance(item, dict) and all(isinstance(arguments, dict) for arguments in item.values())


def language_of(row: Mapping[str, Any], example: Example) -> str:
    """The row's `language`, else the script of the last user turn: languages of one script are one slice then."""
    if isinstance(row.get("language"), str):
        return str(row["language"])
    said = [message["content"] for message in example.prompt if message["role"] == "user"]
    return script_of(said[-1] if said else "")


def script_of(text: str) -> str:
    """The commonest script of a text's letters, by its Unicode names; `none` without letters.

    >>> script_of("Hello, мир и люди")
    'cyrillic'
    """
    scripts = Counter(unicodedata.name(c, "NONE").split()[0].lower() for c in text[:2000] if c.isalpha())
    return max(sorted(scripts), key=scripts.__getitem__) if scripts else "none"


def unseen(questions: Sequence[Question], trained: Sequence[Question]) -> list[Question]:
    """Those whose whole prompt does not occur in training."""
    seen = {json.dumps(question.example.prompt) for question in trained}
    return [question for question in questions if json.dumps(question.example.prompt) not in seen]


def read_reports(dataset: Path) -> Reports:
    """The folder's report.json and card.md, as far as they are there. A broken report counts as none. A licence is a
    section of the card, or `license:` in front of it as the Hugging Face hub has it."""
    card = dataset / "card.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    licence = _LICENCE.search(text) or _FRONT_MATTER.search(text)
    report = _object(dataset / "report.json")
    redacted, leaks = report.get("redacted"), report.get("leaks")
    replaced = sum(n for n in redacted.values() if isinstance(n, int)) if isinstance(redacted, dict) else None
    found = leaks if isinstance(leaks, int) and not isinstance(leaks, bool) else None
    agreement, pairs = report.get("llm_agreement"), report.get("llm_agreement_pairs")
    told = isinstance(agreement, int | float) and isinstance(pairs, int) and 0 <= agreement <= 1 and pairs > 0
    return Reports(
        bool(text),
        " ".join(licence[1].split()) if licence else None,
        licence[1].strip().splitlines()[0].strip(" `*_.'\"") if licence else None,
        replaced,
        found,
        float(agreement) if told else None,
        pairs if told else 0,
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_secrets(dataset: Path) -> Secrets:
    """secrets.json, where the dataset has one. Unlike a report it must not be ignored for being broken."""
    path = dataset / "secrets.json"
    if not path.is_file():
        return Secrets()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        planted = [_planted(number, item) for number, item in enumerate(value.get("planted", []), 1)]
        hashed = value.get("hashed") or {}
        return Secrets(tuple(planted), bytes.fromhex(hashed.get("key", "")), frozenset(hashed.get("sha256", ())))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        told = f"{path}: {error!r}; it takes planted: [{{secret, messages or prefix}}] and hashed: {{key, sha256}}"
        raise Refused("BadDataset", told) from None


def _planted(number: int, item: Mapping[str, Any]) -> Planted:
    messages = tuple({"role": str(m["role"]), "content": str(m["content"])} for m in item.get("messages", ()))
    secret, prefix = str(item["secret"]), str(item.get("prefix", ""))
    if not secret or not (messages or prefix):
        raise ValueError(f"planted secret {number} needs `secret`, and `messages` or `prefix`")
    return Planted(str(item.get("name", f"secret {number}")), messages, prefix, secret)
