"""What a valid answer of a task looks like, as far as its recorded ones show; the gateway escalates what breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slmtrain.metrics.label import label_of
from slmtrain.metrics.reference import Reference, as_json

REQUIRED_SHARE = 0.98  # of the recorded objects have a key that an answer must have; curation's share


@dataclass(frozen=True)
class Form:
    """Labels that were recorded; keys of JSON objects that an answer must have, and may have. None: nothing known."""

    labels: frozenset[str] | None = None
    required: frozenset[str] | None = None
    allowed: frozenset[str] | None = None

    def holds_label(self, answer: str, recorded: str) -> bool:
        """One of the task's labels, in the recorded one's JSON form if that has one."""
        want, got = as_json(recorded), as_json(answer)
        if isinstance(want, dict):
            return isinstance(got, dict) and got.keys() == want.keys() and self._known(answer)
        return bool(answer.strip()) and (want is None or type(got) is type(want)) and self._known(answer)

    def _known(self, answer: str) -> bool:
        return self.labels is None or label_of(answer) in self.labels

    def holds_keys(self, keys: Sequence[str]) -> bool:
        if self.required is None or self.allowed is None:
            return True
        return self.required <= set(keys) <= self.allowed


def form_of(references: Sequence[Reference]) -> Form:
    """The form of a task, from all of its recorded answers."""
    if not references:
        return Form()
    objects = [value for value in (as_json(r.text) for r in references) if isinstance(value, dict)]
    labels = frozenset(label_of(text) for r in references for text in (r.text, *r.accepted))
    if not objects:
        return Form(labels)
    count = Counter(key for value in objects for key in value)
    required = frozenset(key for key, n in count.items() if n >= REQUIRED_SHARE * len(objects))
    return Form(labels, required, frozenset(count))
