"""Hashed features of a call, the same in training and on the hot path.

Words and word pairs by crc32; byte trigrams and 5-grams in one numpy expression, so that a typing error, an unknown
word or a language without spaces still leaves most of a call recognisable. User text and system prompt hash into
tables of their own: the first must be able to decide alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from slmfleet.recognise.frame import Frame

BITS = 16
BUCKETS = 1 << BITS
SYSTEM_BITS = 12
SYSTEM_BUCKETS = 1 << SYSTEM_BITS
USER_CHARACTERS = 640
SYSTEM_CHARACTERS = 600
_TOKEN = re.compile(r"\w+|[^\w\s]")
_DIGITS = re.compile(r"\d")
_TO_BUCKET = np.uint32(32 - BITS)
_THREE = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D], dtype=np.uint32)
_OF_THREE = np.uint32(0x27D4EB2F)
_TWO_MORE = np.array([0x165667B1, 0xD6E8FEB9], dtype=np.uint32)

Indices = NDArray[np.int64]


class Features(NamedTuple):
    """Bucket numbers without repeats: `user` (words, pairs, byte n-grams of the user text), `system` (words)."""

    user: Indices
    system: Indices


def bounded(text: str) -> str:
    """The part of a user text that is looked at: its beginning and its end, lower-cased, digits as 0."""
    text = _DIGITS.sub("0", shortened(text).lower())
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # what is no Unicode becomes "?"


def shortened(text: str) -> str:
    """A text's beginning and its end."""
    return text if len(text) <= USER_CHARACTERS else text[: USER_CHARACTERS - 160] + " " + text[-160:]


def features(frame: Frame) -> Features:
    """What the classifier sees of a call."""
    text = bounded(frame.user)
    words = word_buckets(text)
    grams = _byte_grams(text)
    count = len(words)
    found = np.empty(max(0, 2 * count - 1) + len(grams), dtype=np.uint16)
    if count:
        hashed, pairs = found[:count], found[count : 2 * count - 1]
        hashed[:] = words
        np.multiply(hashed[:-1], 31, out=pairs)  # wraps around, as all of this does
        pairs += hashed[1:]
        pairs += 7
    found[len(found) - len(grams) :] = grams
    return Features(_distinct(found), prompt_features(frame.system))


def word_buckets(text: str) -> NDArray[np.uint16]:
    """Buckets of the words and single marks of a bounded text, one after the other."""
    words = [*map(crc32, map(str.encode, _TOKEN.findall(text)))]
    return (np.array(words, dtype=np.uint32) >> _TO_BUCKET).astype(np.uint16)


def prompt_features(system: str) -> Indices:
    """Buckets of a system prompt's words, each once."""
    return _system_features(system[:SYSTEM_CHARACTERS])


def _distinct(found: NDArray[np.uint16]) -> Indices:
    """np.unique by radix sort: a quarter of its time."""
    if not len(found):
        return found.astype(np.int64)
    found.sort(kind="stable")
    keep = np.empty(len(found), dtype=np.bool_)
    keep[0] = True
    np.not_equal(found[1:], found[:-1], out=keep[1:])
    return found[keep].astype(np.int64)


def _byte_grams(text: str) -> NDArray[np.uint16]:
    raw = np.frombuffer(f" {text} ".encode(), dtype=np.uint8).astype(np.uint32)
    count = len(raw)
    if count < 5:
        return np.empty(0, dtype=np.uint16)
    grams = np.empty(2 * count - 6, dtype=np.uint32)
    three, five = grams[: count - 2], grams[count - 2 :]
    np.matmul(_windows(raw, count - 2, 3), _THREE, out=three)
    np.matmul(_windows(raw[3:], count - 4, 2), _TWO_MORE, out=five)
    five += three[:-2] * _OF_THREE
    grams >>= _TO_BUCKET
    return grams.astype(np.uint16)


def _windows(raw: NDArray[np.uint32], count: int, width: int) -> NDArray[np.uint32]:
    """Each `width` neighbours as a row, without a copy."""
    return np.ndarray((count, width), np.uint32, raw, 0, (raw.itemsize, raw.itemsize))


@lru_cache(maxsize=1024)
def _system_features(text: str) -> Indices:
    """Words of the system prompt. Cached: a fleet has few of them."""
    tokens = _TOKEN.findall(_DIGITS.sub("0", text.lower()))
    hashed = [crc32(t.encode("utf-8", "replace")) >> (32 - SYSTEM_BITS) for t in tokens if t.isalnum()]
    found = np.unique(np.array(hashed, dtype=np.int64))
    found.setflags(write=False)
    return found
