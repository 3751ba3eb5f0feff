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
KEPT_VOCABULARIES = 1_000
PASSES = 3
BATCH = 256
_LETTERS = re.compile(r"[^\W\d_]+")
# Counters, UUIDs and digests: where a pattern finds a value in one, it is by chance.
_OPAQUE = re.compile(
    r"(?:[A-Za-z]{1,12}[-_]?){0,2}(?:\d{0,8}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-f]{24,64})"
)
Words = frozenset[str]
NO_WORDS: Words = frozenset()
_NOTHING = Seeker()


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
        self._own: dict[frozenset[str], Seeker] = {}
        self._vouched: dict[str, list[Span]] = {}
        self._left_in: dict[str, list[Span]] = {}
        self._found: OrderedDict[bytes, list[Span]] = OrderedDict()
        self._here: dict[str, dict[str, str]] = defaultdict(dict)
        self._everywhere: dict[str, str] = {}
        self._guessed_kind: dict[str, str] = {}
        self._guessed_words: Counter[str] = Counter()
        self._standing: Counter[str] = Counter()
        self._words: set[str] = set()
        self._casts: dict[str, Cast] = {}
        self._constant = Cast(f"{seed}", self._is_taken)
        self._constants: set[str] = set()
        self._standing_names: set[str] = set()
        self._stays: Words = NO_WORDS
        self._local: tuple[str, Seeker] | None = None
        self._seeker: Seeker | None = None
        self._seeker_of_forms: Seeker | None = None

    def prepare(self, texts: Iterable[str]) -> None:
        """Find the values of texts that `learn` and `redact` will ask for."""
        fresh = {d: t for t in (plain_of(text).text for text in texts) if (d := _digest(t)) not in self._found}
        for digest, spans in zip(fresh, self.detector.find(list(fresh.values())), strict=True):
            self._found[digest] = spans
        while len(self._found) > KEPT_TEXTS:
            self._found.popitem(last=False)

    def learn(self, conversation: str, text: str, own: Words = NO_WORDS) -> None:
        """Find the values of a text that somebody wrote. `own`: the application's words in this call, in lower case."""
        self._forget()
        text = plain_of(text).text
        self._standing.update(w for w in _LETTERS.findall(folded(text)) if w not in common_words())
        for span in self._not_own(text, self._spans(text), own):
            self._take(conversation, span)

    def learn_form(self, conversation: str, text: str) -> None:
        """Find the values of another text of a call (`contents`), without the model."""
        self._forget()
        for span in self._vouched_in(text):
            self._take(conversation, span)

    def values_in(self, text: str, own: Words = NO_WORDS) -> list[Span]:
        """The values of a text by itself."""
        plain = plain_of(text).text
        return self._not_own(plain, self._spans(plain), own)

    def settle(self, constants: Iterable[Span]) -> None:
        """After `learn`: values that the application itself says in every conversation. Organisations and places stay,
        but for what is denied; of the others each has one surrogate in all conversations."""
        for span in constants:
            if span.kind in ("organisation", "place") and not self.detector.insists(span):
                self._stays |= {folded(span.value)}
                continue
            self._constants.add(folded(span.value))
            if span.kind == "name":
                self._standing_names.update(_LETTERS.findall(folded(span.value)))
            self._constant.surrogate(span.kind, span.value)
        self._own.clear()

    def redact(self, conversation: str, text: str, own: Words = NO_WORDS, copied: Words = NO_WORDS) -> str:
        """The text with its values replaced. What was JSON stays JSON. `own`: as in `learn`; `copied`: words that stay
        where they are a part of a longer find, too."""
        self.report.texts += 1
        stays = Seeker((word, "copied") for word in copied)
        made = _in_json(text, lambda t: self._replaced(conversation, t, self._found_in(conversation, t, own, stays)))
        for _ in range(PASSES):  # values that overlap: what a longer one left standing of a shorter one
            if not self._left(made, own, stays):
                break
            made = _in_json(made, lambda t: self._replaced(conversation, t, self._left(t, own, stays)))
        return made

    def redact_form(self, conversation: str, text: str) -> str:
        """Another text of a call, with those of its values replaced that are found without the model."""
        found = _merged([*self._vouched_in(text), *self._left_in_form(text)])
        return self._replaced(conversation, text, found) if found else text

    def identity(self, given: str) -> str:
        """An id as it may be written: itself, or where it holds a value a hash of it, the same wherever it stands."""
        rules = self.detector.deny or self.detector.patterns
        is_opaque = not rules and _OPAQUE.fullmatch(given)
        if not ((not is_opaque and self.detector.vouched(given)) or self._left(given, NO_WORDS)):
            return given
        keyed = f"{self._seed}/{given}".encode("utf-8", "surrogatepass")
        return "redacted-" + hashlib.blake2b(keyed, digest_size=12).hexdigest()

    def leaks(self, text: str, own: Words = NO_WORDS) -> list[str]:
        """Kinds of the values found anywhere in the log that a text still holds. A surrogate is never one of them."""
        return [s.kind for s in self._left(text, own)]

    def check(self, record: str, texts: Iterable[str], forms: Iterable[str] = (), own: Words = NO_WORDS) -> list[str]:
        """Leak test of one record as it is to be written: the kinds of what it still holds, which the report counts."""
        kinds = [k for t in texts for k in self.leaks(t, own)]
        kinds += [s.kind for t in forms for s in self._left_in_form(t)]
        if kinds:
            self.report.leaks += len(kinds)
            self.report.leaked_kinds.update(kinds)
            self.report.leaked_records.append(record)
        return kinds

    def _forget(self) -> None:
        """What was made for the values that were known so far."""
        self._seeker = self._seeker_of_forms = self._local = None
        self._left_in.clear()

    def _take(self, conversation: str, span: Span) -> None:
        """Remember a value where it was found, and for the whole log."""
        self.report.values[span.kind] += 1
        self._here[conversation].setdefault(folded(span.value), span.kind)
        self._words.update(folded(w) for w in _LETTERS.findall(span.value) if len(w) > 2)
        if span.kind in SOFT:
            self._guessed_kind.setdefault(folded(span.value), span.kind)
            self._guessed_words.update(_LETTERS.findall(folded(span.value)))
        elif len(compact(span.value)) >= MIN_NUMBER_CHARACTERS and span.kind != "age":
            self._everywhere.setdefault(folded(span.value), span.kind)

    def _left(self, text: str, own: Words, stays: Seeker = _NOTHING) -> list[Span]:
        plain = plain_of(text).text
        left = [s for s in self._global().spans(plain) if len(s.value) >= MIN_VALUE_CHARACTERS]
        return _around(self._not_own(plain, left, own), stays, plain)

    def _left_in_form(self, text: str) -> list[Span]:
        if self._seeker_of_forms is None:
            values = (Span(0, len(v), kind, v) for v, kind in self._everywhere.items())
            self._seeker_of_forms = Seeker((s.value, s.kind) for s in values if self.detector.insists(s))
        if text not in self._left_in:
            if len(self._left_in) >= KEPT_TEXTS:
                self._left_in.clear()
            self._left_in[text] = self._seeker_of_forms.spans(plain_of(text).text)
        return self._left_in[text]

    def _vouched_in(self, text: str) -> list[Span]:
        if text not in self._vouched:
            if len(self._vouched) >= KEPT_TEXTS:
                self._vouched.clear()
            self._vouched[text] = self.detector.vouched(plain_of(text).text)
        return self._vouched[text]

    def _not_own(self, text: str, spans: list[Span], own: Words) -> list[Span]:
        """Without what lies within one of the application's own words."""
        if not spans:
            return spans
        if own not in self._own:
            if len(self._own) >= KEPT_VOCABULARIES:
                self._own.clear()
            self._own[own] = Seeker((word, "own") for word in sorted(self.detector.keep | own | self._stays))
        if not (standing := Disjoint(self._own[own].spans(text))).spans:
            return spans
        return [s for s in spans if self.detector.insists(s) or not standing.around(s)]

    def _spans(self, text: str) -> list[Span]:
        digest = _digest(text)
        if digest not in self._found:
            self.prepare([text])
        return self._found[digest]

    def _found_in(self, conversation: str, text: str, own: Words, stays: Seeker) -> list[Span]:
        plain = plain_of(text).text
        found = self._not_own(plain, [*self._spans(plain), *self._known(conversation, plain)], own)
        return _around(_merged(found), stays, plain)

    def _replaced(self, conversation: str, text: str, spans: Sequence[Span]) -> str:
        """`spans`: of the text without escapes, in order, none overlapping another."""
        out, at, plain = [], 0, plain_of(text)
        for span in spans:
            kind = self._here[conversation].get(folded(span.value)) or span.kind
            start, end = plain.written(span.start, span.end)
            out += [
                text[at:start],
                like(text[start:end], self._cast(conversation, kind, span.value).surrogate(kind, span.value)),
            ]
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

    def _cast(self, conversation: str, kind: str, value: str) -> Cast:
        low = folded(value)
        words = _LETTERS.findall(low) if kind == "name" and self._standing_names else []
        if low in self._constants or (words and self._standing_names.issuperset(words)):
            return self._constant
        if conversation not in self._casts:
            self._casts[conversation] = Cast(f"{self._seed}/{conversation}", self._is_taken_here)
        return self._casts[conversation]

    def _is_taken_here(self, low: str) -> bool:
        return self._is_taken(low) or self._constant.uses(low)

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


def _around(spans: list[Span], stays: Seeker, text: str) -> list[Span]:
    """What of the values is left beside the words that stay."""
    if not spans or not (standing := Disjoint(stays.spans(text))).spans:
        return spans
    kept = []
    for span in spans:
        words = standing.meeting(span.start, span.end)
        begins, ends = [span.start, *(w.end for w in words)], [*(w.start for w in words), span.end]
        for a, b in zip(begins, ends, strict=True):
            if a < b and any(c.isalnum() for c in text[a:b]):
                kept.append(Span(a, b, span.kind, text[a:b]))
    return kept


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
