"""Values that the application says itself: those in the system prompt of nearly all of a task's calls.

The specialist will be asked with that prompt, so it has to be trained on it: "customer messages of ACME Bank" with
another bank in every conversation is a prompt that nobody will send.

Pure. Not covered: a customer whose calls are nearly all of the log, and whom its system prompt names: a company or a
place stays, a person gets one surrogate throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from slmfleet.curation.seeker import folded
from slmfleet.curation.spans import Span

MIN_CALLS = 20
SHARE = 0.95


class Constants:
    """`add` the values in the system prompt of each call, then ask for those in nearly all."""

    def __init__(self) -> None:
        self._calls = 0
        self._count: Counter[str] = Counter()
        self._first: dict[str, Span] = {}

    def add(self, found: Iterable[Span]) -> None:
        """Count one call."""
        self._calls += 1
        of_call = {folded(span.value): span for span in found}
        self._count.update(of_call.keys())
        for low, span in of_call.items():
            self._first.setdefault(low, span)

    def found(self) -> list[Span]:
        """As they were written first; none of fewer calls than `MIN_CALLS`."""
        if self._calls < MIN_CALLS:
            return []
        return [span for low, span in self._first.items() if self._count[low] >= SHARE * self._calls]
