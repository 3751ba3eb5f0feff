"""Where in texts matches of many expressions may begin, read once for all of them, in C.

`automaton` says what is read, `recognise/native/scan.c` reads. Measured: `benchmarks/redaction`. Where the library was
not built there is no such thing, and whoever asks searches with the expressions themselves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from itertools import accumulate
from re import Pattern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.automaton import Automaton, automaton

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
            words=_words(made), **self._at("class_of", "holds", "follow_from", "follow", "begun"),
        )  # fmt: skip
        self._states = _States(
            most=states, room=len(self._kept["members"]), slots=len(self._kept["table"]),
            **self._at("next", "from", "ended", "members", "table", "set"),
        )  # fmt: skip
        self._places = np.empty(made.expressions + 1, dtype=np.int64)
        self._at_places = self._places.ctypes.data
        self._at_both = ctypes.addressof(self._automaton), ctypes.addressof(self._states)
        self._scan = _declared(loaded)
        loaded.slm_scan_begin(*self._at_both)

    @property
    def made(self) -> int:
        """States made so far: what reading has cost beside a look at each character."""
        return int(self._states.made)

    def of(self, texts: Sequence[str]) -> list[Begins | None]:
        """For each text the expressions that may match in it, in their order, each with where; None for a text that has
        too many of them."""
        found: list[Begins | None] = []
        for block in _blocks(texts):
            found += self._read(block)
        return found

    def _read(self, texts: Sequence[str]) -> Iterator[Begins | None]:
        count, joined = len(texts), "".join(texts)
        data = joined.encode() if joined.isascii() else joined.encode("utf-32-le", "surrogatepass")
        room = len(joined) * SHARE + FEW * count
        ends = np.array([*accumulate(map(len, texts))], dtype=np.int64)
        until, memory = np.empty(count, dtype=np.int64), np.empty(3 * room, dtype=np.int32)
        at = memory.ctypes.data
        found = _Found(room, at, at + 4 * room, at + 8 * room, self._at_places)
        total = self._scan(
            *self._at_both, ctypes.addressof(found), data, 1 if joined.isascii() else 4,
            count, ends.ctypes.data, SHARE, FEW, until.ctypes.data,
        )  # fmt: skip
        if total < 0:  # a text of two billion characters
            return iter([None] * count)
        which, where = memory[:total].tolist(), memory[room : room + total].tolist()
        return _each(which, where, until.tolist())

    def _at(self, *names: str) -> dict[str, int]:
        return {name: self._kept[name].ctypes.data for name in names}


def _declared(loaded: ctypes.PyDLL) -> Any:
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    loaded.slm_scan_begin.argtypes, loaded.slm_scan_begin.restype = (pointer, pointer), None
    texts = (ctypes.c_char_p, number, number, pointer)
    loaded.slm_scan.argtypes, loaded.slm_scan.restype = (*[pointer] * 3, *texts, number, number, pointer), number
    return loaded.slm_scan


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Of about CHARACTERS, none empty."""
    begin = size = 0
    for n, text in enumerate(texts):
        if size and size + len(text) > CHARACTERS:
            yield texts[begin:n]
            begin, size = n, 0
        size += len(text)
    if begin < len(texts):
        yield texts[begin:]


def _each(which: list[int], where: list[int], until: Sequence[int]) -> Iterator[Begins | None]:
    begin = 0
    for end in until:
        if end < 0:
            yield None
            continue
        yield which[begin:end], where[begin:end]
        begin = end


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
