"""`slmfleet redact` on a file: two passes, the output, the report, and the leak test of what was written."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from slmfleet.curation import inputs, vocabulary
from slmfleet.curation.contents import Change, changed, collected
from slmfleet.curation.detect import Detector
from slmfleet.curation.failures import CurationError
from slmfleet.curation.normal import TOO_DEEP, too_deep
from slmfleet.curation.redact import BATCH, Redactor, mapped
from slmfleet.curation.sources import Log
from slmfleet.curation.tenant import rules_of
from slmfleet.store.files import atomic_write
from slmfleet.wire.base import Message
from slmfleet.wire.jobs import RedactionRules
from slmfleet.wire.records import UsageRecord

BODIES = ("request", "response", "text")
TELL_BLOCKS = 40  # about every 10,000 lines
Say = Callable[[str], None]
IDS = ("id", "conversation", "escalated_from")
# What a usage record says of itself. Whatever else a line holds may hold anything.
STAYS = frozenset(UsageRecord.model_fields) - frozenset(BODIES)


class RedactionReport(Message):
    """The report of a run. `replaced`: replacements by type; `values`: finds by type; `leaks`: values still there."""

    schema_: str = Field("slmfleet/redaction-report/v1", alias="schema")
    not_covered: list[str] = Field(default_factory=list)
    lines: int
    set_aside: dict[str, int] = Field(default_factory=dict)
    replaced: dict[str, int] = Field(default_factory=dict)
    values: dict[str, int] = Field(default_factory=dict)
    redaction: RedactionRules | None = None
    leaks: int = 0
    leaked_types: dict[str, int] = Field(default_factory=dict)
    leaked_ids: list[str] = Field(default_factory=list, description="At most 20.")

    @property
    def set_aside_total(self) -> int:
        return sum(self.set_aside.values())


NOT_COVERED = [
    "about one name, organisation, place or address in ten, which the model does not find (measured on texts whose "
    "templates it never saw); fewer with a larger model, more in lower case and in short texts",
    "languages other than Dutch, English, French, German, Italian, Polish, Portuguese, Spanish and Turkish: the "
    "default model takes their ordinary words for names and places; another model is a setting",
    "names in scripts other than Latin, and persons who are described and not named",
    "what is no identifier by itself: titles, jobs, nationalities, weekdays, later dates, amounts",
    "national numbers of countries other than those listed in the documentation, unless a word announces them",
    "facts that identify a person together, and values in another spelling than where they were found",
    "images, audio, and values inside encodings such as base64",
]
WITHOUT_MODEL = "no model was used: names, organisations and places are found only where a word announces them"


def redact_file(
    source: Path,
    out: Path,
    report: Path,
    seed: int = 0,
    detector: Detector | None = None,
    say: Say = lambda line: None,
) -> RedactionReport:
    """Redact line by line; broken lines are counted and left out, since nobody can say what is in them."""
    if not source.is_file():
        raise CurationError("LogNotFound", f"--records {source} is no file")
    redactor, log = Redactor(seed, detector), Log()
    for number, block in enumerate(_blocks(_lines(source, log)), 1):
        said = [(line, *_texts(line)) for line in block]
        redactor.prepare(text for _, texts, _ in said for text in texts)
        for line, texts, forms in said:
            own = vocabulary.of_request(line.get("request"))
            for text in texts:
                redactor.learn(_conversation(line), text, own)
            for text in forms:
                redactor.learn_form(_conversation(line), text)
        if number % TELL_BLOCKS == 0:
            say(f"{log.read:,} lines searched")
    for reason, count in sorted(log.set_aside.items()):
        say(f"set aside {count}: {reason} (first: {log.examples[reason]})")
    done: list[bytes] = []
    for number, block in enumerate(_blocks(_lines(source, Log())), 1):
        redactor.prepare(text for line in block for text in _texts(line)[0])
        for line in block:
            clean = redacted(redactor, line)
            texts, forms = _texts(clean)
            ids = [str(clean[key]) for key in IDS if key in clean]
            own = vocabulary.of_request(line.get("request"))
            redactor.check(str(clean.get("id", len(done))), [*ids, *texts], [*ids, *forms], own)
            done.append(orjson.dumps(clean))
        if number % TELL_BLOCKS == 0:
            say(f"{len(done):,} lines redacted")
    data = b"".join(x + b"\n" for x in done)
    atomic_write(out, gzip.compress(data, 6, mtime=0) if out.name.endswith(".gz") else data)
    found = RedactionReport(
        not_covered=not_covered(redactor),
        lines=len(done),
        set_aside=dict(sorted(log.set_aside.items())),
        replaced=dict(sorted(redactor.report.counts.items())),
        values=dict(sorted(redactor.report.values.items())),
        redaction=rules_of(redactor.detector),
        leaks=redactor.report.leaks,
        leaked_types=dict(sorted(redactor.report.leaked_kinds.items())),
        leaked_ids=redactor.report.leaked_records[:20],
    )
    atomic_write(report, found.model_dump_json(by_alias=True, indent=1).encode() + b"\n")
    return found


def not_covered(redactor: Redactor) -> list[str]:
    """What a reader of the result must not rely on."""
    return [WITHOUT_MODEL, *NOT_COVERED[2:]] if redactor.detector.model is None else NOT_COVERED


def refuse_leaks(found: RedactionReport) -> None:
    """Raise where the leak test found something."""
    if found.leaks:
        kinds = ", ".join(f"{n} {k}" for k, n in found.leaked_types.items())
        raise CurationError(
            "RedactionLeak",
            f"{found.leaks} values of the log are still in the output ({kinds}); ids are in the report; do not use it",
        )


def redacted(redactor: Redactor, line: dict[str, Any]) -> dict[str, Any]:
    """One line with every text redacted. A record's own ids, times and counts stay, but for ids that hold a value."""
    conversation, own = _conversation(line), vocabulary.of_request(line.get("request"))
    named = {k: made for k in IDS if k in line and (made := redactor.identity(str(line[k]))) != str(line[k])}
    return (
        _changed(
            line,
            lambda text: redactor.redact(conversation, text, own),
            lambda text: redactor.redact_form(conversation, text),
        )
        | named
    )


def _changed(line: dict[str, Any], text: Change, form: Change) -> dict[str, Any]:
    """Of a call what was written and its form, each as it is; of what else there is, all texts."""
    return {
        k: v if k in STAYS else changed(v, text, form, "content") if k in ("request", "response") else mapped(v, text)
        for k, v in line.items()
    }


def _texts(line: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(what was written, the form) of a line."""
    return collected(lambda text, form: _changed(line, text, form))


def _conversation(line: dict[str, Any]) -> str:
    return str(line.get("conversation") or f"record-{line.get('id', '')}")


def _blocks(lines: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while block := list(islice(lines, BATCH)):
        yield block


def _lines(source: Path, log: Log) -> Iterator[dict[str, Any]]:
    def refuse(reason: str, where: str, line: bytes = b"") -> None:
        log.refuse(reason, where)

    for where, line in inputs.lines(source, refuse):
        if not line.strip():
            continue
        log.read += 1
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            refuse("not JSON", where)
            continue
        if not isinstance(value, dict) or not any(k in value for k in BODIES):
            refuse("neither a usage record nor id and text", where)
        elif too_deep(line, value):
            refuse(TOO_DEEP, where)
        else:
            yield value
