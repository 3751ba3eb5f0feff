"""Regular expressions as one automaton that reads a text from its end and says where a match of each may begin.

One reading for all expressions, instead of one for each: a set of characters is a class, an expression is made of
places that read one character, and what a text has reached is a set of places (Glushkov 1961; the sets become states
as they are met, in C: see `recognise/native/scan.c`). Read backwards, an expression is at its end where its match
begins, which is what the expression itself is then asked at.

What it says is never too little, and may be too much: long counts are loops, and of assertions only those at the
edges are kept, one character wide. So a caller that asks the expressions at these places finds what they find
everywhere. Which characters a set holds is asked of `re` itself; its parser says what an expression is made of.

Pure. Not covered: back references, expressions that match nothing, ranges that begin or end above `LOW`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

# Characters below are told one from another; above, only those that an expression names, else by what they are.
LOW = 0x250
# A counted repetition is read exactly up to so many more than its least, and that up to so many.
SLACK, MOST = 2, 12
KINDS = ("\u0663", "\u0416", "\u3000", "\u2026")  # a digit, a letter, a space, none of them: as `re` tells them
# Above LOW, and another case of a character below it.
FOLDED = "\u212a\u212b\u1e9e\u03bc\u2c65\u2c66\u2c6f\u2c70\u2c7e\u2c7f"
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_ZERO_WIDTH = (sre.AT, sre.ASSERT, sre.ASSERT_NOT)
_FLAGS = re.IGNORECASE | re.DOTALL | re.ASCII

Items = Sequence[tuple[Any, Any]]
Set = tuple[str, int]  # an expression for one character, and its flags


class Place(NamedTuple):
    """Reads one character that is in all of `sets`, or the edge of the text where that is allowed."""

    sets: frozenset[Set]
    edge: bool


class Part(NamedTuple):
    """Places that may be read first and last, from right to left, and whether nothing need be read."""

    first: list[int]
    last: list[int]
    empty: bool


_NOTHING = Part([], [], True)
_ANY: Set = (".", int(re.DOTALL))
_WORD, _NO_WORD = (r"\w", 0), (r"\W", 0)


@dataclass(frozen=True)
class Automaton:
    """`follow[n]`: places after place n; from `len(places)` on, the expressions that have ended. `initial`: places that
    may be read anywhere."""

    expressions: int
    places: list[Place]
    follow: list[list[int]]
    initial: list[int]
    alphabet: Alphabet


@dataclass(frozen=True)
class Alphabet:
    """`classes`: of characters up to 0xffff. `astral`: the class of those beyond. `edge`: of a text's edges, the last.
    `holds[place]`: the classes that a place reads, a bit each."""

    classes: bytes
    astral: int
    edge: int
    holds: list[int]


def automaton(expressions: Sequence[re.Pattern[str]]) -> Automaton:
    """One automaton of all. ValueError for an expression that it cannot hold."""
    parsed = [_parser.parse(e.pattern, e.flags) for e in expressions]
    named = {c for tree in parsed for c in _named(tree) if c >= LOW}
    points = [*map(chr, [*range(LOW), *sorted(named | set(map(ord, FOLDED)))]), *KINDS]
    builder = _Builder("".join(points))
    initial: list[int] = []
    for number, tree in enumerate(parsed):
        if not tree.getwidth()[0]:
            raise ValueError(f"{expressions[number].pattern[:60]!r} may match nothing")
        part = builder.sequence(list(tree), tree.state.flags, [], [])
        initial += part.first
        for place in part.last:
            builder.follow[place].add(-1 - number)
    count = len(builder.places)
    follow = [sorted(n if n >= 0 else count - 1 - n for n in after) for after in builder.follow]
    return Automaton(len(expressions), builder.places, follow, sorted(set(initial)), _alphabet(builder))


@dataclass
class _Builder:
    """`points`: one character of each that may differ from another to some expression."""

    points: str
    places: list[Place] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)
    known: dict[Set, int] = field(default_factory=dict)

    def sequence(self, items: Items, flags: int, left: list[Set] | None, right: list[Set] | None) -> Part:
        """`left`, `right`: what the character beside must be in, where this is the edge of its expression; None: it is
        inside."""
        items = list(items)
        while right is not None and items and items[-1][0] in _ZERO_WIDTH:
            right = [*right, *self._beside(items.pop(), items, flags, after=True)]
        while left is not None and items and items[0][0] in _ZERO_WIDTH:
            item = items.pop(0)
            left = [*left, *self._beside(item, items, flags, after=False)]
        if len(items) == 1 and items[0][0] in (sre.SUBPATTERN, sre.BRANCH):
            return self._item(items[0], flags, left, right)
        parts = [] if not right else [self._place(frozenset(right), edge=True)]
        for at, item in reversed([*enumerate(items)]):
            outer, begins = left if at == 0 else None, at == 0 and item[0] in (sre.SUBPATTERN, sre.BRANCH)
            parts.append(self._item(item, flags, outer if begins else None, None))
            if begins and left is not None:
                return self._joined(parts)
        if left is not None:
            parts.append(self._place(frozenset(left or [_ANY]), edge=True))
        return self._joined(parts)

    def _item(self, item: tuple[Any, Any], flags: int, left: list[Set] | None, right: list[Set] | None) -> Part:
        op, value = item
        if op is sre.SUBPATTERN:
            _, more, less, inner = value
            return self.sequence(inner, (flags | more) & ~less, left, right)
        if op is sre.BRANCH:
            parts = [self.sequence(branch, flags, left, right) for branch in value[1]]
            return Part(
                [n for p in parts for n in p.first], [n for p in parts for n in p.last], any(p.empty for p in parts)
            )
        if op in _REPEATS:
            least, most, inner = value
            return self._repeated(least, most, inner, flags)
        if op is sre.ATOMIC_GROUP:
            return self.sequence(value, flags, None, None)
        if op in _ZERO_WIDTH:
            return _NOTHING
        return self._place(frozenset([_one(item, flags)]), edge=False)

    def _repeated(self, least: int, most: Any, items: Items, flags: int) -> Part:
        exact = most is not sre.MAXREPEAT and most - least <= SLACK and least <= MOST
        parts = [self.sequence(items, flags, None, None) for _ in range(min(least, MOST) or (not exact))]
        if exact:
            more = [self.sequence(items, flags, None, None) for _ in range(most - least)]
            parts += [part._replace(empty=True) for part in more]
        if not exact:
            for place in parts[-1].last:
                self.follow[place].update(parts[-1].first)
            if not least:
                parts[-1] = parts[-1]._replace(empty=True)
        return self._joined(parts)

    def _joined(self, parts: Iterable[Part]) -> Part:
        """One after another, the first being read first."""
        whole = _NOTHING
        for part in parts:
            for place in whole.last:
                self.follow[place].update(part.first)
            first = [*whole.first, *part.first] if whole.empty else whole.first
            last = [*whole.last, *part.last] if part.empty else part.last
            whole = Part(first, last, whole.empty and part.empty)
        return whole

    def _place(self, sets: frozenset[Set], *, edge: bool) -> Part:
        self.places.append(Place(sets, edge))
        self.follow.append(set())
        return Part([len(self.places) - 1], [len(self.places) - 1], False)

    def _beside(self, item: tuple[Any, Any], rest: Items, flags: int, *, after: bool) -> list[Set]:
        """What an assertion at the edge of its expression asks of the one character beside it; nothing, where it asks
        for more or for something else."""
        op, value = item
        if op is sre.AT and value is sre.AT_BOUNDARY:
            inside = _edge_sets(rest, flags, last=after)
            words = [bool(self.mask(s) & ~self.mask(_WORD)) for s in inside or ()]
            return [_NO_WORD] if words and not any(words) else []
        if op is sre.ASSERT_NOT and value[0] == (1 if after else -1):
            return [_without(only[0], flags) for only in _alternatives(value[1]) if len(only) == 1 and _is_one(only[0])]
        return []

    def mask(self, chars: Set) -> int:
        """Points that a set holds, a bit each."""
        if chars not in self.known:
            self.known[chars] = sum(1 << m.start() for m in re.compile(*chars).finditer(self.points))
        return self.known[chars]


def _named(items: Iterable[tuple[Any, Any]]) -> Iterable[int]:
    """Characters that an expression names."""
    for op, value in items:
        if op in (sre.LITERAL, sre.NOT_LITERAL):
            yield value
        elif op is sre.RANGE:
            if value[1] >= LOW:
                raise ValueError(f"a range up to {value[1]:#x}")
        elif op is sre.IN:
            yield from _named(value)
        elif op is sre.BRANCH:
            for branch in value[1]:
                yield from _named(branch)
        elif op is sre.SUBPATTERN:
            yield from _named(value[3])
        elif op in _REPEATS:
            yield from _named(value[2])
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            yield from _named(value[1])
        elif op is sre.ATOMIC_GROUP:
            yield from _named(value)
        elif op not in (sre.AT, sre.ANY, sre.NEGATE, sre.CATEGORY):
            raise ValueError(f"{op} is not covered")


def _one(item: tuple[Any, Any], flags: int, *, inverse: bool = False) -> Set:
    """A set of characters as an expression of its own."""
    op, value = item
    kept = int(flags & _FLAGS)
    if op is sre.ANY:
        return (r"[^\s\S]" if flags & re.DOTALL else "\n", 0) if inverse else (".", kept)
    members = {sre.LITERAL: [item], sre.NOT_LITERAL: [(sre.NEGATE, None), (sre.LITERAL, value)]}.get(op, value)
    negated = (members[0][0] is sre.NEGATE) != inverse
    return f"[{'^' if negated else ''}{''.join(map(_member, members))}]", kept


def _without(item: tuple[Any, Any], flags: int) -> Set:
    return _one(item, flags, inverse=True)


def _member(item: tuple[Any, Any]) -> str:
    op, value = item
    if op is sre.NEGATE:
        return ""
    if op is sre.LITERAL:
        return f"\\U{value:08x}"
    if op is sre.RANGE:
        return f"\\U{value[0]:08x}-\\U{value[1]:08x}"
    return _CATEGORIES[value]


def _is_one(item: tuple[Any, Any]) -> bool:
    return item[0] in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY)


def _alternatives(items: Items) -> list[Items]:
    if len(items) == 1 and items[0][0] is sre.BRANCH:
        return [*items[0][1][1]]
    return [items]


def _edge_sets(items: Items, flags: int, *, last: bool) -> list[Set] | None:
    """Sets that hold the first (or last) character of whatever matches; None where that cannot be told."""
    found: list[Set] = []
    for op, value in reversed(items) if last else items:
        if op in _ZERO_WIDTH:
            continue
        least, inner = 1, None
        if _is_one((op, value)):
            return [*found, _one((op, value), flags)]
        if op is sre.SUBPATTERN:
            inner = _edge_sets(value[3], (flags | value[1]) & ~value[2], last=last)
        elif op in _REPEATS:
            least, inner = value[0], _edge_sets(value[2], flags, last=last)
        elif op is sre.BRANCH:
            branches = [_edge_sets(branch, flags, last=last) for branch in value[1]]
            inner = [s for b in branches for s in b or ()] if all(b is not None for b in branches) else None
        if inner is None:
            return None
        found += inner
        if least:
            return found
    return None


def _alphabet(builder: _Builder) -> Alphabet:
    """Characters that no place tells apart are one class."""
    count = len(builder.points)
    masks = [builder.mask(_ANY) for _ in builder.places]
    for n, place in enumerate(builder.places):
        for chars in place.sets:
            masks[n] &= builder.mask(chars)
    distinct = sorted(set(masks))
    signature = [sum(1 << i for i, mask in enumerate(distinct) if mask >> p & 1) for p in range(count)]
    kinds = signature[-len(KINDS) :]
    astral = 0
    for kind in kinds:
        astral |= kind
    numbers: dict[int, int] = {}
    of_point = [numbers.setdefault(s, len(numbers)) for s in signature]
    beyond = numbers.setdefault(astral, len(numbers))
    if len(numbers) > 255:
        raise ValueError(f"{len(numbers)} classes of characters, at most 255")
    holds_of = dict.fromkeys(distinct, 0)
    for s, number in numbers.items():
        for i, mask in enumerate(distinct):
            holds_of[mask] |= (s >> i & 1) << number
    edge = len(numbers)
    holds = [holds_of[mask] | place.edge << edge for mask, place in zip(masks, builder.places, strict=True)]
    return Alphabet(_classes(builder.points, of_point), beyond, edge, holds)


def _classes(points: str, of_point: Sequence[int]) -> bytes:
    table = bytearray([of_point[-1]]) * 0x10000
    everything = "".join(map(chr, range(0x10000)))
    for kind, expression in zip((-2, -3, -4), (r"\s+", r"\w+", r"\d+"), strict=True):
        for run in re.finditer(expression, everything):
            table[run.start() : run.end()] = bytes([of_point[kind]]) * (run.end() - run.start())
    for point, number in zip(points[: -len(KINDS)], of_point, strict=False):
        table[ord(point)] = number
    return bytes(table)
