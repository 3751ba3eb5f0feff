"""Finds personal data and secrets in text, by patterns with their checksums, and by words that announce a name.

What it does not cover: names that nothing announces (an unknown name in the middle of a sentence), organisations and
places: those are found by the model (`entities`). Nor anything inside images, audio and encodings.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from slmfleet.curation.checksums import iban_ok, luhn
from slmfleet.curation.patterns import CALLED, PATTERNS, Pattern
from slmfleet.curation.spans import UNSPACED, Disjoint, Span

__all__ = ["NOT_NAMES", "Span", "common_words", "find", "iban_ok", "luhn"]

_NAME = r"[A-Z][a-zÀ-ÿ]+(?:['’-][A-Z][a-zÀ-ÿ]+)?"
_PARTICLE = r"(?:van der|van den|van|von|de la|de|del|di|da|bin|al|el|le|la)"
_FULL = rf"{_NAME}(?:[ \t]+(?:[A-Z]\.[ \t]+)?(?:{_PARTICLE}[ \t]+)?{_NAME}){{0,2}}"
_NOT_NAME_WORDS = (
    "the this that it sir madam customer team support there all what which no not my your our i we you please "
    "thanks thank hello hi monday tuesday wednesday thursday friday saturday sunday january february march april "
    "may june july august september october november december english german french python java json api"
)
NOT_NAMES = frozenset(_NOT_NAME_WORDS.split())
_UNSPACED = re.compile(f"[{UNSPACED}]")
_EDGE = "\u3001"
# Seven digits, with at most two other characters between two of them.
_LONG = re.compile(r"\d(?:[^\w\n]{0,2}\d){6}")


def _name(value: str) -> bool:
    return value.split()[0].lower() not in NOT_NAMES


_NAMES = (
    Pattern(
        "name",
        re.compile(
            rf"(?:[Mm]y name is|[Mm]y name's|[Mm]y full name is|[Tt]his is|I am called|I'm called|[Cc]all me|[Ss]igned,"
            rf"|[Dd]ear|[Nn]ame:|[Cc]ustomer:|[Pp]atient:|[Rr]egards,\s|[Nn]amed|[Mm]ein Name ist|[Ii]ch heiße"
            rf"|[Jj]e m'appelle|[Mm]e llamo|[Mm]i chiamo|[Mm]eu nome é|[Ii]k heet)\s+(?P<v>{_FULL})"
        ),
        _name,
    ),
    Pattern(
        "name",
        re.compile(
            rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Madam|Herr|Frau|Monsieur|Madame|Señora?|Signora?)\.?[ \t]+(?P<v>{_FULL})"
        ),
        _name,
        ("Mr", "Ms", "Miss", "Dr", "Prof", "Sir", "Madam", "Herr", "Frau", "Monsieur", "Señor", "Signor"),
    ),
)


def find(text: str) -> list[Span]:
    """Values that patterns find in a text, in their order, none overlapping another."""
    digits = 0
    if any(c in text for c in "0123456789"):
        digits = 7 if _LONG.search(text) else 4
    everything = (*PATTERNS, *_NAMES)
    if text.isascii() or (searched := _UNSPACED.sub(_EDGE, text)) == text:
        return _patterns(text, text, everything, digits, [])
    found = _patterns(searched, text, everything, digits, list(_matches(CALLED, text, text)) if digits >= 7 else [])
    # A mailbox may be named in such letters.
    return _patterns(text, text, [p for p in PATTERNS if p.kind == "email"], digits, found)


def _patterns(
    searched: str, text: str, patterns: Iterable[Pattern], digits: int, found: Iterable[Span]
) -> list[Span]:
    taken = Disjoint(found)
    for pattern in patterns:
        if (pattern.digits and not digits) or (pattern.digits >= 7 and digits < 7):
            continue
        if pattern.hint and not any(h in searched for h in pattern.hint):
            continue
        for span in _matches(pattern, searched, text):
            taken.add(span)
    return taken.spans


def _matches(pattern: Pattern, searched: str, text: str) -> Iterator[Span]:
    """What a pattern finds in `searched`, which is as long as the text, as it stands in the text."""
    named = "v" in pattern.regex.groupindex
    for match in pattern.regex.finditer(searched):
        start, end = match.span("v") if named else match.span()
        value = text[start:end]
        trimmed = value.rstrip(" .,;:-")
        if pattern.kind != "private_key":
            end -= len(value) - len(trimmed)
            value = trimmed
        if value and pattern.check(value):
            yield Span(start, end, pattern.kind, value)


@cache
def common_words() -> frozenset[str]:
    """English words that are rarely a name, read once a process; from `common_words.txt`."""
    text = Path(__file__).with_name("common_words.txt").read_text("utf-8")
    return frozenset(w for line in text.splitlines() if not line.startswith("#") for w in line.split())
