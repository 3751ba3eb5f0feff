"""`slmfleet redact` on a file: two passes, the output, the report, and the leak test of what was written."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from slmfleet.curation.failures import CurationError
from slmfleet.curation.redact import Redactor, mapped, strings_in
from slmfleet.store.files import atomic_write
from slmfleet.wire.base import Message

BODIES = ("request", "response", "text")


class RedactionReport(Message):
    """The report of a run. `replaced`: replacements by type; `values`: finds by type; `leaks`: values still there."""

    schema_: str = Field("slmfleet/redaction-report/v1", alias="schema")
    lines: int
    set_aside: dict[str, int] = Field(default_factory=dict)
    replaced: dict[str, int] = Field(default_factory=dict)
    values: dict[str, int] = Field(default_factory=dict)
    leaks: int = 0
    leaked_types: dict[str, int] = Field(default_factory=dict)
    leaked_ids: list[str] = Field(default_factory=list, description="At most 20.")
    not_covered: list[str] = Field(default_factory=list)

    @property
    def set_aside_total(self) -> int:
        return sum(self.set_aside.values())


NOT_COVERED = [
    "names that no word announces and whose first name is not a common one",
    "a single-word name outside the conversation that announced it",
    "organisations, places and street addresses",
    "national ids other than US social security numbers",
    "record numbers of the log owner's own systems",
    "announcing words in languages other than English",
    "images, audio, and values inside encodings such as base64",
]


def redact_file(source: Path, out: Path, report: Path, seed: int = 0) -> RedactionReport:
    """Redact line by line; broken lines are counted and left out, since nobody can say what is in them."""
    if not source.is_file():
        raise CurationError("LogNotFound", f"--records {source} is no file")
    redactor, aside = Redactor(seed), Counter[str]()
    for line in _lines(source, aside):
        for text in _texts(line):
            redactor.learn(_conversation(line), text)
    done: list[bytes] = []
    for line in _lines(source, Counter()):
        clean = redacted(redactor, line)
        redactor.check(str(line.get("id", len(done))), _texts(clean))
        done.append(orjson.dumps(clean))
    data = b"".join(x + b"\n" for x in done)
    atomic_write(out, gzip.compress(data, 6, mtime=0) if out.name.endswith(".gz") else data)
    found = RedactionReport(
        lines=len(done),
        set_aside=dict(sorted(aside.items())),
        replaced=dict(sorted(redactor.report.counts.items())),
        values=dict(sorted(redactor.report.values.items())),
        leaks=redactor.report.leaks,
        leaked_types=dict(sorted(redactor.report.leaked_kinds.items())),
        leaked_ids=redactor.report.leaked_records[:20],
        not_covered=NOT_COVERED,
    )
    atomic_write(report, found.model_dump_json(by_alias=True, indent=1).encode() + b"\n")
    return found


def refuse_leaks(found: RedactionReport) -> None:
    """Raise where the leak test found something."""
    if found.leaks:
        kinds = ", ".join(f"{n} {k}" for k, n in found.leaked_types.items())
        raise CurationError(
            "RedactionLeak",
            f"{found.leaks} values of the log are still in the output ({kinds}); ids are in the report; do not use it",
        )


def redacted(redactor: Redactor, line: dict[str, Any]) -> dict[str, Any]:
    """One line with its bodies redacted; ids, times and counts stay."""
    conversation = _conversation(line)
    change: Callable[[str], str] = lambda text: redactor.redact(conversation, text)  # noqa: E731
    return {k: mapped(v, change) if k in BODIES else v for k, v in line.items()}


def _texts(line: dict[str, Any]) -> Iterator[str]:
    for key in BODIES:
        yield from strings_in(line.get(key))


def _conversation(line: dict[str, Any]) -> str:
    return str(line.get("conversation") or f"record-{line.get('id', '')}")


def _lines(source: Path, aside: Counter[str]) -> Iterator[dict[str, Any]]:
    with gzip.open(source, "rb") if source.name.endswith(".gz") else source.open("rb") as f:
        for line in f:
            if not line.strip():
                continue
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                aside["not JSON"] += 1
                continue
            if not isinstance(value, dict) or not any(k in value for k in BODIES):
                aside["neither a usage record nor id and text"] += 1
                continue
            yield value
