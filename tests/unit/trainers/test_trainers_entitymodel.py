"""The texts that the entity model learns from: repeatable, and labelled where the data stands."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from entitymodel.generate import SLOT, Generator, Text
from entitymodel.languages import Language, languages
from entitymodel.lists import Lists
from slmfleet.curation.entities import KINDS, tokens_of
from slmfleet.curation.entities import LANGUAGES as TAUGHT

LANGUAGES = languages()


def texts(seed: int, count: int, other_share: float = 0.0) -> list[Text]:
    generator = Generator(Lists.read(), seed, other_share=other_share)
    return [generator.text() for _ in range(count)]


def in_language(language: Language, seed: int, count: int) -> list[Text]:
    """Texts of one language alone."""
    words = Lists.read()
    words.languages = [language]
    generator = Generator(words, seed, other_share=1.0)
    return [generator.text() for _ in range(count)]


def test_the_same_seed_gives_the_same_texts() -> None:
    assert texts(3, 50) == texts(3, 50)
    assert texts(3, 50) != texts(4, 50)
    assert texts(3, 50, other_share=0.5) == texts(3, 50, other_share=0.5)


def test_spans_are_in_order_and_cover_whole_tokens() -> None:
    for made in texts(1, 500) + texts(1, 1_000, other_share=1.0):
        tokens = tokens_of(made.text)
        assert all(a[1] <= b[0] for a, b in pairwise(made.spans))
        for start, end, kind in made.spans:
            assert kind in KINDS and made.text[start:end].strip()
            inside = [
                i for i, (a, b) in enumerate(zip(tokens.starts, tokens.ends, strict=True)) if a < end and b > start
            ]
            assert inside


def test_every_kind_is_taught_and_many_texts_hold_nothing() -> None:
    made = texts(2, 2_000)
    kinds = Counter(kind for t in made for _, _, kind in t.spans)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 30
    assert 0.25 < sum(not t.spans for t in made) / len(made) < 0.55
    assert sum(t.text == t.text.lower() for t in made) > 100


def test_a_slot_that_is_no_data_is_not_labelled() -> None:
    generator = Generator(Lists.read(), 5)
    made = generator._filled("On {date} {person} paid {amount} in {city}.")
    assert [k for _, _, k in made.spans] == ["name", "place"]


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda x: x.code)
def test_every_template_of_a_language_can_be_filled(language: Language) -> None:
    generator = Generator(Lists.read(), 1)
    slots = generator._slots_of(language)
    for part in ("positive", "negative", "sentence", "question", "org", "street", "addr"):
        for template in language.parts[part]:
            assert not {s for s in SLOT.findall(template) if s not in slots}, template


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda x: x.code)
def test_a_language_teaches_names_and_what_is_none(language: Language) -> None:
    made = in_language(language, 6, 800)
    kinds = Counter(kind for t in made for _, _, kind in t.spans)
    assert min(kinds[k] for k in ("name", "organisation", "place", "address")) >= 20
    assert 0.35 < sum(not t.spans for t in made) / len(made) < 0.65
    outside = Counter(t.text[:1].isupper() for t in made if not t.spans)
    assert outside[True] > 100


def test_ordinary_german_nouns_stand_with_a_capital_and_without_a_label() -> None:
    german = next(x for x in LANGUAGES if x.code == "de")
    nouns = {w for gender in ("m", "f", "n") for w in german.parts[gender]}
    seen = 0
    for made in in_language(german, 8, 600):
        labelled = {i for a, b, _ in made.spans for i in range(a, b)}
        tokens = tokens_of(made.text)
        for start, end in zip(tokens.starts, tokens.ends, strict=True):
            seen += made.text[start:end] in nouns and start not in labelled
    assert seen > 600


def test_the_model_names_the_languages_that_it_was_made_for() -> None:
    assert {"en", *(x.code for x in LANGUAGES)} == set(TAUGHT)


def test_english_alone_is_taught_where_nothing_else_is_asked_for() -> None:
    words = Lists.read()
    generator = Generator(words, 9)
    articles = {"der", "dem", "los", "una", "les", "het", "gli"}
    assert sum(w in articles for _ in range(300) for w in generator.text().text.lower().split()) < 20
