"""Texts in other languages than English: words, templates and forms of names, one file a language in `words/languages`.

It is apart from `generate` because it knows grammar, as little as a tagger needs: an article or a possessive before a
noun of its gender, endings of adjectives, compounds, elision before a vowel. Cases and agreement are left to chance:
what must be learned is which words stand where, not which are right. A share of the nouns is put together from two
others, so that a model learns what words of a language look like and not a list of them.

Deterministic by the generator's `random.Random`. To add a language, add a file; its sections are those of `de.txt`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "words" / "languages"
TEMPLATES = frozenset({"positive", "negative", "sentence", "question", "org", "street", "addr"})
OWN_SHARE, COMPOUND_SHARE, INVENTED_SHARE = 0.75, 0.2, 0.08
# `side`, `prov`, `uf`: what a country writes beside a door, a town or a postcode.
AS_THEY_ARE = ("inf", "form", "do", "weekday", "month", "lang", "product", "title", "brand", "side", "prov", "uf")
GENDERS = ("m", "f", "n")
# A compound that ends so is the name of a street or a place.
PLACE_TAILS = frozenset({"straße", "weg", "platz", "stadt", "dorf", "land", "straat", "plaats", "park", "plein"})
# What fills a slot: the kind it is labelled with, if any, and what makes the text.
Slot = tuple[str | None, Callable[[], str]]


@dataclass(frozen=True)
class Language:
    """`names`: the list of `people.txt` it draws on, and adds to. `parts`: words or templates by section."""

    code: str
    names: str
    parts: Mapping[str, list[str]]

    def capital(self, text: str) -> str:
        """With a capital letter at its head; Turkish has two kinds of i."""
        head = "İ" if self.code == "tr" and text[:1] == "i" else text[:1].upper()
        return head + text[1:]


def sections(path: Path) -> dict[str, list[str]]:
    """The lines below each `[head]` of a file, without comments and empty ones."""
    found: dict[str, list[str]] = {}
    head = ""
    for line in path.read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\[([a-z_ ]+)\]", line):
            head = match.group(1)
            found[head] = []
        elif line and head:
            found[head].append(line)
    return found


def languages() -> list[Language]:
    """Every language of the folder, by its code."""
    return [_language(path) for path in sorted(FOLDER.glob("*.txt"))]


def _language(path: Path) -> Language:
    found = sections(path)
    parts: dict[str, list[str]] = {}
    for head, lines in found.items():
        templates = head in TEMPLATES
        parts[head] = [x.replace(r"\n", "\n") for x in lines] if templates else [w for x in lines for w in x.split()]
    spaced = {"brand", "country", "region", "first", "last", "city", "weekday", "inf", "form"}
    for head in spaced & parts.keys():
        parts[head] = [w.replace("_", " ") for w in parts[head]]
    # Commands stand with a capital among the other forms of verbs.
    parts["do"] = [w for w in parts["form"] if w[0].isupper()]
    parts["form"] = [w for w in parts["form"] if not w[0].isupper()]
    return Language(path.stem, found["country of names"][0], parts)


class Speaker:
    """Words of a language as they stand in its texts. `text_of` fills a template and gives its text alone."""

    def __init__(self, language: Language, rng: random.Random, text_of: Callable[[str], str]) -> None:
        self._language, self._rng, self._text_of = language, rng, text_of
        self._genders = [g for g in GENDERS if language.parts.get(g)]
        self._plurals = [p for p in ("pl", "pl m", "pl f") if p in language.parts]
        self._function = language.parts["function"]
        self._compounds = "compound" in language.parts

    def slots(self, base: Mapping[str, Slot]) -> dict[str, Slot]:
        """Those of a generator, with the language's in place of the English ones."""
        pick = self._pick
        plain: dict[str, Callable[[], str]] = {
            "the": self.phrase,
            "noun": self.noun,
            "noun2": lambda: self.noun().lower(),
            "nm": lambda: self._noun_of("m"),
            "nf": lambda: self._noun_of(self._genders[min(1, len(self._genders) - 1)]),
            "pl": self._plural,
            "plm": lambda: pick(self._plurals[0]),
            "plf": lambda: pick(self._plurals[-1]),
            "adj": self._adjective,
            "salad": self._salad,
            "date": self._date,
            "labels": lambda: ", ".join(self._language.capital(self.noun()) for _ in range(self._rng.randrange(2, 7))),
            "sentence": lambda: self._text_of(pick("sentence")),
            "question": lambda: self._text_of(pick("question")),
            **{p: (lambda p=p: pick(p)) for p in AS_THEY_ARE},  # type: ignore[misc]
            **{f"zip{k}": (lambda form=form: self._shaped(form)) for k, form in _POSTCODES.items()},  # type: ignore[misc]
            "n2": lambda: str(self._rng.randrange(1, 60)),
            "number": lambda: (
                f"{self._rng.randrange(1, 220)}{self._rng.choice(('', '', '', '', 'a', 'b', ' B', '-3'))}"
            ),
        }
        capitals = ("the", "noun", "pl", "adj", "inf", "form", "weekday", "salad")
        plain["Do"] = plain.pop("do")
        plain |= {p.capitalize(): (lambda p=p: self._language.capital(plain[p]())) for p in capitals}  # type: ignore[misc]
        plain["Title"] = self._title
        plain["TITLE"] = lambda: self._title().upper()
        own: dict[str, Slot] = {name: (None, make) for name, make in plain.items()}
        own |= {p: ("place", lambda p=p: pick(p)) for p in ("country", "region")}  # type: ignore[misc]
        for part, kind in (("org", "organisation"), ("street", "address"), ("addr", "address")):
            own[part] = (kind, lambda part=part: self._own(part, base[part][1]))  # type: ignore[misc]
        own["addr1"] = ("address", lambda: own["addr"][1]().replace("\n", ", "))
        return {**base, **own}

    def _own(self, part: str, other: Callable[[], str]) -> str:
        return self._text_of(self._pick(part)) if self._rng.random() < OWN_SHARE else other()

    def _pick(self, part: str) -> str:
        return self._rng.choice(self._language.parts[part])

    def noun(self) -> str:
        """Of any gender."""
        return self._noun_of(self._rng.choice(self._genders))

    def _noun_of(self, gender: str) -> str:
        listed, chance = self._language.parts[gender], self._rng.random()
        word = self._rng.choice(listed)
        if chance < INVENTED_SHARE:
            other = self._rng.choice(listed)
            return word[: max(2, len(word) // 2)] + other[len(other) // 2 :].lower()
        if chance < INVENTED_SHARE + COMPOUND_SHARE and self._compounds:
            link = self._pick("compound").replace("_", "")
            tail = self._rng.choice(listed).lower()
            return word if tail in PLACE_TAILS else word + link + tail
        return word

    def _adjective(self) -> str:
        return self._pick("adj") + self._pick("adj_end").replace("_", "")

    def _plural(self) -> str:
        return self._pick(self._rng.choice(self._plurals))

    def phrase(self) -> str:
        """A noun with what may stand before it."""
        if self._rng.random() < 0.25:
            plural = self._rng.choice(self._plurals)
            return _joined(self._pick(f"the {plural}"), self._pick(plural))
        gender = self._rng.choice(self._genders)
        word = self._noun_of(gender)
        if self._rng.random() < 0.12:
            word = f"{self._adjective()} {word}"
        return _joined(self._pick(f"the {gender}"), word)

    def _salad(self) -> str:
        return " ".join(self._any_word() for _ in range(self._rng.randrange(2, 9)))

    def _any_word(self) -> str:
        chance = self._rng.random()
        if chance < 0.4:
            return self._rng.choice(self._function)
        if chance < 0.7:
            return self.noun()
        if chance < 0.8:
            return self._plural()
        return self._adjective() if chance < 0.9 else self._pick("form")

    def _title(self) -> str:
        words = self._salad().split()[:5]
        return " ".join(
            w if w in self._function and self._rng.random() < 0.7 else self._language.capital(w) for w in words
        )

    def _date(self) -> str:
        rng = self._rng
        day, year, month = rng.randrange(1, 29), rng.randrange(2012, 2030), rng.randrange(1, 13)
        return rng.choice(
            (
                f"{day:02d}.{month:02d}.{year}",
                f"{day:02d}/{month:02d}/{year}",
                f"{day} {self._pick('month')} {year}",
                f"{day}. {self._pick('month')}",
                f"{day} {self._pick('month')}",
            )
        )

    def _shaped(self, form: str) -> str:
        letters = {"d": "0123456789", "A": "ABCDEFGHJKLMNPRSTUVWXYZ"}
        return "".join(self._rng.choice(letters[c]) if c in letters else c for c in form)


_POSTCODES = {"5": "ddddd", "4": "dddd", "pt": "dddd-ddd", "br": "ddddd-ddd", "nl": "dddd AA", "pl": "dd-ddd"}


def _joined(before: str, word: str) -> str:
    """`la|l'` is `l'` before a vowel; nothing stands between an apostrophe and its word."""
    plain, _, vowel = before.partition("|")
    chosen = vowel if vowel and word[0].lower() in "aeiouyàâéèêëîïôûùhœæ" else plain
    chosen = chosen.replace("_", " ")
    return chosen + word if chosen.endswith("'") else f"{chosen} {word}"
