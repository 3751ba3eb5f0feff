"""Exact and near duplicates of prompts.

Near: MinHash over word triples (A. Z. Broder, 1997), 64 permutations in 32 bands of 2: texts of Jaccard similarity 0.7
meet in a band with probability above 0.999999, and a meeting pair is then compared itself. Texts under ten words are
only compared by their normalised words: one word more is another utterance there, not a copy.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 64
ROWS = 2
NEAR = 0.8
_WORD = re.compile(r"\w+")
Hashes = NDArray[np.uint64]
_PRIME = np.uint64((1 << 61) - 1)


def normalised(text: str) -> str:
    """Lower-case words and nothing else."""
    return " ".join(_WORD.findall(text.lower()))


def groups(texts: Sequence[str], near: float = NEAR) -> list[int]:
    """The number of each text's group; a group's number is its first text's place."""
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = sorted((root(i), root(j)))
        parent[b] = a

    plain = [normalised(t) for t in texts]
    first: dict[Hashable, int] = {}
    for i, text in enumerate(plain):
        join(first.setdefault(text or ("empty", texts[i]), i), i)
    long = [i for i in range(len(texts)) if root(i) == i and plain[i].count(" ") >= 9]
    sets = {i: _triples(plain[i]) for i in long}
    buckets: dict[tuple[int, bytes], int] = {}
    for i in long:
        signature = _signature(sets[i])
        for band in range(0, PERMUTATIONS, ROWS):
            other = buckets.setdefault((band, signature[band : band + ROWS].tobytes()), i)
            if other != i and root(other) != root(i) and _jaccard(sets[other], sets[i]) >= near:
                join(other, i)
    return [root(i) for i in range(len(texts))]


def _triples(text: str) -> set[int]:
    words = text.split()
    return {crc32(" ".join(words[i : i + 3]).encode()) for i in range(len(words) - 2)}


def _coefficients() -> tuple[Hashes, Hashes]:
    rng = np.random.default_rng(20070)
    return rng.integers(1, 1 << 31, PERMUTATIONS, dtype=np.uint64), rng.integers(
        0, 1 << 31, PERMUTATIONS, dtype=np.uint64
    )


def _signature(items: set[int]) -> Hashes:
    factor, offset = _coefficients()
    hashed = np.fromiter(items, dtype=np.uint64, count=len(items))
    return np.asarray(((hashed[:, None] * factor[None, :] + offset[None, :]) % _PRIME).min(axis=0))


def _jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b) if a or b else 1.0
