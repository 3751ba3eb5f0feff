"""Stretches of a text, and sets of them in which none overlaps another.

Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

# Letters of scripts that put no space between words: the edge of a number beside them, not a part of it.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"


@dataclass(frozen=True)
class Span:
    """`text[start:end]` is a value of `kind`."""

    start: int
    end: int
    kind: str
    value: str


class Disjoint:
    """Spans in order, none overlapping another. A text may hold tens of thousands: asking looks at neighbours only."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._starts: list[int] = []
        self.spans: list[Span] = []
        for span in spans:
            self.add(span)

    def add(self, span: Span) -> bool:
        """Take the span; False, and nothing is taken, where one that is there overlaps it."""
        if self.meeting(span.start, span.end):
            return False
        at = bisect_left(self._starts, span.start)
        self._starts.insert(at, span.start)
        self.spans.insert(at, span)
        return True

    def meeting(self, start: int, end: int) -> list[Span]:
        """Those that overlap `start:end`, in order."""
        first = bisect_right(self._starts, start)
        if first and self.spans[first - 1].end > start:
            first -= 1
        return self.spans[first : bisect_left(self._starts, end)]

    def around(self, span: Span) -> list[Span]:
        """Those that hold all of a span."""
        return [s for s in self.meeting(span.start, span.end) if s.start <= span.start and span.end <= s.end]
