"""Exact and near duplicates of prompts.

Near: MinHash over word triples (A. Z. Broder, 1997), 64 permutations in 16 bands of 4: texts of Jaccard similarity 0.8
meet in a band with probability above 0.999, those of 0.4 with 0.34, and a meeting pair is then compared itself. Texts
under ten words are only compared by their normalised words: one word more is another utterance there, not a copy.

What is kept of a text is its `Print`, 264 bytes at most, so a million of them fit where their texts would not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.signs import digest

PERMUTATIONS = 64
ROWS = 4
NEAR = 0.8
SURELY_LESS = 0.2
LONG_WORDS = 10
_WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint32]


class Print(NamedTuple):
    """Of one text: of its normalised words, and its MinHash signature where it is long (else empty)."""

    exact: int
    signature: bytes


def normalised(text: str) -> str:
    """Lower-case words and nothing else."""
    return " ".join(_WORD.findall(text.lower()))


def print_of(text: str) -> Print:
    """A text's fingerprint. One without a word is only itself."""
    plain = normalised(text)
    if not plain:
        return Print(digest("", text), b"")
    if plain.count(" ") < LONG_WORDS - 1:
        return Print(digest(plain), b"")
    return Print(digest(plain), _signature(_triples(plain)).tobytes())


def groups(texts: Sequence[str], near: float = NEAR) -> list[int]:
    """The number of each text's group; a group's number is its first text's place."""
    return grouped([print_of(t) for t in texts], texts.__getitem__, near)


def grouped(prints: Sequence[Print], text_of: Callable[[int], str], near: float = NEAR) -> list[int]:
    """The same by fingerprints; `text_of` is asked for the texts of pairs that may be near."""
    parent = list(range(len(prints)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = sorted((root(i), root(j)))
        parent[b] = a

    first: dict[int, int] = {}
    for i, mark in enumerate(prints):
        join(first.setdefault(mark.exact, i), i)
    long = [i for i in range(len(prints)) if root(i) == i and prints[i].signature]
    if not long:
        return [root(i) for i in range(len(prints))]
    table = np.frombuffer(b"".join(prints[i].signature for i in long), dtype=np.uint32).reshape(-1, PERMUTATIONS)
    for a, b in _meeting(table):
        i, j = long[a], long[b]
        if root(i) == root(j) or np.mean(table[a] == table[b]) < near - SURELY_LESS:
            continue
        if _jaccard(_triples(normalised(text_of(i))), _triples(normalised(text_of(j)))) >= near:
            join(i, j)
    return [root(i) for i in range(len(prints))]


def _meeting(table: Hashes) -> Sequence[tuple[int, int]]:
    """Pairs that share a band: each text with the first that has its band."""
    pairs: dict[tuple[int, int], None] = {}
    for band in range(0, PERMUTATIONS, ROWS):
        mixed = np.zeros(len(table), dtype=np.uint64)
        for column in range(band, band + ROWS):
            mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + table[:, column]
        order = np.argsort(mixed, kind="stable")
        same = mixed[order[1:]] == mixed[order[:-1]]
        start = 0
        for at in np.flatnonzero(same):
            if at == 0 or not same[at - 1]:
                start = int(order[at])
            pairs[(start, int(order[at + 1]))] = None
    return list(pairs)


def _triples(text: str) -> set[int]:
    words = text.split()
    return {crc32(" ".join(words[i : i + 3]).encode()) for i in range(len(words) - 2)}


@cache
def _coefficients() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    rng = np.random.default_rng(20070)
    odd = rng.integers(1, 1 << 63, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    return odd, rng.integers(0, 1 << 63, PERMUTATIONS, dtype=np.uint64)


def _signature(items: set[int]) -> Hashes:
    """Multiply-shift hashing (M. Dietzfelbinger et al., 1997): the upper half of a x + b."""
    hashed = np.fromiter(items, dtype=np.uint64, count=len(items))
    factor, offset = _coefficients()
    mixed = hashed[:, None] * factor[None, :] + offset[None, :]
    return np.asarray((mixed >> np.uint64(32)).min(axis=0), dtype=np.uint32)


def _jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
