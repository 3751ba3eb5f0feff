"""The classifier's arithmetic in C, where it was built: a tenth of numpy's time for one call.

Measured: `benchmarks/gateway/deciding.py`, with and without `SLMFLEET_NATIVE=off`. The library is plain C, called
through ctypes; `build.py` makes it with the machine's C compiler. Where it is not there, numpy does the same (the
tests hold both to the same features and scores).

It is looked for in the file that `SLMFLEET_NATIVE` names, else beside this module.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slmfleet.recognise.features import BUCKETS
from slmfleet.recognise.native.build import LIBRARY

VERSION = 3  # as `slm_version` in score.c says: a library of another one is not used
TEXT_BYTES = 4 * 1024

Floats = NDArray[np.float32]


class Best(NamedTuple):
    """The two tasks furthest above what is asked of them. `second` is -1 where there is one task."""

    first: int
    score: float
    second: int
    second_score: float


class _Tables(ctypes.Structure):
    _fields_ = (
        ("tasks", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("idf", "row_tasks", "row_steps", "row_starts")),
        *((name, ctypes.c_void_p) for name in ("row_whole", "row_place", "row_scale", "bias", "least")),
        *((name, ctypes.c_void_p) for name in ("buckets", "steps", "starts", "absent", "step")),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_int64),
        ("second", ctypes.c_int64),
        ("first_score", ctypes.c_float),
        ("second_score", ctypes.c_float),
    )


@cache
def library() -> ctypes.PyDLL | None:
    """The library, or None where it is not there, is another version's, or `SLMFLEET_NATIVE` is `off`."""
    given = os.environ.get("SLMFLEET_NATIVE", "")
    if given == "off":
        return None
    path = Path(given) if given else Path(__file__).with_name(LIBRARY)
    if not path.is_file():
        return None
    found = ctypes.PyDLL(str(path))  # short calls: letting go of the interpreter's lock would cost more than they do
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    found.slm_version.argtypes, found.slm_version.restype = (), number
    if found.slm_version() != VERSION:
        return None
    found.slm_features.argtypes = (ctypes.c_char_p, number, pointer, number, pointer, pointer, pointer, pointer)
    found.slm_features.restype = number
    found.slm_score.argtypes = (pointer, pointer, number, pointer, pointer, pointer)
    found.slm_score.restype = None
    found.slm_familiarity.argtypes = (pointer, pointer, number, pointer, number)
    found.slm_familiarity.restype = ctypes.c_float
    return found


class Scorer:
    """One classifier's tables and the memory that a call needs. For one thread; nothing is allocated in a call."""

    def __init__(self, loaded: ctypes.PyDLL, arrays: dict[str, NDArray[Any]]) -> None:
        """`arrays` as the members of `struct classifier`, each contiguous and of its type."""
        self._arrays = {name: _contiguous(name, array) for name, array in arrays.items()}  # kept alive
        tasks = len(self._arrays["bias"])
        addresses = {name: array.ctypes.data for name, array in self._arrays.items()}
        self._tables = _Tables(tasks=tasks, **addresses)
        self._padded = np.empty(TEXT_BYTES + 2, dtype=np.uint8)
        self._scratch = np.empty(TEXT_BYTES, dtype=np.uint16)
        self._seen = np.empty(BUCKETS // 64, dtype=np.uint64)
        self._found = np.empty(4 * TEXT_BYTES + 4, dtype=np.uint16)
        self._scores = np.empty(tasks, dtype=np.float32)
        self._result = _Result()
        self._count = 0
        self._features, self._score, self._usual = loaded.slm_features, loaded.slm_score, loaded.slm_familiarity
        self._at = (
            ctypes.addressof(self._tables),
            self._padded.ctypes.data,
            self._scratch.ctypes.data,
            self._seen.ctypes.data,
            self._found.ctypes.data,
            self._scores.ctypes.data,
            ctypes.addressof(self._result),
        )

    def best(self, text: bytes, words: NDArray[np.uint16] | None, prompt: int | None) -> Best:
        """Score a text (at most TEXT_BYTES). `words`: buckets of its words, for one that is not ASCII. `prompt`: the
        address of what the system prompt adds to each score."""
        tables, padded, scratch, seen, found, scores, result = self._at
        address, words_count = (None, 0) if words is None else (words.ctypes.data, len(words))
        count = self._count = self._features(text, len(text), address, words_count, padded, scratch, seen, found)
        self._score(tables, found, count, prompt, scores, result)
        out = self._result
        return Best(out.first, out.first_score, out.second, out.second_score)

    def familiarity(self, task: int) -> float:
        """How usual the pieces of the text that was scored last are for a task."""
        tables, _, _, seen, found, _, _ = self._at
        return float(self._usual(tables, found, self._count, seen, task))

    def found(self) -> NDArray[np.uint16]:
        """Features of the text that was scored last, in the order in which they stand there."""
        return self._found[: self._count].copy()

    def scores(self) -> Floats:
        """Scores of every task for the text that was scored last."""
        return self._scores.copy()


_TYPES = {
    "row_tasks": np.uint16,
    "row_steps": np.int8,
    "row_starts": np.int64,
    "row_whole": np.int8,
    "row_place": np.int32,
    "buckets": np.uint16,
    "steps": np.uint8,
    "starts": np.int64,
}


def _contiguous(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=_TYPES.get(name, np.float32))
