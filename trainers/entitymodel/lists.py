"""The lists of words that texts are made from: `words/`, and the package's list of common words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from entitymodel.languages import Language, languages, sections
from slmfleet.curation.personal import common_words

WORDS = Path(__file__).parent / "words"


@dataclass
class Lists:
    """The lists of `words/`. `first`, `last` and `city` are by country."""

    first: dict[str, list[str]] = field(default_factory=dict)
    last: dict[str, list[str]] = field(default_factory=dict)
    city: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    templates: dict[str, list[str]] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)
    languages: list[Language] = field(default_factory=list)

    @classmethod
    def read(cls) -> Lists:
        """Read every list."""
        words = cls(common=sorted(common_words()), languages=languages())
        for head, lines in sections(WORDS / "people.txt").items():
            country, sort = head.split()
            listed = [w.replace("_", " ") for line in lines for w in line.split()]
            getattr(words, sort)[country] = listed
        for language in words.languages:
            for sort in ("first", "last", "city"):
                getattr(words, sort)[language.names] += language.parts[sort]
        words.places = sections(WORDS / "places.txt")
        templates = sections(WORDS / "templates.txt").items()
        words.templates = {k: [t.replace(r"\n", "\n") for t in v] for k, v in templates}
        for sort in ("noun", "verb", "adj", "job", "org"):
            words.templates[sort] = [w.replace("_", " ") for line in words.templates[sort] for w in line.split()]
        return words
