"""The texts of the comparison: labelled ones, split by template, and ones without personal data."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Labelled:
    """`spans`: (start, end, type) as the data set names it."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    template: str


def labelled(data: Path, half: str) -> list[Labelled]:
    """presidio-research's generated texts (MIT). `dev`: templates whose digest is even; `report`: the others."""
    rows = json.loads((data / "pii" / "presidio_generated_large.json").read_text("utf-8"))
    found = []
    for row in rows:
        even = int(hashlib.sha256(str(row["template_id"]).encode()).hexdigest(), 16) % 2 == 0
        if even == (half == "dev"):
            spans = tuple(sorted((s["start_position"], s["end_position"], s["entity_type"]) for s in row["spans"]))
            found.append(Labelled(row["full_text"], spans, str(row["template_id"])))
    return found


def plain(data: Path, limit: int = 2_000) -> dict[str, list[str]]:
    """Texts of real use in which personal data is rare, by source; each cut to `limit` texts."""
    snips = [json.loads(x) for x in (data / "intents/snips.jsonl").read_text("utf-8").splitlines()]
    with (data / "intents/banking77_train.csv").open(encoding="utf-8", newline="") as f:
        banking = [row["text"] for row in csv.DictReader(f)]
    found = {"snips (CC0)": _spread([_first(r, "text", "utterance") for r in snips], limit)}
    found["banking77 (CC BY 4.0)"] = _spread(banking, limit)
    with gzip.open(data / "agent-logs/agbenchmark-turbo-prompt.json.gz", "rt", encoding="utf-8") as f:
        found["coding agent's prompts (MIT)"] = _spread(_strings(json.load(f)), limit // 4)
    return found


def _first(row: dict[str, object], *keys: str) -> str:
    return next(str(row[k]) for k in keys if k in row)


def _spread(texts: list[str], limit: int) -> list[str]:
    return texts[:: max(1, len(texts) // limit)][:limit]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if " " in value else []
    if isinstance(value, dict):
        return [s for v in value.values() for s in _strings(v)]
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    return []
