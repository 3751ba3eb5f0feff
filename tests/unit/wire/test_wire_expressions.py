"""Which of a tenant's regular expressions may be used, and what they find.

The hostile ones are run on texts where a matcher that backtracks would not end within the age of the universe.
"""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.wire.expressions import MEMORY_EACH, MEMORY_OF_ALL, Encoded, Expression, memory_of_one


def found(regex: str, text: str, ignore_case: bool = False) -> list[str]:
    return [text[a:b] for a, b in Expression(regex, ignore_case).spans(Encoded(text))]


def refusal(regex: str) -> str:
    with pytest.raises(ValueError) as raised:
        Expression(regex)
    return str(raised.value)


GOOD = [
    (r"EMP-\d{6}", "EMP-123456"),
    (r"\b[\w.-]+@[\w.-]+\.\w+\b", "anna@example.com"),
    (r"(?i)case[ -]?no\.?\s*(?P<v>[A-Z]{2}\d+)", "XY77"),
    (r"(?:\d{1,3}\.){3}\d{1,3}", "10.0.0.1"),
    (r"(?:https?://)?example\.com(?:/[\w-]+)*", "https://example.com/a/b"),
    (r"(?:^|[^\d])(?P<v>\d{4})(?:[^\d]|$)", "4711"),
    (r"\p{Lu}\p{Ll}{1,3}stra(?:ß|ss)e", "Bergstraße"),
    (r"\p{Han}{2,4}", "員工"),
]


@pytest.mark.parametrize(("regex", "value"), GOOD)
def test_an_expression_finds_its_values_in_text_of_any_script(regex: str, value: str) -> None:
    assert value in found(regex, f"😀 漢字 Case no. {value}, see {value}\nand Müller {value} é.")


HOSTILE = [
    r"(a+)+b",
    r"(?:a*b?)*c",
    r"(\w+\s*)+!",
    r"(?:aa|a)+b",
    r"(?:.*)*x",
    r"(\d+|\w+)+!",
    r"(?:a+a+)+y",
    r"((ab)*|(a|b)*)*c",
    r"(?:(?:a?b?)*)x",
    r"(?:\w+ ?){2,4}x",
    r"(?i)(?:ab|Ab|A)+c",
    r"(?:a|(?:a|a))+b",
    r"\w*\w*\w*x",
    r"[\w.]+[\w-]*\w*@",
    r"a{0,500}a{0,500}a{0,500}x",
    r"(?:a?){500}a{500}x",
]


@pytest.mark.parametrize("regex", HOSTILE)
def test_what_makes_a_backtracking_matcher_take_for_ever_is_read_once(
    regex: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the least memory, in which RE2 has no room for the states of the last two, and would say so on stderr."""
    assert not Expression(regex, memory=memory_of_one(1_000)).spans(Encoded("a" * 3_000))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("regex", "words"),
    [
        ("(", "missing )"),
        ("[z-a]", "invalid character class range: z-a (at character 2)"),
        (r"ab(?<!\d)\d", r"(?<! (at character 3); instead of looking around"),
        (r"(?=x)x", "(?= (at character 1); instead of looking around"),
        (r"(a)-\1", r"\1 (at character 5)"),
        ("(?P<v>a)(?P=v)", "invalid perl operator: (?P"),
        (r"a{1001}", "invalid repetition size: {1001} (at character 2)"),
        (r"a\Z", r"\Z (at character 2); write \z"),
        (r"\u2028", r"\u (at character 1); write \x{"),
        (r"\p{Wombat}", r"\p{Wombat}"),
        ("(?x) a", "(?x"),
        ("a++", "bad repetition operator: ++ (at character 2)"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_no_expression_of_re2s_is_refused_with_its_words_and_the_place(regex: str, words: str) -> None:
    said = refusal(regex)
    assert words in said and "\n" not in said


@pytest.mark.parametrize("regex", [r"\d*", "a|", "^", "(?:)"])
def test_what_matches_the_empty_text_is_refused(regex: str) -> None:
    assert "matches the empty text" in refusal(regex)


@pytest.mark.parametrize("regex", [r"\pL{1,1000}", r".{1,1000}.{1,1000}", r"(?:\w+\pL{9})+", "(?:a?){1000}" * 40])
def test_an_expression_that_would_be_large_is_refused(regex: str) -> None:
    assert "too large" in refusal(regex)


@pytest.mark.parametrize(
    ("regex", "place"),
    [
        (r"x\d{,5}", "{,5} (at character 4)"),
        (r"x\d{99999999999999999999}", "(at character 4)"),
        (r"a\Cb", "(at character 2)"),
        (r"\bÄrzte", "(at character 1)"),
        (r"\b(?P<v>[A-ZÄÖÜ]\w+)", "(at character 1)"),
        (r"\b\p{Lu}+", "(at character 1)"),
        (r"x \pL+\b", "(at character 3)"),
        (r"(?:Rose|José)\b", "é"),
        (r"[a-zäöü]{2,9}\b", "(at character 1)"),
    ],
)
def test_what_re2_takes_and_hardly_anybody_means_is_refused(regex: str, place: str) -> None:
    assert place in refusal(regex)


@pytest.mark.parametrize(
    ("regex", "text", "values"),
    [
        (r"x\{,5}", "x{,5}", ["x{,5}"]),
        (r"\\Cmd", r"\Cmd", [r"\Cmd"]),
        (r"\bMüller\b", "(Müller)", ["Müller"]),
        (r"\bCafé, \w+\b", "Café, nein", ["Café, nein"]),
    ],
)
def test_what_only_looks_so_is_not_refused(regex: str, text: str, values: list[str]) -> None:
    assert found(regex, text) == values


def test_two_groups_of_one_name_are_refused() -> None:
    assert "two groups are called v" in refusal(r"a(?P<v>\d)|b(?P<v>\d)")


def test_capitals_do_not_matter_where_they_are_not_to() -> None:
    assert found("müller", "MÜLLER Müller", True) == ["MÜLLER", "Müller"]
    assert found("müller", "MÜLLER Müller") == []
    assert found("(?i)straße", "STRAßE, STRAẞE") == ["STRAßE", "STRAẞE"]


def test_what_stands_between_two_values_is_beside_both() -> None:
    assert found(r"(?:^|[^\pL])(?P<v>Ärzte-\d)(?:[^\pL\d]|$)", "Ärzte-1 Ärzte-2 Ärzte-3x") == ["Ärzte-1", "Ärzte-2"]


def test_a_value_that_took_no_part_or_is_empty_is_none() -> None:
    assert found(r"a(?P<v>\d*)|b", "a b a7") == ["7"]
    assert found(r"\b", "one two") == []


def test_classes_and_edges_of_words_are_ascii() -> None:
    assert found(r"\w+", "naïve") == ["na", "ve"]
    assert found(r"[\pL\pN_]+", "naïve") == ["naïve"]
    assert found(r"\d+|\p{Nd}+", "٣٤ 56") == ["٣٤", "56"]
    assert found(r"\bST-\d\b", "員工ST-1的") == ["ST-1"]


def test_half_of_a_surrogate_pair_is_a_character() -> None:
    assert found(r"ID \d+|.x", "\ud83dID 5\ude00x \ud83d\ude00😀 ID 6\udfff") == ["ID 5", "\ude00x", "ID 6"]


PIECES = st.sampled_from(
    ["a", "b", "1", "é", "漢", "😀", ".", ".+", "[aé]", "[^a]", "[^é-漢]", "[ab]+?", "[01]", r"\w", r"\ba", r"1\b"]
)
TREES = st.recursive(
    PIECES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["?", "{1,2}", "{1,2}?"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=6,
)
TEXTS = st.text(st.sampled_from("ab1 é漢😀\n\ud83d\ude00"), max_size=14)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(TREES, TEXTS)
def test_it_finds_what_pythons_finds(regex: str, text: str) -> None:
    try:
        spans = Expression(regex).spans(Encoded(text))
    except ValueError:
        return
    assert spans == [m.span() for m in re.finditer(regex, text, re.ASCII) if m.group()]


def test_memory_is_bounded_whatever_the_number_of_expressions() -> None:
    assert memory_of_one(1) == memory_of_one(32) == MEMORY_EACH
    assert 1_000 * memory_of_one(1_000) <= MEMORY_OF_ALL
    assert Expression(r"[\pL\pN_.-]{1,3}@[\pL\pN_.-]+", memory=memory_of_one(1_000)).spans(Encoded("ä@ö")) == [(0, 3)]


def test_it_travels_to_other_processes() -> None:
    ours = Expression("tck-(?P<v>[0-9]+)", True)
    theirs = pickle.loads(pickle.dumps(ours))
    assert theirs == ours and theirs.spans(Encoded("é TCK-7")) == [(6, 7)]
