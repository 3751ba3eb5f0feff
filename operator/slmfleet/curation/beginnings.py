"""Where in texts matches of many expressions may begin, read once for all of them, in C.

`automaton` says what is read, `recognise/native/scan.c` reads. Measured: `benchmarks/redaction`. Where the library was
not built there is no such thing, and whoever asks searches with the expressions themselves.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from re import Pattern
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.automaton import Automaton, automaton

# So many are kept, some 15 MB when all are there; at most 0x7fff can be.
STATES = 1 << 14
# What a text may have of beginnings: so many a character and some. One with more is searched in the other way.
SHARE, FEW = 1, 256
CHARACTERS = 1 << 20  # read at once

Begins = tuple[list[int], list[int]]


class _Automaton(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("expressions", "classes", "astral", "place_words", "words")),
        *((name, ctypes.c_void_p) for name in ("class_of", "reads", "follow_from", "follow", "begun")),
    )


class _States(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("most", "count", "slots", "made", "forgotten")),
        *((name, ctypes.c_void_p) for name in ("next", "sets", "table")),
    )


class _Found(ctypes.Structure):
    _fields_ = (
        ("room", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("expressions", "begins", "spare", "places")),
    )


class Beginnings:
    """Of one list of expressions. Threads take turns: the library is called with the interpreter's lock held."""

    def __init__(self, loaded: ctypes.PyDLL, expressions: Sequence[Pattern[str]], states: int = STATES) -> None:
        made = automaton(expressions)
        place_words, words, classes = _words(len(made.places)), _set_words(made), made.alphabet.edge + 1
        self._kept = {**_arrays(made), **_memory(classes, words, states)}
        self._automaton = _Automaton(
            made.expressions, classes, made.alphabet.astral, place_words, words,
            *self._at("class_of", "reads", "follow_from", "follow", "begun"),
        )  # fmt: skip
        self._states = _States(states, 0, len(self._kept["table"]), 0, 0, *self._at("next", "sets", "table"))
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

    def _at(self, *names: str) -> list[int]:
        return [self._kept[name].ctypes.data for name in names]


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


def _words(bits: int) -> int:
    return (bits + 63) // 64


def _set_words(made: Automaton) -> int:
    return _words(len(made.places)) + _words(made.expressions)


def _arrays(made: Automaton) -> dict[str, NDArray[Any]]:
    """As the members of `struct automaton`; expressions begin at a word of their own."""
    places, classes = len(made.places), made.alphabet.edge + 1
    shift = 64 * _words(places) - places
    follow = [[n if n < places else n + shift for n in after] for after in made.follow] + [[]] * shift
    holds = np.frombuffer(b"".join(held.to_bytes(32, "little") for held in made.alphabet.holds), dtype=np.uint8)
    reads, begun = (np.zeros((classes, 64 * words), dtype=np.uint8) for words in (_words(places), _set_words(made)))
    reads[:, :places] = np.unpackbits(holds.reshape(places, 32), axis=1, bitorder="little", count=classes).T
    for place in made.initial:
        begun[np.ix_(reads[:, place] == 1, follow[place])] = 1
    return {
        "class_of": np.frombuffer(made.alphabet.classes, dtype=np.uint8),
        "reads": _bits(reads),
        "follow_from": np.cumsum([0, *map(len, follow)], dtype=np.int32),
        "follow": np.array([n for after in follow for n in after], dtype=np.int32),
        "begun": _bits(begun),
    }


def _bits(flags: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(np.packbits(flags, axis=1, bitorder="little")).view(np.uint64)


def _memory(classes: int, words: int, states: int) -> dict[str, NDArray[Any]]:
    return {
        "next": _untouched(states * classes, np.uint16),
        "sets": _untouched((states + 1) * words, np.uint64),
        "table": _untouched(1 << (2 * states).bit_length(), np.int32),
    }


def _untouched(count: int, kind: type[np.generic]) -> NDArray[Any]:
    """Memory of this process that costs nothing until it is written, and then by small pages: large ones are made as a
    whole, which takes longer than reading a thousand texts."""
    pages = mmap.mmap(-1, count * np.dtype(kind).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel that has no large ones
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype=kind)
