"""Texts in languages other than English, written by hand for this comparison, and how a detector does on them.

`languages/*.txt`: one text a line, `[[kind:value]]` for personal data. They were written before any model had read
them and share no template with the generator of the training texts. Every third text is the half named `dev`, which was
looked at while the generator was written; the figures are of the others.

A span is found when each of its letters and digits is inside some found span, whatever its kind, as with the English
texts. A find is right when it touches a labelled span, and else in vain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slmfleet.curation.detect import Detector
from slmfleet.curation.spans import Span

FOLDER = Path(__file__).with_name("languages")
DEV_EVERY = 3
_MARK = re.compile(r"\[\[([a-z_]+):([^\]]+)\]\]")


@dataclass(frozen=True)
class Text:
    """`spans`: (start, end, kind), in order."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Tally:
    """Counts of one text: labelled spans and those found whole, all finds and those that are right."""

    labelled: int
    found: int
    finds: int
    right: int
    words: int


@dataclass(frozen=True)
class Ratio:
    """A share with its interval of 95 %, from draws of texts."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def languages() -> list[str]:
    """Codes of ISO 639-1, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.txt"))


def texts_of(language: str, half: str) -> list[Text]:
    """`half`: `dev` or `report`."""
    lines = [x for x in (FOLDER / f"{language}.txt").read_text("utf-8").splitlines() if x and not x.startswith("#")]
    return [parsed(x) for i, x in enumerate(lines) if (i % DEV_EVERY == 0) == (half == "dev")]


def parsed(line: str) -> Text:
    """A line of a file, without its marks."""
    line = line.replace(r"\n", "\n")
    out, spans, at = "", [], 0
    for mark in _MARK.finditer(line):
        out += line[at : mark.start()]
        spans.append((len(out), len(out) + len(mark.group(2)), mark.group(1)))
        out += mark.group(2)
        at = mark.end()
    return Text(out + line[at:], tuple(spans))


def tallies(detector: Detector, texts: Sequence[Text]) -> list[Tally]:
    """One for every text."""
    found = detector.find([t.text for t in texts])
    return [_tally(text, spans) for text, spans in zip(texts, found, strict=True)]


def _tally(text: Text, found: Sequence[Span]) -> Tally:
    lost, vain = len(_lost(text, found)), len(_in_vain(text, found))
    spans, finds = len(text.spans), len(found)
    return Tally(spans, spans - lost, finds, finds - vain, len(text.text.split()))


def _lost(text: Text, found: Sequence[Span]) -> list[str]:
    covered = {i for s in found for i in range(s.start, s.end)}
    whole = [all(i in covered for i in range(a, b) if text.text[i].isalnum()) for a, b, _ in text.spans]
    return [text.text[a:b] for (a, b, _), ok in zip(text.spans, whole, strict=True) if not ok]


def _in_vain(text: Text, found: Sequence[Span]) -> list[str]:
    return [s.value for s in found if not any(s.start < end and s.end > start for start, end, _ in text.spans)]


def recall(rows: Sequence[Tally]) -> Ratio:
    """Of the labelled spans, those found whole."""
    return _ratio([(r.found, r.labelled) for r in rows])


def precision(rows: Sequence[Tally]) -> Ratio:
    """Of the finds, those that touch a labelled span."""
    return _ratio([(r.right, r.finds) for r in rows])


def untouched(rows: Sequence[Tally]) -> Ratio:
    """Of the texts without personal data, those in which nothing was found."""
    return _ratio([(r.finds == 0, r.labelled == 0) for r in rows if not r.labelled])


def in_vain(rows: Sequence[Tally]) -> float:
    """Finds in vain for every 1,000 words."""
    return 1_000 * sum(r.finds - r.right for r in rows) / max(1, sum(r.words for r in rows))


def _ratio(pairs: Sequence[tuple[int, int]]) -> Ratio:
    table = np.array(pairs, dtype=float)
    rng = np.random.default_rng(0)
    draws = table[rng.integers(len(table), size=(1_000, len(table)))].sum(axis=1)
    low, high = np.percentile(draws[:, 0] / np.maximum(draws[:, 1], 1), [2.5, 97.5])
    above, below = table.sum(axis=0)
    return Ratio(float(above / max(1.0, below)), float(low), float(high))


def section(detectors: dict[str, Detector], half: str) -> list[str]:
    """The part of the page, one row for each language and detector."""
    lines = [
        "## Other languages",
        "Texts of agent traffic, written by hand for this comparison (`benchmarks/redaction/languages`), half "
        f"`{half}`: of each file every third text is the half `dev`, which was looked at while the model was made. "
        "Intervals (95 %) are from draws of texts; there are few, so they count more than the figures. "
        "Ordinary: texts without personal data that are left as they are. In vain: finds that touch no labelled span, "
        "for every 1,000 words." + (" Before: the model that `--before` named." if "before" in detectors else ""),
        "",
        "| language | texts | spans | model | full-span recall | precision | ordinary | in vain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sums: dict[str, list[Tally]] = {name: [] for name in detectors}
    for language in languages():
        texts = texts_of(language, half)
        for name, detector in detectors.items():
            rows = tallies(detector, texts)
            sums[name] += rows
            lines.append(_row(language, name, rows))
    return lines + [_row("all", name, rows) for name, rows in sums.items()]


def _row(language: str, name: str, rows: Sequence[Tally]) -> str:
    spans = sum(r.labelled for r in rows)
    return (
        f"| {language} | {len(rows)} | {spans} | {name} | {recall(rows)} | {precision(rows)} | {untouched(rows)} "
        f"| {in_vain(rows):.0f} |"
    )


def mistakes(detector: Detector, half: str) -> list[str]:
    """What of each language was not found whole, and what was found in vain."""
    lines = []
    for language in languages():
        texts = texts_of(language, half)
        both = list(zip(texts, detector.find([t.text for t in texts]), strict=True))
        lost, vain = ([x for t, spans in both for x in of(t, spans)] for of in (_lost, _in_vain))
        shown = [f"{what} {_quoted(found)}" for what, found in (("missed", lost), ("in vain", vain)) if found]
        lines.append(f"- {language}: {'; '.join(shown) or 'nothing'}")
    return lines


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"`{v.replace(chr(10), ' / ')}`" for v in sorted(set(values)))
