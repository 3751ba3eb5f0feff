"""A head's fields: in the order and the case they came in, and by name."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]
_field = b": ".join


def block(fields: Iterable[Header]) -> bytes:
    """Fields as they stand in a head, each with the end of its line."""
    return b"\r\n".join([*map(_field, fields), b""])


class Headers(list[Header]):
    """Fields as they came; `lookup` has them by lower-case name (the last one of a name)."""

    __slots__ = ("lookup",)

    def __init__(self, fields: Iterable[Header] = ()) -> None:
        super().__init__(fields)
        self.lookup = {name.lower(): value for name, value in self}

    @property
    def repeats(self) -> bool:
        """Whether a name stands more than once."""
        return len(self.lookup) < len(self)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a name (lower case)."""
        return [value for other, value in self if other.lower() == name]
