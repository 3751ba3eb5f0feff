r"""A tenant's regular expressions: which may be used, and what they find; one meaning for admission and for the jobs.

They are RE2's (Cox 2010), which does not backtrack: a search takes time in proportion to what is left of the text and
to the size of the expression, which is bounded here. `\w`, `\d`, `\s` and `\b` know ASCII alone; `\pL` is a letter of
any script.

Not covered: each match is a search of its own, so an expression that must read on to the end of a text to know that a
short match stands (`a(?:.*b)?`) takes the square of its length. The one module of `wire` that needs more than pydantic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import re2

MOST_INSTRUCTIONS = 10_000  # of the compiled expression: the most places in it that one character is compared with
MEMORY_EACH = 8 << 20  # bytes of states kept by an expression; where they are too few it is slower, and no less right
MEMORY_OF_ALL = 256 << 20
_ESCAPED = r"(?<!\\)(?:\\\\)*"
_BEYOND_ASCII = r"(?:[^\x00-\x7f]|\\[pP](?:\{\^?\w+\}|\w)|\[[^\]]*(?:[^\x00-\x7f\]]|\\[pP])[^\]]*\])"
# What RE2 takes, and hardly anybody means.
_MISREAD = (
    (re.compile(_ESCAPED + r"\{(?:,\d+|\d{5,}(?:,\d*)?|\d+,\d{5,})\}"), "is read letter by letter; write {least,most}"),
    (re.compile(_ESCAPED + r"\\C"), "is one byte, and no character"),
    (re.compile(rf"{_ESCAPED}(?:\\[bB](?:\((?:\?:|\?P?<\w+>)?)*{_BEYOND_ASCII}"
                rf"|{_BEYOND_ASCII}(?:[)*+?]|\{{[\d,]+\}})*\\[bB])"),
     r"knows no edge of a word beside a letter outside ASCII; write (?:^|[^\pL])(?P<v>...)(?:[^\pL]|$)"),
)  # fmt: skip
# Of Python's expressions, what RE2 says otherwise.
_INSTEAD = (
    (("(?=", "(?!", "(?<=", "(?<!"),
     "instead of looking around, take in what is beside the value, and call the value (?P<v>...)"),
    (r"\Z", r"write \z"),
    ((r"\u", r"\U", r"\N"), r"write \x{...}, with the number of the character in hexadecimal"),
)  # fmt: skip
_VALUE = re.compile(_ESCAPED + r"\(\?P?<v>")


class Encoded:
    """A text as RE2 reads it, and the way back to its characters. Half of a surrogate pair is a character, too."""

    def __init__(self, text: str) -> None:
        self.data = text.encode("utf-8", "surrogatepass")
        self._same = len(self.data) == len(text)

    def characters(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Stretches of bytes, in order and without overlaps, as stretches of characters."""
        if self._same:
            return spans
        found, byte, character = [], 0, 0
        for start, end in spans:
            first = character + self._length(byte, start)
            byte, character = end, first + self._length(start, end)
            found.append((first, character))
        return found

    def _length(self, start: int, end: int) -> int:
        return len(self.data[start:end].decode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Expression:
    """A regular expression; its group `v`, where it has one, is the value. `memory`: bytes.

    Raises ValueError, in one line without a full stop, for one that is not to be used.
    """

    regex: str
    ignore_case: bool = False
    memory: int = field(default=MEMORY_EACH, compare=False)
    _compiled: Any = field(init=False, repr=False, compare=False)
    _group: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compiled(self.regex, self.ignore_case, self.memory))
        object.__setattr__(self, "_group", self._compiled.groupindex.get("v", 0))

    def spans(self, text: Encoded) -> list[tuple[int, int]]:
        """(start, end) of each value, in characters and in order.

        The search goes on behind the value, not behind the match: what stands between two values is beside both.
        """
        found, at = [], 0
        while at <= len(text.data) and (match := self._compiled.search(text.data, at)) is not None:
            start, end = match.span(self._group)
            if end > start:
                found.append((start, end))
                at = end
                continue
            at = max(match.end(), at + 1)
        return text.characters(found)


def memory_of_one(expressions: int) -> int:
    """Bytes for each of so many."""
    return min(MEMORY_EACH, MEMORY_OF_ALL // max(1, expressions))


def _compiled(regex: str, ignore_case: bool, memory: int) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = memory, False, not ignore_case
    values = len(_VALUE.findall(regex))
    options.never_capture = not values
    try:
        compiled = re2.compile(regex, options)
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    except re2.error as error:
        raise ValueError(_refusal(regex, error.args[0].decode("utf-8", "replace"))) from None
    for misread, why in _MISREAD:
        if (found := misread.search(regex)) is not None:
            raise ValueError(f"{found.group()} {_place(found.start())} {why}")
    if values > 1:
        raise ValueError("two groups are called v; make it two expressions")
    if compiled.programsize > MOST_INSTRUCTIONS:
        raise ValueError(_too_large(f"{compiled.programsize:,} instructions of at most {MOST_INSTRUCTIONS:,}"))
    if compiled.search(b"") is not None:
        raise ValueError("matches the empty text")
    return compiled


def _refusal(regex: str, said: str) -> str:
    if said.startswith("pattern too large"):
        return _too_large(said)
    what = said.partition(": ")[2]
    at = regex.find(what) if what and what != regex else -1
    place = f" {_place(at)}" if at >= 0 else ""
    instead = next((f"; {words}" for begins, words in _INSTEAD if what.startswith(begins)), "")
    return f"no regular expression of RE2's: {said}{place}{instead}"


def _too_large(said: str) -> str:
    return rf"too large ({said}): lower the bounds of its repeats, or write + for them; \pL counts 1,200 in each"


def _place(index: int) -> str:
    return f"(at character {index + 1})"
