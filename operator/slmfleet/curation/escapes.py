r"""A text as a reader of its JSON sees it: `M\u00fcller` is Müller, and is found and replaced as such.

Most programs write JSON in ASCII, so most names outside of English stand in a log as escapes. Only letters beyond ASCII
are read; quotes, backslashes and control characters stay escaped, so that what is JSON stays JSON. Any number of
backslashes: JSON in a string of JSON has two.

Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field

_HIGH, _LOW = r"[dD][89abAB][0-9a-fA-F]{2}", r"[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rf"(\\+u)(?:({_HIGH})\\+u({_LOW})|([0-9a-fA-F]{{4}}))")


@dataclass(frozen=True)
class Plain:
    """`text`: without escapes. `_places`: where in it one stood; `_shifts[n]`: to the written text, after n of them."""

    text: str
    _places: list[int] = field(default_factory=list)
    _shifts: list[int] = field(default_factory=lambda: [0])

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Where in the text as it is written a stretch of `text` stands."""
        return self._at(start), self._at(end)

    def _at(self, place: int) -> int:
        return place + self._shifts[bisect_left(self._places, place)]


def plain_of(text: str) -> Plain:
    """The text without escapes. Half of a surrogate pair stays as it is."""
    if "\\u" not in text:
        return Plain(text)
    out, places, shifts, at, size = [], [], [0], 0, 0
    for match in _ESCAPE.finditer(text):
        letter = _letter(match)
        if letter is None:
            continue
        size += match.start() - at
        out += [text[at : match.start()], letter]
        places.append(size)
        size, at = size + 1, match.end()
        shifts.append(at - size)
    out.append(text[at:])
    return Plain("".join(out), places, shifts)


def _letter(match: re.Match[str]) -> str | None:
    _, high, low, whole = match.groups()
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    code = int(whole, 16)
    return None if code < 0x80 or 0xD800 <= code < 0xE000 else chr(code)


def like(written: str, made: str) -> str:
    r"""`made`, escaped where what it stands for was.

    >>> like("M\\u00fcller", "Núñez")
    'N\\u00fa\\u00f1ez'
    """
    first = _ESCAPE.search(written)
    if first is None or made.isascii():
        return made
    return "".join(c if c.isascii() else "".join(first[1] + unit for unit in _units(c)) for c in made)


def _units(letter: str) -> list[str]:
    data = letter.encode("utf-16-be", "surrogatepass")
    return [data[i : i + 2].hex() for i in range(0, len(data), 2)]
