"""Hashed features of a call, the same in training and on the hot path.

Words and word pairs by crc32; byte trigrams and 5-grams in one numpy expression, so that a typing error, an unknown
word or a language without spaces still leaves most of a call recognisable. User text and system prompt hash into
tables of their own: the first must be able to decide alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
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

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Bucket numbers without repeats: `user` (words, pairs, byte n-grams of the user text), `system` (words)."""

    user: Indices
    system: Indices


def bounded(text: str) -> str:
    """The part of a user text that is looked at: its beginning and its end, lower-cased, digits as 0."""
    if len(text) > USER_CHARACTERS:
        text = text[: USER_CHARACTERS - 160] + " " + text[-160:]
    return _DIGITS.sub("0", text.lower())


def features(frame: Frame) -> Features:
    """What the classifier sees of a call."""
    text = bounded(frame.user)
    words = [crc32(t.encode("utf-8", "replace")) >> (32 - BITS) for t in _TOKEN.findall(text)]
    pairs = [(31 * a + b + 7) & (BUCKETS - 1) for a, b in pairwise(words)]
    grams = _byte_grams(text)
    found = np.empty(len(words) + len(pairs) + len(grams), dtype=np.uint16)
    found[: len(words)] = words
    found[len(words) : len(words) + len(pairs)] = pairs
    found[len(words) + len(pairs) :] = grams
    return Features(_distinct(found), _system_features(frame.system[:SYSTEM_CHARACTERS]))


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
    raw = np.frombuffer(f" {text} ".encode("utf-8", "replace"), dtype=np.uint8).astype(np.uint32)
    if len(raw) < 5:
        return np.empty(0, dtype=np.uint16)
    three = raw[:-2] * np.uint32(0x9E3779B1) + raw[1:-1] * np.uint32(0x85EBCA77) + raw[2:] * np.uint32(0xC2B2AE3D)
    five = three[:-2] * np.uint32(0x27D4EB2F) + raw[3:-1] * np.uint32(0x165667B1) + raw[4:] * np.uint32(0xD6E8FEB9)
    return (np.concatenate([three, five]) >> np.uint32(32 - BITS)).astype(np.uint16)


@lru_cache(maxsize=1024)
def _system_features(text: str) -> Indices:
    """Words of the system prompt. Cached: a fleet has few of them."""
    tokens = _TOKEN.findall(_DIGITS.sub("0", text.lower()))
    hashed = [crc32(t.encode("utf-8", "replace")) >> (32 - SYSTEM_BITS) for t in tokens if t.isalnum()]
    found = np.unique(np.array(hashed, dtype=np.int64))
    found.setflags(write=False)
    return found
