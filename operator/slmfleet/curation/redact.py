"""Replaces personal data and secrets by invented values of the same kind and shape.

Not covered: what `detect` does not find; a value written in another form than where it was found (digits spelled as
words, another spelling); facts that identify a person together. Redaction is not anonymisation in the sense of any law.

Within a conversation a value always becomes the same surrogate, in prompt and answer alike, so that a copied field is
still a copied field; in another conversation it becomes another one (`surrogates`). Values that can be told by their
form are replaced wherever the log holds them, and so are names, organisations and places that are no common words and
were found in most places where they stand; the leak test searches the output for all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slmfleet.curation.checksums import compact
from slmfleet.curation.detect import SOFT, Detector, tells
from slmfleet.curation.escapes import like, plain_of
from slmfleet.curation.models import default_detector
from slmfleet.curation.personal import common_words
from slmfleet.curation.seeker import Seeker, folded
from slmfleet.curation.spans import Disjoint, Span
from slmfleet.curation.surrogates import STAYS, Cast

__all__ = ["Redactor", "Report", "Seeker", "mapped", "strings_in"]

MIN_VALUE_CHARACTERS = 4
# Shorter numbers stand in too many places where they mean something else.
MIN_NUMBER_CHARACTERS = 6
# A model's find is believed elsewhere in the log where it was found in so many of the places where it stands.
BELIEVED_SHARE = 0.5
KEPT_TEXTS = 50_000
PASSES = 3
BATCH = 256
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass
class Report:
    """`counts`: replaced values by kind. `leaks`: values of the log that are still in the output."""

    texts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    leaks: int = 0
    leaked_kinds: Counter[str] = field(default_factory=Counter)
    leaked_records: list[str] = field(default_factory=list)


class Redactor:
    """Two passes: `learn` every text of the log, then `redact` each. `seed` makes runs repeatable.

    `prepare` before `learn` finds the values of many texts at once, which a model does several times as fast.
    """

    def __init__(self, seed: int = 0, detector: Detector | None = None) -> None:
        self.report = Report()
        self.detector = detector if detector is not None else default_detector()
        self._seed = seed
        self._own = Seeker((word, "own") for word in self.detector.keep)
        self._found: OrderedDict[bytes, list[Span]] = OrderedDict()
        self._here: dict[str, dict[str, str]] = defaultdict(dict)
        self._everywhere: dict[str, str] = {}
        self._guessed_kind: dict[str, str] = {}
        self._guessed_words: Counter[str] = Counter()
        self._standing: Counter[str] = Counter()
        self._words: set[str] = set()
        self._casts: dict[str, Cast] = {}
        self._local: tuple[str, Seeker] | None = None
        self._seeker: Seeker | None = None

    def prepare(self, texts: Iterable[str]) -> None:
        """Find the values of texts that `learn` and `redact` will ask for."""
        fresh = {d: t for t in (plain_of(text).text for text in texts) if (d := _digest(t)) not in self._found}
        for digest, spans in zip(fresh, self.detector.find(list(fresh.values())), strict=True):
            self._found[digest] = spans
        while len(self._found) > KEPT_TEXTS:
            self._found.popitem(last=False)

    def learn(self, conversation: str, text: str) -> None:
        """Find the values of a text."""
        self._seeker = self._local = None
        text = plain_of(text).text
        self._standing.update(w for w in _LETTERS.findall(folded(text)) if w not in common_words())
        for span in self._not_own(text, self._spans(text)):
            self.report.values[span.kind] += 1
            self._here[conversation].setdefault(folded(span.value), span.kind)
            self._words.update(folded(w) for w in _LETTERS.findall(span.value) if len(w) > 2)
            if span.kind in SOFT:
                self._guessed_kind.setdefault(folded(span.value), span.kind)
                self._guessed_words.update(_LETTERS.findall(folded(span.value)))
            elif len(compact(span.value)) >= MIN_NUMBER_CHARACTERS and span.kind != "age":
                self._everywhere.setdefault(folded(span.value), span.kind)

    def redact(self, conversation: str, text: str) -> str:
        """The text with its values replaced. What was JSON stays JSON."""
        self.report.texts += 1
        made = _in_json(text, lambda t: self._replaced(conversation, t, self._found_in(conversation, t)))
        for _ in range(PASSES):  # values that overlap: what a longer one left standing of a shorter one
            if not self._left(made):
                break
            made = _in_json(made, lambda t: self._replaced(conversation, t, self._left(t)))
        return made

    def leaks(self, text: str) -> list[str]:
        """Kinds of the values found anywhere in the log that a text still holds. A surrogate is never one of them."""
        return [s.kind for s in self._left(text)]

    def check(self, record: str, texts: Iterable[str]) -> list[str]:
        """Leak test of one record as it is to be written: the kinds of what it still holds, which the report counts."""
        kinds = [k for t in texts for k in self.leaks(t)]
        if kinds:
            self.report.leaks += len(kinds)
            self.report.leaked_kinds.update(kinds)
            self.report.leaked_records.append(record)
        return kinds

    def _left(self, text: str) -> list[Span]:
        plain = plain_of(text).text
        left = [s for s in self._global().spans(plain) if len(s.value) >= MIN_VALUE_CHARACTERS]
        return self._not_own(plain, left)

    def _not_own(self, text: str, spans: list[Span]) -> list[Span]:
        """Without what lies within one of the application's own words."""
        if not spans or not (own := Disjoint(self._own.spans(text))).spans:
            return spans
        return [s for s in spans if self.detector.insists(s) or not _within(s, own)]

    def _spans(self, text: str) -> list[Span]:
        digest = _digest(text)
        if digest not in self._found:
            self.prepare([text])
        return self._found[digest]

    def _found_in(self, conversation: str, text: str) -> list[Span]:
        plain = plain_of(text).text
        return _merged(self._not_own(plain, [*self._spans(plain), *self._known(conversation, plain)]))

    def _replaced(self, conversation: str, text: str, spans: Sequence[Span]) -> str:
        """`spans`: of the text without escapes, in order, none overlapping another."""
        out, at, plain = [], 0, plain_of(text)
        for span in spans:
            kind = self._here[conversation].get(folded(span.value)) or span.kind
            start, end = plain.written(span.start, span.end)
            out += [text[at:start], like(text[start:end], self._cast(conversation).surrogate(kind, span.value))]
            at = end
            self.report.counts[kind] += 1
        out.append(text[at:])
        return "".join(out)

    def _known(self, conversation: str, text: str) -> list[Span]:
        """What the conversation, or the log, holds elsewhere."""
        if self._local is None or self._local[0] != conversation:
            self._local = (conversation, Seeker(_with_words(self._here.get(conversation, {}))))
        here = [s for s in self._local[1].spans(text) if self._means(s)]
        return _merged(here, self._global().spans(text))

    def _means(self, span: Span) -> bool:
        """A name of one common word is one only where it is written as one; a short number only where it was found."""
        if span.kind not in SOFT:
            return len(compact(span.value)) >= MIN_NUMBER_CHARACTERS
        words = _LETTERS.findall(span.value)
        if not words:
            return len(compact(span.value)) >= MIN_NUMBER_CHARACTERS
        return any(w.lower() not in common_words() for w in words) or (len(words) > 1 and span.value[0].isupper())

    def _global(self) -> Seeker:
        if self._seeker is None:
            values = [(v, k) for v, k in self._everywhere.items() if len(v) >= MIN_VALUE_CHARACTERS]
            self._seeker = Seeker([*values, *((v, self._guessed_kind[v]) for v in self._believed())])
        return self._seeker

    def _believed(self) -> list[str]:
        """Names, organisations and places that are replaced wherever they stand."""
        return [v for v in self._guessed_kind if any(self._is_believed(w) for w in _LETTERS.findall(v))]

    def _is_believed(self, word: str) -> bool:
        if len(word) < MIN_VALUE_CHARACTERS or word in common_words() or word in STAYS:
            return False
        return self._guessed_words[word] >= BELIEVED_SHARE * self._standing[word]

    def _cast(self, conversation: str) -> Cast:
        if conversation not in self._casts:
            self._casts[conversation] = Cast(f"{self._seed}/{conversation}", self._is_taken)
        return self._casts[conversation]

    def _is_taken(self, low: str) -> bool:
        return low in self._words or low in self._everywhere or low in self._guessed_kind


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _with_words(values: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Values, and the words of names: whoever was "Xaver Quandt" is "Xaver" a line later."""
    yield from values.items()
    for value, kind in values.items():
        if kind == "name":
            for word in _LETTERS.findall(value):
                if len(word) > 2 and word not in common_words():
                    yield word, kind


def _in_json(text: str, change: Callable[[str], str]) -> str:
    """A changed text; one that is JSON and would be none any more is changed string by string."""
    made = change(text)
    if text[:1] in "{[" and made != text and _is_json(text) and not _is_json(made):
        return json.dumps(mapped(json.loads(text), change), ensure_ascii=text.isascii())
    return made


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _within(span: Span, own: Disjoint) -> bool:
    return any(o.start <= span.start and span.end <= o.end for o in own.meeting(span.start, span.end))


def _merged(first: Sequence[Span], second: Sequence[Span] = ()) -> list[Span]:
    """Both lists without overlaps; where two meet, the longer one."""
    return Disjoint(sorted([*first, *second], key=lambda s: (s.start - s.end, s.start))).spans


def strings_in(value: Any) -> Iterable[str]:
    """Every text of a JSON value, long whole numbers and keys that are values included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if tells(key):
                yield key
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
    elif isinstance(value, int) and abs(value) >= 10**8:
        yield str(value)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text changed; short numbers stay, and keys that are no values."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(k) if tells(k) else k: mapped(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [mapped(v, change) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**8:
        changed = change(str(value))
        return int(changed) if changed.lstrip("-").isdecimal() else changed
    return value
