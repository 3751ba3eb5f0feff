"""Which of a tenant's regular expressions may run. The dangerous ones are run here, too, on texts short enough."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.plan.expressions import problem

GOOD = [
    r"EMP-\d{6}",
    r"\b[\w.-]+@[\w.-]+\.\w+\b",
    r"(?i)case[ -]?no\.?\s*(?P<v>[A-Z]{2}\d+)",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"(?:\d{1,4}[ -]?){2,5}",
    r"(?:[ -]?[A-Za-z0-9]{4}){2,7}",
    r"(?:\w+ )+x",
    r"(?:\w{1,20} ){5}",
    r"foo.*bar.*baz",
    r"(?:ab|ac|ad)+x",
    r"(?:a|b|cd)+!",
    r"(?<!\d)\d{4}(?!\d)",
    r"(?:https?://)?example\.com(?:/[\w-]+)*",
    r"[A-Z]+-[0-9]+-[A-Z]+-[0-9]+",
]


@pytest.mark.parametrize("regex", GOOD)
def test_an_expression_that_is_read_in_one_way_may_run(regex: str) -> None:
    assert problem(regex) is None


EXPONENTIAL = [
    r"(a+)+b",
    r"(a*b?)*c",
    r"(\w+\s*)+!",
    r"(?:aa|a)+b",
    r"(?:.*)*x",
    r"(\d+|\w+)+!",
    r"(?:x+x+)+y",
    r"((ab)*|(a|b)*)*c",
    r"(?:(?:a?b?)*)x",
    r"(?=(a+)+b)x",
    r"(?:a{1,30}){1,30}b",
    r"(?:\w+ ?){2,4}x",
    r"(?i)(?:ab|Ab)+c",
    r"(?:a|(?:a|a))+b",
]


@pytest.mark.parametrize("regex", EXPONENTIAL)
def test_one_text_divided_in_many_ways_is_refused(regex: str) -> None:
    assert "in many ways" in (problem(regex) or "")


@pytest.mark.parametrize(
    "regex", [r"\w*\w*\w*x", r"[\w.]+[\w-]*\w*@", r"\d{0,500}\d{0,500}\d{0,500}x", r"\s*=?\s*:?\s*x"]
)
def test_open_repeats_of_the_same_characters_in_a_row_are_refused(regex: str) -> None:
    assert "one after another" in (problem(regex) or "")


@pytest.mark.parametrize("regex, words", [
    ("(", "missing )"), ("[z-a]", "bad character range"), (r"a{99999999999999999999}", "too large"),
    (r"\d*", "matches the empty text"), ("a|", "matches the empty text"),
])  # fmt: skip
def test_what_is_no_expression_or_finds_nothing_is_refused(regex: str, words: str) -> None:
    assert words in (problem(regex) or "")


def test_what_takes_long_to_judge_is_refused_and_not_judged() -> None:
    pairs = "|".join(a + b for a in "abcdefghijklm" for b in "abcdefghijklm"[:12])
    assert "too large" in (problem(f"(?:{pairs})+x") or "")
    assert problem("(" * 200 + "a" + ")" * 200) is None
    assert "in many ways" in (problem("(?:" + "(?:a?)?" * 60 + ")+x") or "")


def test_capitals_count_where_they_matter() -> None:
    assert problem(r"(?:ab|Ab)+c") is None
    assert "in many ways" in (problem(r"(?:ab|Ab)+c", True) or "")


PIECES = st.sampled_from(["a", "b", "ab", "[ab]", "a*", "b+", "a?", "a{1,3}", r"\w", "."])
TREES = st.recursive(
    PIECES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2,4}"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
    ),
    max_leaves=6,
)


def ways(pattern: str, length: int) -> int:
    """Steps of a plain backtracking matcher on a text that never matches, by what it tries: counted, not timed."""
    from re import _parser as parser  # type: ignore[attr-defined]

    steps = 0

    def walk(items: list, at: int, then) -> None:  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        if steps > LIMIT:
            raise OverflowError
        if not items:
            return then(at)
        (op, value), rest = items[0], items[1:]
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = value

            def again(count: int, begun: int):  # type: ignore[no-untyped-def]
                def after(end: int) -> None:
                    if end > begun or count <= least:
                        more(count, end)
                return after

            def more(count: int, here: int) -> None:
                if count < most:
                    walk(list(body), here, again(count + 1, here))
                if count >= least:
                    walk(rest, here, then)
            return more(0, at)
        if name == "SUBPATTERN":
            return walk([*value[3], *rest], at, then)
        if name == "BRANCH":
            for branch in value[1]:
                walk([*branch, *rest], at, then)
            return None
        return walk(rest, at + 1, then) if at < length else None  # every piece matches the text's one letter or is cut

    walk(list(parser.parse(pattern)), 0, lambda at: None)
    return steps


LIMIT = 300_000


@settings(max_examples=150, deadline=None, derandomize=True)
@given(TREES)
def test_what_may_run_takes_few_steps_even_for_a_matcher_that_tries_everything(regex: str) -> None:
    only_a = re.sub(r"\[ab\]|\\w|\.|b", "a", regex)
    if problem(only_a) is None and problem(regex) is None:
        assert ways(only_a, 14) < LIMIT
