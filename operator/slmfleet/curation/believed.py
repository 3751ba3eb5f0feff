"""Which words of a log's inputs are of persons, organisations, places and numbers: what no name of a task may carry.

Redaction's own rule (`redact`): a word is believed to be one where most of the places in which it stands are inside
something found, and common words never are. All words that could come into a name are judged, but not in all of their
places: a few texts that hold each are read, the same ones for the same log. A word that was not read is taken for one.

Not covered: words of fewer than three calls, which come into no name; scripts that the model was not made for, whose
words the default model takes for names at random. A tenant's list holds for those.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from slmfleet.curation.detect import SOFT, Detector, Model
from slmfleet.curation.entities import EntityModel
from slmfleet.curation.personal import common_words
from slmfleet.curation.redact import BELIEVED_SHARE, MIN_VALUE_CHARACTERS
from slmfleet.curation.seeker import Seeker
from slmfleet.curation.spans import Span
from slmfleet.curation.words import words_of

FEWEST_CALLS = 3
# Readings of each word: of all words a few first, then more of those that there is room for.
READINGS = (2, 8)
MOST_TEXTS = 4_000
MOST_CHARACTERS = 1_000_000
_NOT_LATIN = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff]")


@dataclass(frozen=True)
class Believed:
    """`kinds`: of each word that is believed to be personal. `unread`: words that could be."""

    kinds: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unread: frozenset[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """What may be in no name."""
        return self.unread | self.kinds.keys()

    def added_to(self, detector: Detector) -> Detector:
        """The detector that finds these names wherever they stand, as redaction of the whole log would."""
        names = [(w, k) for w, k in sorted(self.kinds.items()) if k in SOFT and len(w) >= MIN_VALUE_CHARACTERS]
        return replace(detector, model=_WithWords(detector.model, Seeker(names))) if names else detector

    def masked(self, texts: Sequence[str], detector: Detector) -> list[str]:
        """What is asked, whoever asks: a word for its kind in place of each value that patterns find, and of each name
        that is believed to be one."""
        spans = self.added_to(replace(detector, model=None)).find(texts)
        return [_masked(text, found) for text, found in zip(texts, spans, strict=True)]


@dataclass(frozen=True)
class _WithWords:
    """What a model finds, and known words."""

    inner: Model | None
    words: Seeker

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        found = self.inner.spans(texts) if self.inner is not None else [[] for _ in texts]
        known = ([(s.start, s.end, s.kind) for s in self.words.spans(text)] for text in texts)
        return [sorted([*some, *more]) for some, more in zip(found, known, strict=True)]


def _masked(text: str, spans: Sequence[Span]) -> str:
    """Names that stand beside each other, first and last, are one."""
    out: list[str] = []
    at, before = 0, ""
    for span in spans:
        between = text[at : span.start]
        if span.kind != before or between.strip():
            out += [between, span.kind.replace("_", " ")]
        at, before = span.end, span.kind
    return "".join([*out, text[at:]])


def believed(texts: Iterable[str], detector: Detector, own: Container[str] = frozenset()) -> Believed:
    """Judge the words of one text a call. `own`: the application's words, such as labels, which are nobody's."""
    calls = Counter(texts)
    words = {text: frozenset(words_of(text)) for text in calls}
    standing: Counter[str] = Counter()
    for text, count in calls.items():
        for word in words[text]:
            standing[word] += count
    judged = frozenset(w for w, n in standing.items() if n >= FEWEST_CALLS and _may_be(w) and w not in own)
    read = _chosen(words, judged)
    places, kinds = _finds(read, detector)
    seen = frozenset(w for text in read for w in words[text])
    most = {w: k for w, k in kinds.items() if w in judged and k.total() >= BELIEVED_SHARE * places[w]}
    return Believed({w: k.most_common(1)[0][0] for w, k in most.items()}, judged - seen)


def _may_be(word: str) -> bool:
    return not word.isdigit() and word not in common_words()


def _chosen(words: Mapping[str, frozenset[str]], judged: frozenset[str]) -> list[str]:
    """Texts to read: in an order that does not depend on the log's, whichever holds a word not read often enough."""
    order = sorted(words, key=lambda text: hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest())
    held = {text: words[text] & judged for text in order}
    read: Counter[str] = Counter()
    chosen: dict[str, None] = {}
    room = MOST_CHARACTERS
    for wanted in READINGS:
        for text in order:
            if len(chosen) >= MOST_TEXTS or room <= 0:
                break
            if text not in chosen and any(read[w] < wanted for w in held[text]):
                chosen[text] = None
                room -= len(text)
                read.update(held[text])
    return list(chosen)


def _finds(texts: Sequence[str], detector: Detector) -> tuple[Counter[str], dict[str, Counter[str]]]:
    """How often each word stands in these texts; how often inside which kind of find."""
    places: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    latin_only = isinstance(detector.model, EntityModel)
    for text, spans in zip(texts, detector.find(texts), strict=True):
        places.update(words_of(text))
        for span in spans:
            for word in words_of(span.value):
                if not (latin_only and span.kind in SOFT and _NOT_LATIN.search(word)):
                    kinds.setdefault(word, Counter())[span.kind] += 1
    return places, kinds
