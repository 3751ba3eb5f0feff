"""Where in texts matches of many expressions may begin, read once for all of them, in C.

`automaton` says what is read, `recognise/native/scan.c` reads. Measured: `benchmarks/redaction`. Where the library was
not built there is no such thing, and whoever asks searches with the expressions themselves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import accumulate
from re import Pattern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.automaton import Automaton, automaton
from slmfleet.recognise.native import library

# So many states are kept, of so many members in all: some 30 MB when all are there.
STATES, MEMBERS = 1 << 14, 1 << 22
# What a text may have of beginnings: so many a character and some. One with more is searched in the other way.
SHARE, FEW = 1, 256
CHARACTERS = 1 << 20  # read at once

Begins = tuple[list[int], list[int]]


class _Automaton(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("places", "expressions", "classes", "astral", "words")),
        *((name, ctypes.c_void_p) for name in ("class_of", "holds", "follow_from", "follow", "begun")),
    )


class _States(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("most", "count", "room", "used", "slots", "made", "forgotten")),
        *((name, ctypes.c_void_p) for name in ("next", "from", "ended", "members", "table", "set")),
    )


class _Found(ctypes.Structure):
    _fields_ = (
        ("room", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("expressions", "begins", "spare", "places")),
    )


class Beginnings:
    """Of one list of expressions; for one thread at a time."""

    def __init__(self, loaded: ctypes.PyDLL, expressions: Sequence[Pattern[str]], states: int = STATES) -> None:
        made = automaton(expressions)
        edges = made.alphabet.edge + 1
        self._kept = {**_arrays(made), **_memory(made, states)}
        self._automaton = _Automaton(
            places=len(made.places), expressions=made.expressions, classes=edges, astral=made.alphabet.astral,
            words=_words(made), **self._at(*(name for name, _ in _Automaton._fields_[5:])),
        )  # fmt: skip
        self._states = _States(
            most=states, room=len(self._kept["members"]), slots=len(self._kept["table"]),
            **self._at(*(name for name, _ in _States._fields_[7:])),
        )  # fmt: skip
        self._places = np.empty(made.expressions + 1, dtype=np.int64)
        self._scan = loaded.slm_scan
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        self._scan.argtypes = (pointer, pointer, pointer, ctypes.c_char_p, *[number] * 2, pointer, *[number] * 2, pointer, pointer)
        self._scan.restype = number
        loaded.slm_scan_begin.argtypes, loaded.slm_scan_begin.restype = (pointer, pointer), None
        loaded.slm_scan_begin(ctypes.addressof(self._automaton), ctypes.addressof(self._states))

    @property
    def made(self) -> int:
        """States made so far: what reading has cost beside a look at each character."""
        return int(self._states.made)

    def of(self, texts: Sequence[str]) -> list[Begins | None]:
        """For each text the expressions that may match in it, in their order, each with where; None for a text that has
        too many of them."""
        lengths = list(accumulate(map(len, texts)))
        joined = "".join(texts)
        data = joined.encode() if joined.isascii() else joined.encode("utf-32-le", "surrogatepass")
        room = len(joined) * SHARE + FEW * len(texts)
        ends = np.array(lengths, dtype=np.int64)
        until, left = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.uint8)
        expressions, begins, spare = (np.empty(room, dtype=np.int32) for _ in range(3))
        found = _Found(room, expressions.ctypes.data, begins.ctypes.data, spare.ctypes.data, self._places.ctypes.data)
        total = self._scan(
            ctypes.addressof(self._automaton), ctypes.addressof(self._states), ctypes.addressof(found), data,
            1 if joined.isascii() else 4, len(texts), ends.ctypes.data, SHARE, FEW, until.ctypes.data, left.ctypes.data,
        )  # fmt: skip
        which, where = expressions[:total].tolist(), begins[:total].tolist()
        stops = until.tolist()
        return [
            None if over else (which[a:b], where[a:b])
            for a, b, over in zip([0, *stops], stops, left.tolist(), strict=False)
        ]

    def _at(self, *names: str) -> dict[str, int]:
        return {name: self._kept[name].ctypes.data for name in names}


def _words(made: Automaton) -> int:
    return (len(made.places) + made.expressions + 63) // 64


def _arrays(made: Automaton) -> dict[str, NDArray[Any]]:
    counts = np.fromiter(map(len, made.follow), dtype=np.int32, count=len(made.follow))
    follow = np.array([n for after in made.follow for n in after], dtype=np.int32)
    holds = b"".join(classes.to_bytes(32, "little") for classes in made.alphabet.holds)
    begun = [0] * (made.alphabet.edge + 1)
    for place in made.initial:
        after = sum(1 << n for n in made.follow[place])
        for number in range(len(begun)):
            if made.alphabet.holds[place] >> number & 1:
                begun[number] |= after
    size = 8 * _words(made)
    return {
        "class_of": np.frombuffer(made.alphabet.classes, dtype=np.uint8),
        "holds": np.frombuffer(holds, dtype=np.uint64),
        "follow_from": np.concatenate([np.zeros(1, dtype=np.int32), np.cumsum(counts, dtype=np.int32)]),
        "follow": follow,
        "begun": np.frombuffer(b"".join(mask.to_bytes(size, "little") for mask in begun), dtype=np.uint64),
    }


def _memory(made: Automaton, states: int) -> dict[str, NDArray[Any]]:
    """Pages that are never written cost nothing."""
    return {
        "next": np.empty(states * (made.alphabet.edge + 1), dtype=np.int32),
        "from": np.empty(states + 1, dtype=np.int64),
        "ended": np.empty(states, dtype=np.int64),
        "members": np.empty(max(MEMBERS, len(made.places) + made.expressions), dtype=np.int32),
        "table": np.zeros(1 << (2 * states).bit_length(), dtype=np.int32),
        "set": np.empty(_words(made), dtype=np.uint64),
    }
