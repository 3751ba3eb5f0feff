"""A tenant's deny list as text: who writes it, who counts it and who redacts with it read the same lines.

One value a line, after a tab its kind; lines that begin with `#` are comments, and one without a value is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KIND = r"^[a-z][a-z0-9_]{0,40}$"
DEFAULT_KIND = "deny_list"


class Denied(NamedTuple):
    """A value that is replaced wherever it stands. `line`: its number, from 1."""

    line: int
    value: str
    kind: str

    @property
    def fault(self) -> str | None:
        """Why it cannot be used, if so."""
        if not re.match(KIND, self.kind):
            return f"kind {self.kind!r} is not {KIND}"
        if not any(c.isalnum() for c in self.value) or len(self.value) < 2:
            return "a value has two characters or more"
        return None


def denied(text: str) -> Iterator[Denied]:
    """The values of a list, usable or not."""
    for number, line in enumerate(text.split("\n"), 1):
        value, _, kind = line.partition("\t")
        value, kind = value.strip(), kind.strip() or DEFAULT_KIND
        if value and not value.startswith("#"):
            yield Denied(number, value, kind)


def listed(entries: Iterable[tuple[str, str]]) -> str:
    """The text for values with their kinds."""
    return "".join(f"{value}\t{kind}\n" for value, kind in entries)
