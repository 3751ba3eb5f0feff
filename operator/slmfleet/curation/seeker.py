"""Finds any of many known values in a text, in any case, in time that grows with the text and not with the values.

Pure. Not covered: values in another spelling, and values inside a longer word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from slmfleet.curation.personal import Span

_TOKEN = re.compile(r"[^\W_]+")


def folded(text: str) -> str:
    """In lower case, character by character, so that places stay places."""
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


class Seeker:
    """Whole words; the longest value where several begin together. `values`: (value, kind)."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._by_token: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        for value, kind in values:
            self.add(value, kind)

    def add(self, value: str, kind: str) -> None:
        low = folded(value)
        token = _TOKEN.search(low)
        if token is not None:
            self._by_token[token.group()].setdefault(low, (token.start(), kind))

    def __contains__(self, low: str) -> bool:
        token = _TOKEN.search(low)
        return token is not None and low in self._by_token.get(token.group(), {})

    def spans(self, text: str) -> list[Span]:
        """Where values stand, in order and without overlaps."""
        if not self._by_token:
            return []
        low = folded(text)
        found: list[Span] = []
        end = 0
        for token in _TOKEN.finditer(low):
            options = self._by_token.get(token.group())
            if options is None or token.start() < end:
                continue
            best = _best(text, low, token.start(), options, end)
            if best is not None:
                found.append(best)
                end = best.end
        return found


def _best(text: str, low: str, at: int, options: dict[str, tuple[int, str]], after: int) -> Span | None:
    best: Span | None = None
    for value, (offset, kind) in options.items():
        start = at - offset
        stop = start + len(value)
        if start < after or not low.startswith(value, start) or low[stop : stop + 1].isalnum():
            continue
        if best is None or len(value) > best.end - best.start:
            best = Span(start, stop, kind, text[start:stop])
    return best
