"""Whether a tenant's regular expression may run: it compiles, matches something, and cannot take for ever.

Python's `re` backtracks, so a bad expression stops a job for hours. Judged on the position automaton (Glushkov 1961):
two different ways from a position back to itself on the same text make the time exponential in the text's length
(Weideman et al., CIAA 2016, `exponential degree of ambiguity`), open repeats of the same characters one after another
make it a power of that length. Text is stood for by the characters that the expression names, and their neighbours.

Not covered: that a search begins at every place of a text, which costs one more power; back references, taken for
empty. It errs towards refusing: a possessive repeat is judged as any other, and
what is too large to be judged is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from functools import cache, lru_cache
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, TypeVar

LONGEST_BOUND = 32  # a{1,32} is a bounded repeat, a{1,33} an open one
MOST_WAYS = 100_000  # of dividing one text among bounded repeats
MOST_LOOPS = 2
MOST_STEPS = 200_000  # of judging one expression, about half a second
_SAMPLES = "aZ0_ é漢-\n\x00"
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)
_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d", ops.CATEGORY_NOT_DIGIT: r"\D", ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S", ops.CATEGORY_WORD: r"\w", ops.CATEGORY_NOT_WORD: r"\W",
}
Node = tuple[Any, Any]
T = TypeVar("T", bound=Hashable)


@lru_cache(maxsize=1024)
def problem(regex: str, ignore_case: bool = False) -> str | None:
    """Why the expression is refused; None where it may run."""
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    try:
        compiled = re.compile(regex, flags)
        tree = parser.parse(regex, flags)
    except (re.error, OverflowError, RecursionError) as error:
        return f"no regular expression of Python's: {error}"
    if compiled.search("") is not None:
        return "matches the empty text"
    try:
        graph = _Automaton(tree)
        exponential = graph.is_exponential()
    except (RecursionError, _TooLarge):
        return "too large to be judged; make it two"
    if exponential:
        return ("a repeat within a repeat can divide the same text in many ways, which may take for ever; put "
                "something between them that neither matches, or bound both")
    if graph.loops_in_a_row() > MOST_LOOPS:
        return (f"more than {MOST_LOOPS} open repeats one after another match the same characters, which takes too "
                f"long on a long text; bound them, to at most {LONGEST_BOUND}")
    return None


class _TooLarge(Exception):
    """More steps than a reconcile may take."""


class _Part:
    """A piece of the expression: where it may begin and end, each as often as in so many ways, and in how many ways it
    may be empty (more than two are as bad as two)."""

    def __init__(self, first: tuple[int, ...] = (), last: tuple[int, ...] = (), empty: int = 1) -> None:
        self.first, self.last, self.empty = _at_most_twice(first), _at_most_twice(last), min(empty, 2)


def _at_most_twice(positions: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(p for p, n in Counter(positions).items() for _ in range(min(n, 2)))


class _Automaton:
    """Positions are the characters of the expression; `follow` counts in how many ways one comes after another."""

    def __init__(self, tree: Any) -> None:
        self._ignore_case = bool(tree.state.flags & re.IGNORECASE) or any(
            op is ops.SUBPATTERN and value[1] & re.IGNORECASE for op, value in _nodes(tree))
        self._samples = frozenset(_SAMPLES).union(*(_named(node) for node in _nodes(tree)))
        self.matched: list[frozenset[str]] = []
        self.follow: list[Counter[int]] = []
        self._sequence(tree, False)

    def is_exponential(self) -> bool:
        """Whether a text leads from some position back to it in two ways."""
        home = {p: k for k, part in enumerate(_components(range(len(self.follow)), self._next)) for p in part}
        for p, ways in enumerate(self.follow):
            if any(n > 1 and home[q] == home[p] for q, n in ways.items()):
                return True
        pairs: dict[tuple[int, int], set[tuple[int, int]]] = {}
        todo, steps = [(p, p) for p in range(len(self.follow))], 0
        while todo:
            pair = todo.pop()
            if pair in pairs:
                continue
            a, b = pair
            steps += len(self.follow[a]) * len(self.follow[b])
            if steps > MOST_STEPS:
                raise _TooLarge
            pairs[pair] = {
                (min(x, y), max(x, y)) for x in self.follow[a] for y in self.follow[b]
                if home[x] == home[y] == home[a] and self.matched[x] & self.matched[y]}
            todo.extend(pairs[pair])
        return any(len({a == b for a, b in part}) == 2 for part in _components(pairs, pairs.__getitem__))

    def loops_in_a_row(self) -> int:
        """The most repeats one after another that one text of a single character can be divided among."""
        return max((self._loops(c) for c in self._samples), default=0)

    def _loops(self, character: str) -> int:
        inside = {p for p, matched in enumerate(self.matched) if character in matched}
        most: dict[int, int] = {}
        for part in _components(inside, lambda p: inside & self.follow[p].keys()):  # what follows comes first
            after = {q for p in part for q in self.follow[p] if q in inside}
            looped = bool(after & set(part))
            best = looped + max((most[q] for q in after - set(part)), default=0)
            most |= dict.fromkeys(part, best)
        return max(most.values(), default=0)

    def _next(self, position: int) -> Iterable[int]:
        return self.follow[position]

    def _sequence(self, items: Iterable[Node], looped: bool) -> _Part:
        whole = _Part()
        for op, value in items:
            part = self._part(op, value, looped)
            self._join(whole.last, part.first)
            whole = _Part(whole.first + part.first * whole.empty, part.last + whole.last * part.empty,
                          whole.empty * part.empty)
        return whole

    def _join(self, before: Iterable[int], after: Iterable[int]) -> None:
        for p in before:
            self.follow[p].update(after)

    def _part(self, op: Any, value: Any, looped: bool) -> _Part:
        if op in _REPEATS:
            return self._repeat(value, looped)
        if op is ops.SUBPATTERN:
            return self._sequence(value[3], looped)
        if op is ops.ATOMIC_GROUP:
            return self._sequence(value, looped)
        if op in (ops.BRANCH, ops.GROUPREF_EXISTS):
            branches = value[1] if op is ops.BRANCH else [b or () for b in value[1:]]
            parts = [self._sequence(branch, looped) for branch in branches]
            return _Part(tuple(p for part in parts for p in part.first), tuple(p for part in parts for p in part.last),
                         sum(part.empty for part in parts))
        if op in (ops.ASSERT, ops.ASSERT_NOT):
            self._sequence(value[1], looped)  # judged by itself: what it looks at is not taken
            return _Part()
        if op in (ops.AT, ops.GROUPREF, ops.FAILURE):
            return _Part()
        self.matched.append(frozenset(c for c in self._samples if self._takes(op, value, c)))
        self.follow.append(Counter())
        here = (len(self.matched) - 1,)
        return _Part(here, here, 0)

    def _repeat(self, value: Any, looped: bool) -> _Part:
        least, most, body = value
        open_ended = most > LONGEST_BOUND or (looped and most > 1) or (most > 1 and _ways(body) ** most > MOST_WAYS)
        part = self._sequence(body, looped or open_ended)
        if open_ended:
            self._join(part.last, part.first)
        return _Part(part.first, part.last, part.empty + (least == 0))

    def _takes(self, op: Any, value: Any, character: str) -> bool:
        cases = {character, character.lower(), character.upper()} if self._ignore_case else {character}
        return any(_takes(op, value, c) for c in cases)


def _nodes(items: Any) -> Iterable[Node]:
    """Every node of a parsed expression."""
    for op, value in items:
        yield op, value
        for part in value if isinstance(value, (list, tuple)) else (value,):
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, parser.SubPattern):
                    yield from _nodes(inner)


def _named(node: Node) -> set[str]:
    """Characters that a node names, and those beside them."""
    op, value = node
    items = value if op is ops.IN else [node]
    codes: set[int] = set()
    for kind, what in items:
        if kind in (ops.LITERAL, ops.NOT_LITERAL):
            codes |= {what, what + 1}
        if kind is ops.RANGE:
            codes |= {what[0] - 1, what[0], what[1], what[1] + 1}
    return {chr(code) for code in codes if 0 <= code <= 0x10FFFF}


def _takes(op: Any, value: Any, character: str) -> bool:
    if op is ops.IN:
        negated = value[0][0] is ops.NEGATE
        return any(_takes(kind, what, character) for kind, what in value if kind is not ops.NEGATE) != negated
    if op is ops.LITERAL:
        return bool(ord(character) == value)
    if op is ops.NOT_LITERAL:
        return bool(ord(character) != value)
    if op is ops.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    if op is ops.CATEGORY:
        return _category(value).match(character) is not None
    return True  # any character


@cache
def _category(name: Any) -> re.Pattern[str]:
    return re.compile(_CATEGORIES[name])


def _ways(items: Any) -> int:
    """In how many ways, at most, the bounded repeats of a piece divide one text."""
    ways = 1
    for op, value in items:
        if op in _REPEATS:
            least, most, body = value
            inner = _ways(body)
            open_ended = most > LONGEST_BOUND or (inner > 1 and inner**most > MOST_WAYS)
            ways *= MOST_WAYS + 1 if open_ended else (most - least + 1) * inner**most
        if op is ops.SUBPATTERN:
            ways *= _ways(value[3])
        if op is ops.ATOMIC_GROUP:
            ways *= _ways(value)
        if op is ops.BRANCH:
            ways *= sum(_ways(branch) for branch in value[1])
        ways = min(ways, MOST_WAYS + 1)
    return ways


def _components(vertices: Iterable[T], after: Callable[[T], Iterable[T]]) -> list[list[T]]:
    """Strongly connected components, what is reached before what reaches it (Tarjan 1972, without recursion)."""
    order: dict[T, int] = {}
    low: dict[T, int] = {}
    open_, found, held = [], [], set()
    for root in vertices:
        todo = [] if root in order else [(root, iter(after(root)))]
        if todo:
            order[root] = low[root] = len(order)
            open_.append(root)
            held.add(root)
        while todo:
            at, rest = todo[-1]
            fresh = next((v for v in rest if _met(v, at, order, low, held)), None)
            if fresh is not None:
                order[fresh] = low[fresh] = len(order)
                open_.append(fresh)
                held.add(fresh)
                todo.append((fresh, iter(after(fresh))))
                continue
            todo.pop()
            if todo:
                low[todo[-1][0]] = min(low[todo[-1][0]], low[at])
            if low[at] == order[at]:
                cut = open_.index(at)
                found.append(open_[cut:])
                held.difference_update(open_[cut:])
                del open_[cut:]
    return found


def _met(vertex: T, at: T, order: dict[T, int], low: dict[T, int], held: set[T]) -> bool:
    """Whether a vertex is new; one that is still open lowers the place that `at` belongs to."""
    if vertex not in order:
        return True
    if vertex in held:
        low[at] = min(low[at], order[vertex])
    return False
