"""The classifier's arithmetic in C, where it was built: a tenth of numpy's time for one call.

Measured: `benchmarks/gateway/deciding.py`, with and without `SLMFLEET_NATIVE=off`. The library is plain C, called
through ctypes; `build.py` makes it with the machine's C compiler. Where it is not there, numpy does the same (the
tests hold both to the same features and scores).

The library also holds `scan.c`, which `curation/beginnings.py` calls.

It is looked for in the file that `SLMFLEET_NATIVE` names, else beside this module.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slmfleet.recognise.features import BUCKETS
from slmfleet.recognise.native.build import LIBRARY

VERSION = 5  # as `slm_version` in score.c says: a library of another one is not used
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
        *((name, ctypes.c_void_p) for name in ("rows", "row_tasks", "row_steps", "row_whole")),
        *((name, ctypes.c_void_p) for name in ("row_scale", "bias", "least")),
        *((name, ctypes.c_void_p) for name in ("buckets", "steps", "starts", "absent", "step")),
    )


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("padded", "scratch", "seen", "found", "scores")),
        *((name, ctypes.c_int64) for name in ("count", "first", "second")),
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
    found.slm_best.argtypes = (pointer, pointer, ctypes.c_char_p, number, pointer, number, pointer)
    found.slm_best.restype = None
    found.slm_familiarity.argtypes = (pointer, pointer, number)
    found.slm_familiarity.restype = ctypes.c_float
    return found


class Scorer:
    """One classifier's tables and the memory that a call needs. For one thread; nothing is allocated in a call."""

    def __init__(self, loaded: ctypes.PyDLL, arrays: dict[str, NDArray[Any]]) -> None:
        """`arrays` as the members of `struct classifier`; `rows` as `rows_of` gives it."""
        self._arrays = {name: _contiguous(name, array) for name, array in arrays.items()}  # kept alive
        tasks = len(self._arrays["bias"])
        self._tables = _Tables(tasks=tasks, **{name: array.ctypes.data for name, array in self._arrays.items()})
        self._memory: dict[str, NDArray[Any]] = {
            "padded": np.empty(TEXT_BYTES + 2, dtype=np.uint8),
            "scratch": np.empty(TEXT_BYTES, dtype=np.uint16),
            "seen": np.empty(BUCKETS // 64, dtype=np.uint64),
            "found": np.empty(4 * TEXT_BYTES + 4, dtype=np.uint16),
            "scores": np.empty(tasks, dtype=np.float32),
        }
        self._call = _Call(**{name: array.ctypes.data for name, array in self._memory.items()})
        self._best, self._usual = loaded.slm_best, loaded.slm_familiarity
        self._at = ctypes.addressof(self._tables), ctypes.addressof(self._call)

    def best(self, text: bytes, words: NDArray[np.uint16] | None, prompt: int | None) -> Best:
        """Score a text (at most TEXT_BYTES). `words`: buckets of its words, for one that is not ASCII. `prompt`: the
        address of what the system prompt adds to each score."""
        address, words_count = (None, 0) if words is None else (words.ctypes.data, len(words))
        self._best(*self._at, text, len(text), address, words_count, prompt)
        out = self._call
        return Best(out.first, out.first_score, out.second, out.second_score)

    def familiarity(self, task: int) -> float:
        """How usual the pieces of the text that was scored last are for a task."""
        return float(self._usual(*self._at, task))

    def found(self) -> NDArray[np.uint16]:
        """Features of the text that was scored last, in the order in which they stand there."""
        return self._memory["found"][: self._call.count].copy()

    def scores(self) -> Floats:
        """Scores of every task for the text that was scored last."""
        return self._memory["scores"].copy()


def rows_of(idf: Floats, place: NDArray[np.int32], starts: NDArray[np.int64]) -> NDArray[Any]:
    """What is to be known of each bucket, side by side (`struct bucket`). ValueError for more than it can say."""
    if starts[-1] >= 1 << 32:
        raise ValueError(f"{starts[-1]:,} weights, at most {1 << 32:,}")
    rows = np.empty(len(idf), dtype=_BUCKET)
    rows["idf"], rows["place"], rows["start"], rows["end"] = idf, place, starts[:-1], starts[1:]
    return rows


_BUCKET = np.dtype([("idf", np.float32), ("place", np.int32), ("start", np.uint32), ("end", np.uint32)])
_TYPES: dict[str, DTypeLike] = {
    "rows": _BUCKET,
    "row_tasks": np.uint16,
    "row_steps": np.int8,
    "row_whole": np.int8,
    "buckets": np.uint16,
    "steps": np.uint8,
    "starts": np.int64,
}


def _contiguous(name: str, array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=_TYPES.get(name, np.float32))
