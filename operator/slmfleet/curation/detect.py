"""All that finds values in texts, in one call: the tenant's list and patterns, our patterns, and a model.

Where two meet, the tenant's come first, then numbers and secrets that a form and a checksum vouch for; what a model
finds is cut around them. Keys of JSON objects are never touched, nor is anything a caller asks to keep (labels, names
of tools): a data set whose keys and labels were redacted teaches nothing.

Pure but for the models, which are read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slmfleet.curation.personal import Span, common_words, find
from slmfleet.curation.seeker import Seeker

# Found by words around or by a model, and replaced word by word; the others have a form of their own.
SOFT = frozenset({"name", "organisation", "place", "address"})
_WEAK = SOFT | {"record_number", "phone", "date_of_birth", "age"}
_KEY = re.compile(r'"(?:[^"\\\n]|\\.){1,80}"(?=\s*:)')
# Where a value cannot go on: quotes, brackets, JSON's escapes.
_EDGE = re.compile(r'\\u[0-9a-fA-F]{4}|\\[a-z"\\/]|["{}<>\[\]|\t]')
_TRIM = " \n\r.,;:-–—!?()'`*#_/=&+@"
_PLURAL = re.compile(r"['’]s$")
MAX_WORDS = {"name": 7, "organisation": 10, "place": 8}


class Model(Protocol):
    """Finds (start, end, kind) in each text; kinds as in `entities.KINDS`."""

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]: ...


@dataclass(frozen=True)
class TenantPattern:
    """A kind and an expression of the tenant's own; group `v`, where there is one, is the value."""

    kind: str
    regex: re.Pattern[str]


@dataclass(frozen=True)
class Detector:
    """`model` None: patterns only. `deny`: values by kind. `keep`: values, in lower case, that a model may not take."""

    model: Model | None = None
    deny: tuple[tuple[str, str], ...] = ()
    patterns: tuple[TenantPattern, ...] = ()
    keep: frozenset[str] = frozenset()
    _seeker: Seeker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seeker", Seeker(self.deny))

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text its values, in order and without overlaps."""
        guessed = self.model.spans(texts) if self.model is not None else [[] for _ in texts]
        return [self._one(text, spans) for text, spans in zip(texts, guessed, strict=True)]

    def _one(self, text: str, guessed: Iterable[tuple[int, int, str]]) -> list[Span]:
        own = [*self._seeker.spans(text), *_tenants(self.patterns, text)]
        found = find(text)
        hard = [s for s in found if s.kind not in _WEAK]
        weak = [s for s in found if s.kind in _WEAK]
        keys = [m.span() for m in _KEY.finditer(text)] if '":' in text or '" :' in text else []
        soft = [piece for a, b, kind in guessed for piece in _pieces(text, a, b, kind) if self._may_be(piece)]
        kept = _first_come([], own)
        kept = _first_come(kept, hard)
        wide = _longest([*weak, *soft])
        return sorted(_around(kept, [s for s in wide if not _inside(s, keys)]), key=lambda s: s.start)

    def _may_be(self, span: Span) -> bool:
        return span.value.casefold() not in self.keep and plausible(span)


def plausible(span: Span) -> bool:
    """Whether a model's find has the form of its kind. A model errs most on what is not language at all."""
    value, digits = span.value, sum(c.isdigit() for c in span.value)
    longest = max((len(w) for w in value.split()), default=0)
    if longest > 40 or len(value) > 200:
        return False
    if span.kind == "phone":
        return 7 <= digits <= 16
    if span.kind == "record_number":
        return digits >= 4
    if span.kind == "date_of_birth":
        return digits >= 3 and bool(re.search(r"\d[-./]\d|\d{4}|[^\W\d_]{3,} \d", value)) and value != value[:4]
    if span.kind == "address":
        return (len(value) >= 4 and (digits > 0 or " " in value)) or value.isupper()
    words = re.findall(r"[^\W\d_]+", value)
    if not words or len(value) < 2 or len(words) > MAX_WORDS[span.kind]:
        return False
    if all(w.islower() and w in common_words() for w in words):
        return False
    return len(words) > 1 or words[0].lower() not in common_words() or not _plain(words[0])


def _plain(word: str) -> bool:
    return word.islower() or word.isupper()


def _tenants(patterns: Iterable[TenantPattern], text: str) -> list[Span]:
    found = []
    for pattern in patterns:
        group = "v" if "v" in pattern.regex.groupindex else 0
        for match in pattern.regex.finditer(text):
            start, end = match.span(group)
            if end > start:
                found.append(Span(start, end, pattern.kind, text[start:end]))
    return found


def _pieces(text: str, start: int, end: int, kind: str) -> Iterable[Span]:
    """A model's span without quotes, brackets and escapes inside, and without punctuation at its ends."""
    at = start
    for edge in [*(m.span() for m in _EDGE.finditer(text, start, end)), (end, end)]:
        a, b = at, edge[0]
        at = edge[1]
        while a < b and text[a] in _TRIM:
            a += 1
        while b > a and text[b - 1] in _TRIM:
            b -= 1
        if kind != "address" and (tail := _PLURAL.search(text[a:b])):
            b = a + tail.start()
        if b > a:
            yield Span(a, b, kind, text[a:b])


def _inside(span: Span, keys: Sequence[tuple[int, int]]) -> bool:
    return any(span.start < b and span.end > a for a, b in keys)


def _first_come(kept: Sequence[Span], more: Iterable[Span]) -> list[Span]:
    out = list(kept)
    for span in more:
        if all(span.end <= k.start or span.start >= k.end for k in out):
            out.append(span)
    return out


def _longest(spans: Iterable[Span]) -> list[Span]:
    """Without overlaps: the longer of two, and what is left of the shorter."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        kept = _around(kept, [span])
    return kept


def _around(kept: Sequence[Span], more: Iterable[Span]) -> list[Span]:
    """`kept`, and what of `more` is left beside it."""
    out = list(kept)
    for span in more:
        parts = [(span.start, span.end)]
        for k in kept:
            parts = [p for a, b in parts for p in ((a, min(b, k.start)), (max(a, k.end), b)) if p[1] > p[0]]
        for a, b in parts:
            value = span.value[a - span.start : b - span.start]
            head = len(value) - len(value.lstrip(_TRIM))
            value = value.strip(_TRIM) if (a, b) != (span.start, span.end) else value
            if any(c.isalnum() for c in value):
                begin = a + (head if (a, b) != (span.start, span.end) else 0)
                out.append(Span(begin, begin + len(value), span.kind, value))
    return out
