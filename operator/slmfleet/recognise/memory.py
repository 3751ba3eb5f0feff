"""A bounded memory for what is computed again and again from the same few texts.

Bounded in bytes and not in entries, since a system prompt may have 20 characters or 20,000: prompts that are different
in every call cost their own memory up to the bound, and push out what has not been asked for longest.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=str | tuple[str, ...])
ENTRY_BYTES = 200  # a slot of the dict and the value, about


class Memory(Generic[Key]):
    """Calls of a pure function, remembered: least recently used out first. For one thread."""

    def __init__(self, compute: Callable[[Key], str], limit_bytes: int) -> None:
        self._compute = compute
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._known: dict[Key, str] = {}

    def __call__(self, key: Key) -> str:
        known = self._known
        value = known.pop(key, None)
        if value is not None:
            known[key] = value
            return value
        value = known[key] = self._compute(key)
        self._bytes += _size(key, value)
        while self._bytes > self._limit_bytes and known:
            oldest = next(iter(known))
            self._bytes -= _size(oldest, known.pop(oldest))
        return value

    def __len__(self) -> int:
        return len(self._known)


def _size(key: str | tuple[str, ...], value: str) -> int:
    texts = (key,) if isinstance(key, str) else key
    return sum(map(getsizeof, texts)) + getsizeof(value) + ENTRY_BYTES
