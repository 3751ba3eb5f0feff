"""Finds personal data and secrets in text, by patterns with their checksums, and by words that announce a name.

What it does not cover: names that nothing announces (an unknown name in the middle of a sentence), organisations and
places: those are found by the model (`entities`). Nor anything inside images, audio and encodings.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from slmfleet.curation.beginnings import Beginnings, Begins
from slmfleet.curation.checksums import iban_ok, luhn
from slmfleet.curation.patterns import CALLED, PATTERNS, Pattern
from slmfleet.curation.spans import UNSPACED, Disjoint, Span
from slmfleet.recognise.native import library

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
_DIGIT = re.compile(r"[0-9]")
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


_EVERYTHING = (*PATTERNS, *_NAMES)
_EMAILS = tuple(pattern for pattern in PATTERNS if pattern.kind == "email")
# CALLED matches in no text without such letters.
_SOUGHT = (*_EVERYTHING, CALLED)
_CALLED_PLACE = frozenset({len(_EVERYTHING)})
_EMAIL_PLACES = frozenset(n for n, pattern in enumerate(PATTERNS) if pattern.kind == "email")
_NONE: Begins = ([], [])


def find(text: str) -> list[Span]:
    """Values that patterns find in a text, in their order, none overlapping another."""
    return find_all([text])[0]


def find_all(texts: Sequence[str]) -> list[list[Span]]:
    """The same for many texts: where the library in C is, it reads them once for all patterns, and each pattern is
    asked only where a match of it may begin."""
    beginnings = _beginnings()
    if beginnings is None:
        return [find_by_each(text) for text in texts]
    spaced = [_spaced(text) for text in texts]
    unspaced = [n for n, (text, other) in enumerate(zip(texts, spaced, strict=True)) if text != other]
    within = dict(zip(unspaced, beginnings.of([texts[n] for n in unspaced]), strict=True))
    return [
        _found(text, other, begins, within.get(n, _NONE))
        for n, (text, other, begins) in enumerate(zip(texts, spaced, beginnings.of(spaced), strict=True))
    ]


def find_by_each(text: str) -> list[Span]:
    """The same by one pattern after another, each through the whole text: what the quicker way is held to."""
    digits, spaced = _digits(text), _spaced(text)
    if spaced == text:
        return _patterns(text, text, _EVERYTHING, digits, [])
    found = _patterns(spaced, text, _EVERYTHING, digits, _patterns(text, text, [CALLED], digits, []))
    # A mailbox may be named in such letters.
    return _patterns(text, text, _EMAILS, digits, found)


def _spaced(text: str) -> str:
    """The text without the letters of scripts that put no space between words."""
    return text if text.isascii() else _UNSPACED.sub(_EDGE, text)


def _patterns(searched: str, text: str, patterns: Iterable[Pattern], digits: int, found: Iterable[Span]) -> list[Span]:
    taken = Disjoint(found)
    for pattern in patterns:
        if _may_match(pattern, searched, digits):
            for match in pattern.regex.finditer(searched):
                _take(taken, pattern, match, text)
    return taken.spans


def _found(text: str, spaced: str, begins: Begins | None, within: Begins | None) -> list[Span]:
    """`begins`: where patterns may begin in `spaced`; `within`: in the text, where that is another."""
    if begins is None or within is None:
        return find_by_each(text)
    found = _at(_of(within, _CALLED_PLACE), text, text, []) if within[0] else []
    found = _at(begins, spaced, text, found) if begins[0] else found
    return _at(_of(within, _EMAIL_PLACES), text, text, found) if within[0] else found


def _at(begins: Begins, searched: str, text: str, found: Iterable[Span]) -> list[Span]:
    """What patterns find in `searched`, which is as long as the text, as it stands in the text: each is asked where it
    may begin, in order, and goes on behind what it matched, as `finditer` does."""
    taken, digits, last, end, skipped = Disjoint(found), -1, -1, 0, False
    for number, begin in zip(*begins, strict=True):
        if number != last:
            pattern, last, end, skipped = _SOUGHT[number], number, 0, False
            ask = pattern.regex.match
        if skipped or begin < end:
            continue
        match = ask(searched, begin)
        if match is None:
            continue
        if not end and (pattern.digits or pattern.hint):
            digits = _digits(text) if digits < 0 else digits
            skipped = not _may_match(pattern, searched, digits)
            if skipped:
                continue
        end = match.end()
        _take(taken, pattern, match, text)
    return taken.spans


def _digits(text: str) -> int:
    """About how many digits stand together: none, some, or seven."""
    if _DIGIT.search(text) is None:
        return 0
    return 7 if _LONG.search(text) else 4


def _may_match(pattern: Pattern, searched: str, digits: int) -> bool:
    if (pattern.digits and not digits) or (pattern.digits >= 7 and digits < 7):
        return False
    return not pattern.hint or any(h in searched for h in pattern.hint)


def _take(taken: Disjoint, pattern: Pattern, match: re.Match[str], text: str) -> None:
    start, end = match.span("v") if pattern.named else match.span()
    value = text[start:end]
    if pattern.kind != "private_key":
        value = value.rstrip(" .,;:-")
        end = start + len(value)
    if value and pattern.check(value):
        taken.add(Span(start, end, pattern.kind, value))


def _of(begins: Begins, wanted: frozenset[int]) -> Begins:
    pairs = [(number, begin) for number, begin in zip(*begins, strict=True) if number in wanted]
    return [number for number, _ in pairs], [begin for _, begin in pairs]


@cache
def _beginnings() -> Beginnings | None:
    loaded = library()
    return Beginnings(loaded, [pattern.regex for pattern in _SOUGHT]) if loaded is not None else None


@cache
def common_words() -> frozenset[str]:
    """English words that are rarely a name, read once a process; from `common_words.txt`."""
    text = Path(__file__).with_name("common_words.txt").read_text("utf-8")
    return frozenset(w for line in text.splitlines() if not line.startswith("#") for w in line.split())
