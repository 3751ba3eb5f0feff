"""What the library in C says of where patterns may begin is never too little, and what is found there is the same."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.curation import beginnings, personal
from slmfleet.curation.automaton import LOW, automaton
from slmfleet.curation.beginnings import Beginnings
from slmfleet.curation.personal import find_all, find_by_each
from slmfleet.recognise import native
from slmfleet.recognise.native.build import build

SOUGHT = [pattern.regex for pattern in personal._SOUGHT]
# What may stand beside a value and is told from it only by a class or an assertion.
NEIGHBOURS = (
    *("", " ", "\n", "\r\n", "\t", *".,-/:@_'’=()", '"', "\\", "\\u00e9", "\\n"),
    *("0", "7", "12", "x", "K", "é", "ß", "ſ", "\u212a", "٣", "\u0660", "e\u0301", "漢", "电话", "โทร", "한", "\u3000"),
    *("\x00", "\x1c", "\x85", "\ud800", "\U0001f600", "\U0001d7d9", "9" * 40, "a" * 40, "a1-" * 9, "1 " * 12, "::1"),
)
WORDS = (
    "my card 4111 1111 1111 1111", "SSN: 536-90-4399", "IBAN DE89370400440532013000", "anna.b@corp.example",
    "call me at (555) 123-4567 ext. 12", "tel：", "电话：13812345678", "born on 3 May 1961", "1961-05-03T10:00",
    "ip 10.1.2.3", "fe80::1:2", "00:1B:44:11:3A:B7", "password = Tr0ub4dor&3", "sk-proj-abcdefGHIJ1234567890",
    "postgres://u:p@h/db", "https://a:b@c", "?token=abcDEF123456", "-----BEGIN PRIVATE KEY-----\nMII\n",
    "My name is Anna Bauer", "Dr. Jean-Luc Martin", "passport no. C01X00T47", "10 Downing Street", "zip 90210",
    "Hauptstraße 12", "aged 41", "41 years old", "00 44 20 7946 0958", "bic DEUTDEFF", "contraseña: abc123!",
    '{"phone": "+49 30 901820"}', "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "x@漢字.com", "p.o. box 12",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module", autouse=True)
def with_library(built: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLMFLEET_NATIVE", str(built))
        cleared()
        assert personal._beginnings() is not None
        yield
    cleared()


@pytest.fixture(scope="module")
def reader(with_library: None) -> Beginnings:
    found = personal._beginnings()
    assert found is not None
    return found


def cleared() -> None:
    native.library.cache_clear()
    personal._beginnings.cache_clear()


def pieces(seed: int) -> Iterator[str]:
    """Texts that the expressions match, several of each, alone and with a neighbour on either side."""
    rng = random.Random(seed)
    for expression in SOUGHT:
        tree = re._parser.parse(expression.pattern, expression.flags)  # type: ignore[attr-defined]
        for alone in (True, False) * 5:
            made = written(tree, tree.state.flags, rng)
            yield made if alone else rng.choice(NEIGHBOURS) + made + rng.choice(NEIGHBOURS)


def written(items: Sequence[Any], flags: int, rng: random.Random) -> str:
    """A text made by going through an expression, assertions left to chance."""
    return "".join(_piece(str(op), value, flags, rng) for op, value in items)


def _piece(op: str, value: Any, flags: int, rng: random.Random) -> str:
    match op:
        case "LITERAL":
            return rng.choice(_cases(chr(value))) if flags & re.I and rng.random() < 0.3 else chr(value)
        case "ANY":
            return rng.choice("a9 .")
        case "IN":
            made = "".join(_member(str(o), v, rng) for o, v in [rng.choice(value)])
            return made if str(value[0][0]) != "NEGATE" else rng.choice("aZ5#é")
        case "BRANCH":
            return written(rng.choice(value[1]), flags, rng)
        case "SUBPATTERN":
            return written(value[3], (flags | value[1]) & ~value[2], rng)
        case "MAX_REPEAT" | "MIN_REPEAT":
            most = min(value[1], value[0] + 3) if rng.random() < 0.9 else min(value[1], 300)
            return "".join(written(value[2], flags, rng) for _ in range(rng.randint(value[0], most)))
    return ""


def _member(op: str, value: Any, rng: random.Random) -> str:
    if op == "RANGE":
        return chr(rng.randint(*value))
    if op == "LITERAL":
        return chr(value)
    return rng.choice({"CATEGORY_DIGIT": "0123456789٣", "CATEGORY_SPACE": " \n\t\u3000"}.get(str(value), "aé_9K"))


def _cases(char: str) -> list[str]:
    others = {"k": "\u212a", "s": "ſ", "å": "\u212b", "i": "İı"}
    return [char, char.lower(), char.upper(), *others.get(char.lower(), "")]


def test_wherever_an_expression_matches_it_was_said_to_begin(reader: Beginnings) -> None:
    texts = [*pieces(20), *(a + w + b for w in WORDS for a in NEIGHBOURS[::9] for b in NEIGHBOURS[::11])]
    matched = set()
    for text, begins in zip(texts, reader.of(texts), strict=True):
        assert begins is not None
        said = set(zip(*begins, strict=True))
        for number, expression in enumerate(SOUGHT):
            found = {(number, m.start()) for m in expression.finditer(text)}
            assert found <= said, (expression.pattern, text)
            matched |= {number for _ in found}
    assert len(matched) == len(SOUGHT)  # else this says nothing of some


def test_finds_are_those_of_one_pattern_after_another() -> None:
    rng, made = random.Random(21), [*pieces(21), *WORDS]
    texts = ["".join(rng.choice(made) + rng.choice(NEIGHBOURS) for _ in range(rng.randint(1, 12))) for _ in range(120)]
    found = find_all(texts)
    assert found == [find_by_each(text) for text in texts]
    assert len({span.kind for spans in found for span in spans}) > 15


@pytest.mark.parametrize(
    "value", ["RSSMRA85T10A562\u212a", "R\u0130SMRA85T10A562S", "RSSMRA85T10A562S", "B\u212a123456C"]
)
def test_a_letter_that_is_another_one_in_capitals_makes_no_check_fail(value: str) -> None:
    assert find_all([f"code {value} "]) == [find_by_each(f"code {value} ")]


@settings(max_examples=150)
@given(
    st.lists(st.one_of(st.sampled_from([*NEIGHBOURS, *WORDS]), st.text(max_size=4)), max_size=12), st.text(max_size=30)
)
def test_any_texts_side_by_side_are_told_apart(parts: list[str], other: str) -> None:
    text = "".join(parts)
    assert find_all([text, other, text + other]) == [*map(find_by_each, (text, other, text + other))]


def test_every_character_is_in_the_class_of_its_sets() -> None:
    made = automaton(SOUGHT)
    everything = "".join(map(chr, range(0x10000)))
    classes = np.frombuffer(made.alphabet.classes, dtype=np.uint8)
    seen = set()
    for place, holds in zip(made.places, made.alphabet.holds, strict=True):
        if len(place.sets) > 1 or place.sets in seen:
            continue
        seen.add(place.sets)
        ((expression, flags),) = place.sets
        inside = np.zeros(0x10000, dtype=bool)
        for run in re.compile(f"(?:{expression})+", flags).finditer(everything):
            inside[run.start() : run.end()] = True
        read = np.array([bool(holds >> n & 1) for n in range(256)])[classes]
        assert np.array_equal(read, inside), expression
    assert len(seen) > 50


@pytest.mark.parametrize("char", ["\U0001d7d9", "\U0001f600", "\U00020000", "\U00010400"])
def test_a_character_beyond_the_basic_plane_is_taken_for_whatever_it_may_be(reader: Beginnings, char: str) -> None:
    expressions = [re.compile(r"\d"), re.compile(r"\w"), re.compile(r"\W"), re.compile(r"\S")]
    loaded = native.library()
    assert loaded is not None
    ((which, where),) = begun(Beginnings(loaded, expressions).of([char]))
    assert set(which) >= {n for n, e in enumerate(expressions) if e.match(char)}
    assert set(where) == {0}


def begun(found: list[beginnings.Begins | None]) -> list[beginnings.Begins]:
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.parametrize("states", [2, 3, 40])
def test_states_that_had_to_be_forgotten_are_made_again(reader: Beginnings, states: int) -> None:
    loaded, texts = native.library(), [*WORDS, "\n".join(WORDS)]
    assert loaded is not None
    small = Beginnings(loaded, SOUGHT, states)
    assert small.of(texts) == reader.of(texts)
    assert small.made > states


@pytest.mark.parametrize(
    "unit", ["1 ", "1 2-3.", "+", "a@", "a.b@", "password=", "call 12345 ", "0x", "-----BEGIN ", "漢1"]
)
def test_reading_makes_at_most_one_state_for_each_character(built: Path, unit: str) -> None:
    loaded = native.library()
    assert loaded is not None
    fresh = Beginnings(loaded, SOUGHT)
    for size in (500, 1_000, 4_000):
        before, text = fresh.made, unit * (size // len(unit))
        fresh.of([text])
        assert fresh.made - before <= len(text) + 2


def test_a_text_with_too_many_beginnings_is_searched_by_each_pattern(
    reader: Beginnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "FEW", 1)
    monkeypatch.setattr(beginnings, "SHARE", 0)
    texts = ["", "hello", "anna.bauer@corp.example and 10.1.2.3", "bye", WORDS[0]]
    read = reader.of(texts)
    assert [each is None for each in read] == [False, False, True, False, True]
    assert find_all(texts) == [*map(find_by_each, texts)]


def test_long_texts_are_read_in_blocks(reader: Beginnings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reader.of([*WORDS, ""])
    monkeypatch.setattr(beginnings, "CHARACTERS", 40)
    assert reader.of([*WORDS, ""]) == whole
    assert reader.of([]) == []


@pytest.mark.parametrize("given", ["off", "nowhere.so"])
def test_without_the_library_each_pattern_is_sought(given: str, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find_all(WORDS)
    monkeypatch.setenv("SLMFLEET_NATIVE", given)
    cleared()
    assert personal._beginnings() is None
    assert find_all(WORDS) == expected
    monkeypatch.setenv("SLMFLEET_NATIVE", str(built))
    cleared()


@pytest.mark.parametrize(
    ("expression", "text", "begins"),
    [
        (r"\bab", "ab cab ab", [0, 7]),
        (r"ab\b", "abc ab, ab", [4, 8]),
        (r"(?<![\w.])\d+(?!\d|x)", "12 .3 45x", [0]),
        (r"a{2,4}b", "aab aaab ab", [0, 4, 5]),
        (r"(?:x|yz)?a", "yza xa", [0, 2, 4, 5]),
        (r"(?s)a.b", "a\nb", [0]),
        (r"(?i)k+", "K\u212ak", [0, 1, 2]),
        (r"[^\Wa]a", "aa _a ٣a", [3, 6]),
    ],
)
def test_worked_examples(built: Path, expression: str, text: str, begins: list[int]) -> None:
    loaded = native.library()
    assert loaded is not None
    ((_, where),) = begun(Beginnings(loaded, [re.compile(expression)]).of([text]))
    assert where == begins


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("a*", "may match nothing"),
        (r"\b(?=a)", "may match nothing"),
        (r"(a)\1", "is not covered"),
        (f"[a-{chr(LOW + 9)}]", "a range up to"),
    ],
)
def test_an_expression_that_it_cannot_hold_is_refused(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        automaton([re.compile(expression)])
