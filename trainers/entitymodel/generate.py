"""Invents short texts with personal data, and says where it stands. Everything in them comes from `words/` and the
package's list of common words.

A text is a template with its slots filled: names of two dozen countries, places, organisations, addresses in the forms
of many post offices, record numbers, telephone numbers, dates of birth. Half of the templates carry no data at all, so
that a model learns what to leave alone: capitals, headings, code, JSON, chat. A share of the names is invented from
syllables of real ones, and a share of the texts is in lower or upper case, so that a model cannot learn lists by heart.

Deterministic by seed. Not covered: scripts other than Latin.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from entitymodel.english import English
from entitymodel.languages import Language, Slot, Speaker
from entitymodel.lists import Lists
from entitymodel.values import Values

SLOT = re.compile(r"\{([A-Za-z]\w*)\}")
LOWER_SHARE, UPPER_SHARE = 0.12, 0.03
# Of the texts that are not English, those with data: fewer, for it is ordinary words that are hard there.
OTHER_POSITIVE_SHARE = 0.55
# Before every line of a text: quotations, lists, broken encodings.
_LINE_MARKS = ("> ", "- ", "* ", "| ", "?? ", "# ", "; ", ">> ", "\t")


@dataclass(frozen=True)
class Text:
    """`spans`: (start, end, kind), in order, not overlapping."""

    text: str
    spans: tuple[tuple[int, int, str], ...] = ()


class Generator:
    """`text()` gives one after another, from `seed`. `other_share`: of texts that are not English."""

    def __init__(self, lists: Lists, seed: int, positive_share: float = 0.62, other_share: float = 0.0) -> None:
        self._lists, self._rng, self._positive = lists, random.Random(seed), positive_share
        self._other = other_share
        self._values = Values(lists, self._rng)
        self._fill = self._english = English(lists, self._values, self._rng, self._text_of).slots()
        self._local = {x.code: self._slots_of(x) for x in lists.languages}

    def text(self) -> Text:
        """A new text."""
        rng = self._rng
        if rng.random() < self._other:
            return self._text_in(rng.choice(self._lists.languages))
        self._fill = self._english
        self._values.country = rng.choice(list(self._lists.first)) if rng.random() < 0.6 else "en"
        return self._made(self._lists.templates, self._positive)

    def _text_in(self, language: Language) -> Text:
        rng = self._rng
        self._fill = self._local[language.code]
        self._values.country = language.names if rng.random() < 0.75 else rng.choice(list(self._lists.first))
        return self._made(language.parts, OTHER_POSITIVE_SHARE)

    def _made(self, templates: Mapping[str, list[str]], positive: float) -> Text:
        rng = self._rng
        made = self._filled(rng.choice(templates["positive" if rng.random() < positive else "negative"]))
        if rng.random() < 0.12:
            made = _joined(made, self._filled(rng.choice(templates["sentence"])), rng.random() < 0.5)
        return self._cased(self._marked(made))

    def _marked(self, made: Text) -> Text:
        """Now and then a mark at the head of every line."""
        if "\n" not in made.text or self._rng.random() > 0.08:
            return made
        mark = self._rng.choice(_LINE_MARKS)
        breaks = [-1, *(i for i, c in enumerate(made.text) if c == "\n")]
        moved = lambda at: at + len(mark) * sum(b < at for b in breaks)  # noqa: E731
        spans = tuple((moved(a), moved(b - 1) + 1, k) for a, b, k in made.spans)
        return Text(mark + made.text.replace("\n", "\n" + mark), spans)

    def _filled(self, template: str) -> Text:
        out: list[str] = []
        spans: list[tuple[int, int, str]] = []
        at = length = 0
        for match in SLOT.finditer(template):
            kind, make = self._fill[match.group(1)]
            value = make()
            literal = template[at : match.start()]
            out += [literal, value]
            length += len(literal)
            if kind is not None:
                spans.append((length, length + len(value), kind))
            length += len(value)
            at = match.end()
        out.append(template[at:])
        return Text("".join(out), tuple(spans))

    def _text_of(self, template: str) -> str:
        return self._filled(template).text

    def _cased(self, made: Text) -> Text:
        chance = self._rng.random()
        text = made.text
        if chance < LOWER_SHARE:
            text = text.lower()
        elif chance < LOWER_SHARE + UPPER_SHARE:
            text = text.upper()
        return Text(text, made.spans) if len(text) == len(made.text) else made

    def _slots_of(self, language: Language) -> dict[str, Slot]:
        return Speaker(language, self._rng, self._text_of).slots(self._english)


def _joined(first: Text, second: Text, turned: bool) -> Text:
    if turned:
        return _joined(second, first, False)
    shift = len(first.text) + 1
    moved = tuple((a + shift, b + shift, k) for a, b, k in second.spans)
    return Text(f"{first.text} {second.text}", first.spans + moved)
