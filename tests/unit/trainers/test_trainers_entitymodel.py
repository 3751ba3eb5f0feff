"""The texts that the entity model learns from: repeatable, and labelled where the data stands."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from entitymodel.generate import Generator, Text, Words
from slmfleet.curation.entities import KINDS, tokens_of


def texts(seed: int, count: int) -> list[Text]:
    generator = Generator(Words.read(), seed)
    return [generator.text() for _ in range(count)]


def test_the_same_seed_gives_the_same_texts() -> None:
    assert texts(3, 50) == texts(3, 50)
    assert texts(3, 50) != texts(4, 50)


def test_spans_are_in_order_and_cover_whole_tokens() -> None:
    for made in texts(1, 1_000):
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
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 40
    assert 0.25 < sum(not t.spans for t in made) / len(made) < 0.55
    assert sum(t.text == t.text.lower() for t in made) > 100


def test_a_slot_that_is_no_data_is_not_labelled() -> None:
    generator = Generator(Words.read(), 5)
    made = generator._filled("On {date} {person} paid {amount} in {city}.")
    assert [k for _, _, k in made.spans] == ["name", "place"]
