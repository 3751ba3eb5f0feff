"""Finds any of many known values in a text, in any case, in time that grows with the text and not with the values.

Pure. Not covered: values in another spelling, and values inside a longer word (in scripts without spaces between words
every character may begin or end one).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from slmfleet.curation.spans import UNSPACED, Span

_TOKEN = re.compile(r"[^\W_]+")
_TOKEN_OF_ANY = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SPACES = {ord(c): " " for c in map(chr, range(0x3001)) if c.isspace()}
# By how many of its first words a value is looked up: thousands of numbers begin with the same country code.
HEAD = 3
Head = tuple[str, ...]


def folded(text: str) -> str:
    """In lower case, any white space as a space, character by character, so that places stay places."""
    low = text.lower()
    if len(low) != len(text):
        low = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return low.translate(_SPACES)


class Seeker:
    """Whole words; the longest value where several begin together. `values`: (value, kind)."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._by_head: dict[Head, dict[str, tuple[int, str]]] = defaultdict(dict)
        self._first_words: set[str] = set()
        for value, kind in values:
            self.add(value, kind)

    def add(self, value: str, kind: str) -> None:
        low = folded(value)
        tokens = [*_tokens(low).finditer(low)]
        if tokens:
            head = tuple(t.group() for t in tokens[:HEAD])
            self._first_words.add(head[0])
            self._by_head[head].setdefault(low, (tokens[0].start(), kind))

    def __contains__(self, low: str) -> bool:
        return low in self._by_head.get(tuple(_tokens(low).findall(low)[:HEAD]), {})

    def spans(self, text: str) -> list[Span]:
        """Where values stand, in order and without overlaps."""
        if not self._by_head:
            return []
        low = folded(text)
        words = _tokens(low).findall(low)
        if self._first_words.isdisjoint(words):
            return []
        found: list[Span] = []
        end = 0
        for i, token in enumerate(_tokens(low).finditer(low)):
            if words[i] not in self._first_words or token.start() < end:
                continue
            options = self._beginning(words[i : i + HEAD])
            best = _best(text, low, token.start(), options, end)
            if best is not None:
                found.append(best)
                end = best.end
        return found

    def _beginning(self, words: Sequence[str]) -> list[tuple[str, tuple[int, str]]]:
        """Values that begin with these words, or with some of them and are no longer."""
        heads = (tuple(words[:n]) for n in range(1, len(words) + 1))
        return [each for head in heads if head in self._by_head for each in self._by_head[head].items()]


def _tokens(low: str) -> re.Pattern[str]:
    return _TOKEN if low.isascii() else _TOKEN_OF_ANY


def _goes_on(low: str, stop: int) -> bool:
    """Whether the word before `stop` does not end there."""
    return low[stop : stop + 1].isalnum() and not _UNSPACED.search(low, stop - 1, stop + 1)


def _best(text: str, low: str, at: int, options: Iterable[tuple[str, tuple[int, str]]], after: int) -> Span | None:
    best: Span | None = None
    for value, (offset, kind) in options:
        start = at - offset
        stop = start + len(value)
        if start < after or not low.startswith(value, start) or _goes_on(low, stop):
            continue
        if best is None or len(value) > best.end - best.start:
            best = Span(start, stop, kind, text[start:stop])
    return best
