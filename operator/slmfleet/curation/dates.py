"""Dates of one conversation turned to others: two days never become one, and a day stays one however it is written.

A turn is one permutation of the calendar. Numbers up to 12, days 13 to 28 and years are turned one by one, each within
its own range, so that it need not be known whether 12/03 is in March or in December. Days 29 to 31 are turned with
their month, among the days that there are: no February has 30. Years move by multiples of four, so that a leap year
stays one.

Pure. Not covered: months in words of languages that are not below, which stay.
"""

from __future__ import annotations

import calendar
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

_LANGUAGES = (
    "january february march april may june july august september october november december",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "januari februari maart april mei juni juli augustus september oktober november december",
)
_MONTHS = tuple(tuple(names.split()) for names in _LANGUAGES)
_WORD = re.compile(r"[^\W\d_]+|\d+")
_CLOCK = re.compile(r"[ T]\d\d:\d\d")
_ORDINALS = ("st", "nd", "rd", "th")
_LEAP, _COMMON = 2000, 2001
Day = tuple[int, int]  # month and day


@dataclass(frozen=True)
class Part:
    """A number or word of a date. `what`: year, month, day or low (a number that may be either); None: it stays.
    `names`: the months of its language."""

    text: str
    what: str | None
    value: int = 0
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Turn:
    """How far each range is turned. `late`: of days 29 to 31."""

    month: int
    day: int
    late: int
    years: int


def turn_of(rng: random.Random) -> Turn:
    """One that leaves no date as it was."""
    return Turn(rng.randrange(1, 12), rng.randrange(1, 16), rng.randrange(1, 29), rng.choice((-12, -8, -4, 4, 8)))


def meaning(value: str) -> tuple[tuple[str, int], ...]:
    """What two ways of writing the parts of a date have in common, in their order."""
    return tuple((part.what, part.value) for part in _parts(_split(value)[0]) if part.what)


def turned(value: str, turn: Turn) -> str:
    """Another date of the same shape; hours and minutes stay."""
    date, clock = _split(value)
    parts = [_moved(part, turn) for part in _with_late_day(_parts(date), turn)]
    made = [part.text for part in parts]
    for i, (day, mark) in enumerate(pairwise(made), 1):  # 31st, 22nd
        if mark.lower() in _ORDINALS and day.isdecimal():
            made[i] = _ordinal(int(day), mark)
    rest = iter(made)
    return _WORD.sub(lambda match: next(rest), date) + clock


def _split(value: str) -> tuple[str, str]:
    clock = _CLOCK.search(value)
    return (value[: clock.start()], value[clock.start() :]) if clock else (value, "")


def _parts(date: str) -> list[Part]:
    """Of three numbers, or of two beside a month in words, a short last one is a year: 31/12/29."""
    parts = [_part(match.group()) for match in _WORD.finditer(date)]
    short = [i for i, part in enumerate(parts) if part.what in ("day", "low")]
    named = any(part.what == "month" for part in parts)
    if len(short) == 3 - named and all(part.what != "year" for part in parts):
        parts[short[-1]] = replace(parts[short[-1]], what="year")
    return parts


def _part(text: str) -> Part:
    if not text.isdecimal():
        return _month(text)
    number = int(text)
    if len(text) > 2 or number > 31:
        return Part(text, "year", number)
    return Part(text, "low" if number <= 12 else "day", number)


def _month(text: str) -> Part:
    """A word of a date: a month, whole or by its first letters."""
    word = text.lower()
    for alike in (str.__eq__, str.startswith):
        for names in _MONTHS if len(word) > 2 else ():
            for number, name in enumerate(names, 1):
                if alike(name, word):
                    return Part(text, "month", number, names)
    return Part(text, None)


def _with_late_day(parts: Sequence[Part], turn: Turn) -> list[Part]:
    """Day and month of a date on a 29th, 30th or 31st, as if turned already: what is then `None` stays."""
    late = [i for i, part in enumerate(parts) if part.what == "day" and part.value > 28]
    months = [i for i, part in enumerate(parts) if part.what in ("month", "low")]
    if len(late) != 1 or len(months) != 1:
        return list(parts)
    day, month = parts[late[0]], parts[months[0]]
    new_month, new_day = _late((month.value, day.value), _leaps(parts, turn), turn.late)
    made = list(parts)
    made[late[0]] = Part(f"{new_day:0{len(day.text)}d}", None)
    made[months[0]] = Part(_written(month, new_month), None)
    return made


def _leaps(parts: Sequence[Part], turn: Turn) -> bool:
    """Whether the date and what it becomes are in leap years; where it names no year, as if."""
    years = [part for part in parts if part.what == "year"]
    if not years:
        return True
    before = years[0].value
    after = _year(years[0], turn)
    return all(calendar.isleap(n if len(years[0].text) > 2 else n + _LEAP) for n in (before, after))


def _late(day: Day, leap: bool, by: int) -> Day:
    days = _late_days(leap)
    at = days.index(day) if day in days else 0  # no such day: any
    return days[(at + by) % len(days)]


@cache
def _late_days(leap: bool) -> tuple[Day, ...]:
    year = _LEAP if leap else _COMMON
    return tuple((month, day) for month in range(1, 13) for day in range(29, calendar.monthrange(year, month)[1] + 1))


def _moved(part: Part, turn: Turn) -> Part:
    match part.what:
        case "month" | "low":
            return replace(part, text=_written(part, _up_to_12(part.value, turn)))
        case "day" if part.value > 28:  # without a month
            return replace(part, text=str((part.value - 29 + 1 + turn.late % 2) % 3 + 29))
        case "day":
            return replace(part, text=str((part.value - 13 + turn.day) % 16 + 13))
        case "year":
            return replace(part, text=f"{_year(part, turn):0{len(part.text)}d}")
    return part


def _up_to_12(number: int, turn: Turn) -> int:
    return (number - 1 + turn.month) % 12 + 1


def _year(part: Part, turn: Turn) -> int:
    wrap: int = 10 ** len(part.text)
    return (part.value + turn.years) % wrap


def _written(part: Part, month: int) -> str:
    """A month, or a number up to 12, as the part was written."""
    if part.text.isdecimal():
        return f"{month:0{len(part.text)}d}"
    name = part.names[month - 1]
    name = name[:3] if len(part.text) == 3 else name
    return name.upper() if part.text.isupper() else name.capitalize() if part.text[0].isupper() else name


def _ordinal(day: int, written: str) -> str:
    made = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return made.upper() if written.isupper() else made
