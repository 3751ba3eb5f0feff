"""The default model: finds names, organisations, places, addresses and numbers of records that no pattern describes.

A small convolutional tagger in numpy: hashed words, character n-grams and shapes (Bojanowski et al. 2017), summed to
one vector a token; residual convolutions of width three with growing dilation (Strubell et al. 2017) for the context;
one label a token. It was trained on invented text only, by `trainers/entitymodel`, and ships as `entities.npz`. Vectors
of tokens are kept, so a token that was seen before costs a look-up: a core reads thousands of short texts a second.

Not covered: scripts other than Latin; languages other than `LANGUAGES`, whose ordinary words it takes for names; texts
that name somebody without a name. It errs, in both directions: see `benchmarks/redaction/results.md` for how often.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT = Path(__file__).with_name("entities.npz")
KINDS = ("name", "organisation", "place", "address", "record_number", "phone", "date_of_birth")
# Of its training texts, in codes of ISO 639-1.
LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "tr")
# 0 is "nothing"; then beginning and inside of each kind.
LABELS = 1 + 2 * len(KINDS)
DILATIONS = (1, 1, 2, 3)
# Between two texts of a batch, so that no convolution sees both.
GAP = max(DILATIONS)
ROWS = 1 << 16
FIXED = 4
MAX_NGRAMS = 24
CHUNK_TOKENS = 8_192
CACHE_TOKENS = 60_000
TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Tokens:
    """`keys[i]` stands for `text[starts[i]:ends[i]]`: the token, what is before it, and the case of the whole text."""

    keys: list[str]
    starts: list[int]
    ends: list[int]


def tokens_of(text: str) -> Tokens:
    """Runs of letters, runs of digits, and single other characters."""
    case = "l" if text == text.lower() else "u" if text == text.upper() else "m"
    keys, starts, ends = [], [], []
    end = -1
    for match in TOKEN.finditer(text):
        start = match.start()
        gap = "=" if start == end else "^" if end < 0 or "\n" in text[end:start] else " "
        end = match.end()
        token = match.group()
        keys.append(case + gap + (_digits(token) if token[0].isdigit() else token[:40]))
        starts.append(start)
        ends.append(end)
    return Tokens(keys, starts, ends)


def _digits(token: str) -> str:
    """Numbers by their form: length, a leading zero, a year."""
    if len(token) == 4 and token[:2] in ("19", "20"):
        return "\0year" + token[:2]
    return f"\0{'0' if token[0] == '0' else '1'}{min(len(token), 17)}"


def features_of(key: str) -> list[int]:
    """Rows of the table for a key: word, shape, gap, case; then character n-grams, which are averaged."""
    case, gap, token = key[0], key[1], key[2:]
    low = token.lower()
    shape = _shape(token) if token[0] != "\0" else token
    fixed = ["w" + low, f"s{case}{shape}", f"g{case}{gap}{shape[:2]}", f"p{low[:2]}|{min(len(low), 12)}"]
    if not token[0].isalpha():
        return [_row(f) for f in fixed]
    marked = f"<{low}>"
    grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(max(0, len(marked) - n + 1))]
    if len(grams) > MAX_NGRAMS:
        grams = grams[: MAX_NGRAMS // 2] + grams[-MAX_NGRAMS // 2 :]
    return [_row(f) for f in fixed] + [_row("n" + g) for g in grams]


def _weights(features: int) -> list[float]:
    """One for what a token has once; n-grams share one square root."""
    grams = features - FIXED
    return [1.0] * FIXED + [grams**-0.5] * grams if grams > 0 else [1.0] * FIXED


def _shape(token: str) -> str:
    """`Xx`, `X`, `xX`…: the case of its letters, runs as one."""
    marks = "".join("X" if c.isupper() else "x" if c.isalpha() else c for c in token)
    return re.sub(r"(.)\1+", r"\1", marks)[:6] + ("1" if len(token) == 1 else "")


def _row(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass")) % ROWS


class EntityModel:
    """Weights, and the vectors of tokens seen so far."""

    def __init__(self, weights: dict[str, NDArray[Any]]) -> None:
        self._table: NDArray[np.int8] = weights["table"]
        self._scale = weights["scale"].astype(np.float32)
        self._layers = [
            (weights[f"w{i}"].astype(np.float32), weights[f"b{i}"].astype(np.float32)) for i in range(len(DILATIONS))
        ]
        self._in = (weights["w_in"].astype(np.float32), weights["b_in"].astype(np.float32))
        self._out = (weights["w_out"].astype(np.float32), weights["b_out"].astype(np.float32))
        self._rows: dict[str, int] = {}
        self._vectors: Vectors = np.zeros((0, 0), dtype=np.float32)
        self._forget()

    @classmethod
    def load(cls, path: Path = DEFAULT) -> EntityModel:
        """Read the weights. Raises OSError and ValueError where there are none."""
        with np.load(path, allow_pickle=False) as file:
            return cls({k: file[k] for k in file.files})

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]:
        """For each text (start, end, kind), in order and without overlaps."""
        cut = [tokens_of(t) for t in texts]
        labels = self.labels([t.keys for t in cut])
        return [_spans(t, row) for t, row in zip(cut, labels, strict=True)]

    def labels(self, texts: Sequence[Sequence[str]]) -> list[NDArray[np.intp]]:
        """A label for every token of every text."""
        out: list[NDArray[np.intp]] = []
        for group in _groups(texts):
            out += self._tagged(group)
        return out

    def _tagged(self, texts: Sequence[Sequence[str]]) -> list[NDArray[np.intp]]:
        if len(self._rows) > CACHE_TOKENS:
            self._forget()
        self._add(list(dict.fromkeys(k for keys in texts for k in keys if k not in self._rows)))
        rows, bounds = [0] * GAP, []
        for keys in texts:
            begin = len(rows)
            rows += [self._rows[k] for k in keys]
            bounds.append((begin, len(rows)))
            rows += [0] * GAP
        labels = self._forward(np.array(rows))
        return [labels[a:b] for a, b in bounds]

    def _forward(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        state = self._vectors[rows]
        gap = rows == 0
        for dilation, (weight, bias) in zip(DILATIONS, self._layers, strict=True):
            state[gap] = 0.0
            wide = np.zeros((len(rows), weight.shape[0]), dtype=np.float32)
            width = state.shape[1]
            wide[dilation:, :width] = state[:-dilation]
            wide[:, width : 2 * width] = state
            wide[:-dilation, 2 * width :] = state[dilation:]
            change = wide @ weight
            change += bias
            np.maximum(change, 0.0, out=change)
            state += change
        weight, bias = self._out
        found: NDArray[np.intp] = (state @ weight + bias).argmax(axis=1)
        return found

    def _add(self, keys: list[str]) -> None:
        """The first layer of tokens, which their context has no part in."""
        if not keys:
            return
        found = [features_of(k) for k in keys]
        rows = np.array([f for features in found for f in features])
        weights = np.array([w for features in found for w in _weights(len(features))], dtype=np.float32)
        begins = np.cumsum([0, *(len(f) for f in found[:-1])])
        summed = np.add.reduceat(self._table[rows] * (self._scale[rows] * weights)[:, None], begins, axis=0)
        weight, bias = self._in
        first = len(self._rows) + 1
        while first + len(keys) > len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[first : first + len(keys)] = np.maximum(summed @ weight + bias, 0.0)
        self._rows.update(zip(keys, range(first, first + len(keys)), strict=True))

    def _forget(self) -> None:
        self._rows = {}
        self._vectors = np.zeros((1_024, self._in[0].shape[1]), dtype=np.float32)


def _groups(texts: Sequence[Sequence[str]]) -> Iterable[list[Sequence[str]]]:
    """Texts together up to CHUNK_TOKENS, which keeps a batch in the processor's cache."""
    group: list[Sequence[str]] = []
    size = 0
    for keys in texts:
        if group and size + len(keys) > CHUNK_TOKENS:
            yield group
            group, size = [], 0
        group.append(keys)
        size += len(keys) + GAP
    if group:
        yield group


def _spans(tokens: Tokens, labels: NDArray[np.intp]) -> list[tuple[int, int, str]]:
    """Runs of one kind; a beginning ends the run before it, an inside without a beginning is one."""
    spans: list[tuple[int, int, str]] = []
    before = -2
    for i in np.flatnonzero(labels).tolist():
        label = int(labels[i])
        kind, inside = KINDS[(label - 1) // 2], (label - 1) % 2
        if inside and before == i - 1 and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], tokens.ends[i], kind)
        else:
            spans.append((tokens.starts[i], tokens.ends[i], kind))
        before = i
    return spans


@cache
def default_model() -> EntityModel:
    """The model that ships with the package, read once a process."""
    return EntityModel.load()
