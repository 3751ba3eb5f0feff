"""Dates of birth: every day of a conversation has its own other day, which there is, however it is written."""

from __future__ import annotations

import random
import re
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.curation.dates import Turn, turn_of, turned
from slmfleet.curation.surrogates import Cast

DAYS = [date(1983, 1, 1) + timedelta(days=n) for n in range(2 * 366)]  # with a leap year
FORMS = ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%d %B %Y", "%B %d, %Y", "%d %b %Y"]


def cast(key: str = "0/c") -> Cast:
    return Cast(key, lambda low: False)


def read(text: str, form: str) -> date:
    """May, whole, is as long as a short month."""
    short = re.search(r"\b[A-Z][a-z]{2}\b", text)
    return datetime.strptime(text, form.replace("%B", "%b") if short else form).date()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", ["0/a", "0/b", "7/c"])
def test_each_day_becomes_another_day_that_there_is_and_no_two_the_same(form: str, key: str) -> None:
    one = cast(key)
    made = {day: one.surrogate("date_of_birth", day.strftime(form)) for day in DAYS}
    assert len(set(made.values())) == len(DAYS)
    for day, text in made.items():
        assert read(text, form) != day
        assert re.sub(r"[A-Za-z]+", "a", re.sub(r"\d", "0", text)) == re.sub(
            r"[A-Za-z]+", "a", re.sub(r"\d", "0", day.strftime(form)))  # fmt: skip


@given(st.sampled_from(DAYS), st.sampled_from(FORMS[:4]), st.sampled_from(FORMS), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_a_day_stays_one_day_however_it_is_written(day: date, one: str, other: str, seed: int) -> None:
    written = cast(f"{seed}/c")
    first, second = (written.surrogate("date_of_birth", day.strftime(form)) for form in (one, other))
    assert read(first, one) == read(second, other)


def test_the_last_days_of_months_have_surrogates_of_their_own() -> None:
    """29, 30 and 31 once had those of 13, 14 and 15."""
    one = cast()
    days = [f"1984-01-{day}" for day in range(1, 32)]
    assert len({one.surrogate("date_of_birth", f"{d[:8]}{int(d[8:]):02d}") for d in days}) == 31


WORDS = [
    ("31st of March 1984", r"(29|30|31)(st|th) of [A-Z][a-z]+ 19\d\d"),
    ("1st January 1990", r"([2-9]|1[0-2])(nd|rd|th) [A-Z][a-z]+ 19\d\d"),
    ("31. Dezember 1984", r"(29|30|31)\. (Januar|Februar|März|April|Mai|Ju[nl]i|August|\w+(tem|to|em)ber) 19\d\d"),
    ("29 février 1984", r"(29|30|31) [a-zéû]+ 19\d\d"),
    ("30 JUN 1984", r"(29|30|31) [A-Z]{3} 19\d\d"),
    ("1984-12-31 07:15:00", r"19\d\d-\d\d-(29|30|31) 07:15:00"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "form"), WORDS)
def test_words_ordinals_and_hours_are_kept_in_their_form(value: str, form: str) -> None:
    for key in range(20):
        made = cast(f"{key}/c").surrogate("date_of_birth", value)
        assert re.fullmatch(form, made), made
        number, suffix = re.match(r"(\d+)(st|nd|rd|th)?", made).groups()  # type: ignore[union-attr]
        if suffix:
            assert suffix == {"1": "st", "2": "nd", "3": "rd"}.get(number[-1] if number[:-1] != "1" else "", "th")


@pytest.mark.parametrize(
    "value", ["1984-02-30", "31/04/1984", "31/31/1984", "99.99.9999", "29 February", "31", "1900-02-29"]
)
def test_what_is_no_day_gets_one_surrogate_too(value: str) -> None:
    one = cast()
    assert one.surrogate("date_of_birth", value) == one.surrogate("date_of_birth", value) != value


def test_a_turn_of_another_conversation_is_another_one() -> None:
    assert len({turned("1984-03-12", turn_of(random.Random(seed))) for seed in range(40)}) > 20
    assert turned("1984-03-12", Turn(1, 1, 1, 4)) == "1988-04-01"
    assert turned("1984-02-29", Turn(1, 1, 1, 4)) == "1988-03-29"
    assert turned("1983-12-31", Turn(1, 1, 1, 4)) == "1987-01-29"
