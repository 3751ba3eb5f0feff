"""Replaces personal data and secrets by invented values of the same kind and shape.

Not covered: what `personal` does not find; a single-word name outside the conversation that announced it; a value
written in another form than where it was found (digits spelled as words, another spelling); facts that identify a
person together. Redaction is not anonymisation in the sense of any law.

Within a conversation a value always becomes the same surrogate, in prompt and answer alike, so that a copied field is
still a copied field; in another conversation it becomes another one. Surrogates come from a seeded counter, never from
the value, so nothing of it can be computed back. Values found anywhere in the log are replaced everywhere in it, and
the leak test searches the output for all of them.
"""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slmfleet.curation.personal import Span, find, iban_ok, luhn

_TOKEN = re.compile(r"[^\W_]+")
_FIRST = ("Alex", "Robin", "Sam", "Kim", "Jona", "Mika", "Toni", "Lou", "Rene", "Sascha", "Noor", "Jule", "Dana", "Kai")
_LAST = ("Morgan", "Rivers", "Stone", "Field", "Winter", "Berg", "Marlow", "Lind", "Hale", "Ortner", "Vale", "Brook")
# What is replaced where it was found and in its conversation only: elsewhere it may be an ordinary word.
_LOCAL = frozenset({"name"})
MIN_VALUE_CHARACTERS = 4


@dataclass
class Report:
    """`counts`: replaced values by kind. `leaks`: values of the log that are still in the output."""

    texts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    leaks: int = 0
    leaked_kinds: Counter[str] = field(default_factory=Counter)
    leaked_records: list[str] = field(default_factory=list)


class Seeker:
    """Finds any of many literal values in a text, in time that grows with the text and not with the values."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._by_token: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        for value, kind in values:
            self.add(value, kind)

    def add(self, value: str, kind: str) -> None:
        token = _TOKEN.search(value)
        if token is not None:
            self._by_token[token.group()][value] = (token.start(), kind)

    def spans(self, text: str) -> list[Span]:
        """Where values stand, as whole words; the longest first where several begin together."""
        if not self._by_token:
            return []
        found: list[Span] = []
        end = 0
        for token in _TOKEN.finditer(text):
            if token.start() < end:
                continue
            best = self._best(text, token.start(), self._by_token.get(token.group(), {}))
            if best is not None:
                found.append(best)
                end = best.end
        return found

    @staticmethod
    def _best(text: str, at: int, options: dict[str, tuple[int, str]]) -> Span | None:
        best: Span | None = None
        for value, (offset, kind) in options.items():
            start = at - offset
            stop = start + len(value)
            if start < 0 or not text.startswith(value, start) or text[stop : stop + 1].isalnum():
                continue
            if best is None or len(value) > best.end - best.start:
                best = Span(start, stop, kind, value)
        return best


class Redactor:
    """Two passes: `learn` every text of the log, then `redact` each. `seed` makes runs repeatable."""

    def __init__(self, seed: int = 0) -> None:
        self.report = Report()
        self._seed = seed
        self._everywhere: dict[str, str] = {}
        self._here: dict[str, dict[str, str]] = defaultdict(dict)
        self._surrogates: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
        self._seeker: Seeker | None = None

    def learn(self, conversation: str, text: str) -> None:
        """Find the values of a text."""
        for span in find(text):
            self.report.values[span.kind] += 1
            self._here[conversation][span.value] = span.kind
            if span.kind not in _LOCAL or " " in span.value:
                self._everywhere.setdefault(span.value, span.kind)

    def redact(self, conversation: str, text: str) -> str:
        """The text with its values replaced."""
        self.report.texts += 1
        spans = _merged(find(text), self._known(conversation, text))
        out, at = [], 0
        for span in spans:
            kind = self._here[conversation].get(span.value) or span.kind
            out += [text[at : span.start], self._surrogate(conversation, kind, span.value)]
            at = span.end
            self.report.counts[kind] += 1
        out.append(text[at:])
        return "".join(out)

    def leaks(self, text: str) -> list[str]:
        """Kinds of the values found anywhere in the log that a text still holds. A surrogate is never one of them."""
        return [s.kind for s in self._global().spans(text) if len(s.value) >= MIN_VALUE_CHARACTERS]

    def check(self, record: str, texts: Iterable[str]) -> None:
        """Leak test of one written record."""
        kinds = [k for t in texts for k in self.leaks(t)]
        if kinds:
            self.report.leaks += len(kinds)
            self.report.leaked_kinds.update(kinds)
            self.report.leaked_records.append(record)

    def _global(self) -> Seeker:
        if self._seeker is None:
            self._seeker = Seeker((v, k) for v, k in self._everywhere.items() if len(v) >= MIN_VALUE_CHARACTERS)
        return self._seeker

    def _known(self, conversation: str, text: str) -> list[Span]:
        local = Seeker(self._here[conversation].items()) if conversation in self._here else Seeker()
        return _merged(local.spans(text), self._global().spans(text))

    def _surrogate(self, conversation: str, kind: str, value: str) -> str:
        made = self._surrogates[conversation]
        key = (kind, value)
        if key not in made:
            made[key] = self._invent(f"{self._seed}/{conversation}/{kind}/{len(made)}", kind, value, set(made.values()))
        return made[key]

    def _invent(self, key: str, kind: str, value: str, used: set[str]) -> str:
        rng = random.Random(hashlib.sha256(key.encode()).digest())
        make = _MAKERS.get(kind, _same_shape)
        for _ in range(50):
            made = make(value, rng)
            if made not in self._everywhere and made not in used:
                return made
        return made


def _merged(first: Sequence[Span], second: Sequence[Span]) -> list[Span]:
    """Both lists without overlaps; where two meet, the longer one."""
    kept: list[Span] = []
    for span in sorted([*first, *second], key=lambda s: (s.start - s.end, s.start)):
        if all(span.end <= k.start or span.start >= k.end for k in kept):
            kept.append(span)
    return sorted(kept, key=lambda s: s.start)


def _same_shape(value: str, rng: random.Random) -> str:
    """Digits for digits, letters for letters of the same case; the rest stays."""
    return "".join(_same_sort(c, rng) for c in value)


def _same_sort(c: str, rng: random.Random) -> str:
    if c.isdigit():
        return rng.choice(string.digits)
    if c.isalpha():
        return rng.choice(string.ascii_uppercase if c.isupper() else string.ascii_lowercase)
    return c


def _secret(value: str, rng: random.Random) -> str:
    """The prefix that says what it is (sk-, ghp_, AKIA) stays."""
    prefix = re.match(r"(?:[A-Za-z]{2,6}[-_.])+|AKIA|ASIA|AIza|eyJ|0x|bc1", value)
    kept = prefix.group() if prefix and len(prefix.group()) <= len(value) // 2 else ""
    return kept + _same_shape(value[len(kept) :], rng)


def _email(value: str, rng: random.Random) -> str:
    domain = rng.choice(("com", "org", "net"))
    return f"{rng.choice(_FIRST)}.{rng.choice(_LAST)}{rng.randrange(10, 100)}@example.{domain}".lower()


def _person(value: str, rng: random.Random) -> str:
    words = value.split()
    if len(words) == 1:
        return rng.choice(_FIRST)
    return " ".join([rng.choice(_FIRST), *(rng.choice(_FIRST) for _ in words[1:-1]), rng.choice(_LAST)])


def _card(value: str, rng: random.Random) -> str:
    """Digits that pass Luhn's check, in a range that no bank issues (9…)."""
    places = [i for i, c in enumerate(value) if c.isdigit()]
    digits = ["9"] + [rng.choice(string.digits) for _ in places[1:]]
    digits[-1] = next(d for d in string.digits if luhn("".join([*digits[:-1], d])))
    return _placed(value, places, digits)


def _iban(value: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(value) if c.isalnum()]
    body = [_same_sort(value[i], rng) for i in places[4:]]
    for check in range(2, 99):
        made = _placed(value, places, [value[places[0]], value[places[1]], *f"{check:02d}", *body])
        if iban_ok(made):
            return made
    return _same_shape(value, rng)


def _ip(value: str, rng: random.Random) -> str:
    if ":" in value:
        return f"2001:db8::{rng.randrange(1, 0xFFFF):x}"
    return f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"


def _phone(value: str, rng: random.Random) -> str:
    """The country's prefix stays; of the rest, digits for digits, beginning with 555."""
    prefix = re.match(r"(?:\+|00)\d{1,2}(?=\D)", value)
    places = [i for i, c in enumerate(value) if c.isdigit() and i >= (prefix.end() if prefix else 0)]
    digits = list("555")[: len(places)] + [rng.choice(string.digits) for _ in places[3:]]
    return _placed(value, places, digits)


def _ssn(value: str, rng: random.Random) -> str:
    return f"9{rng.randrange(100):02d}{value[3]}{rng.randrange(1, 50):02d}{value[6]}{rng.randrange(1, 10000):04d}"


def _credentials(value: str, rng: random.Random) -> str:
    return f"user{rng.randrange(100)}:" + _same_shape(value.partition(":")[2], rng)


def _connection(value: str, rng: random.Random) -> str:
    scheme, _, rest = value.partition("://")
    if not rest:
        return _same_shape(value, rng)
    return f"{scheme}://user:{_same_shape('aaaa0000', rng)}@db{rng.randrange(100)}.example.net/data"


def _private_key(value: str, rng: random.Random) -> str:
    lines = value.split("\n")
    return "\n".join(x if x.startswith("-----") else _same_shape(x, rng) for x in lines)


def _birth(value: str, rng: random.Random) -> str:
    year, day = str(rng.randrange(1950, 2000)), f"{rng.randrange(1, 13):02d}"
    return re.sub(r"\d+", lambda m: year if len(m.group()) == 4 else day[: max(2, len(m.group()))], value)


def _placed(value: str, places: Sequence[int], digits: Sequence[str]) -> str:
    made = list(value)
    for i, d in zip(places, digits, strict=True):
        made[i] = d
    return "".join(made)


_MAKERS: dict[str, Callable[[str, random.Random], str]] = {
    "email": _email,
    "name": _person,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "phone": _phone,
    "us_ssn": _ssn,
    "url_credentials": _credentials,
    "connection_string": _connection,
    "private_key": _private_key,
    "date_of_birth": _birth,
    "api_key": _secret,
    "token": _secret,
}


def strings_in(value: Any) -> Iterable[str]:
    """Every text of a JSON value, long whole numbers included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
    elif isinstance(value, int) and abs(value) >= 10**8:
        yield str(value)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text changed; keys and short numbers stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [mapped(v, change) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**8:
        changed = change(str(value))
        return int(changed) if changed.lstrip("-").isdigit() else changed
    return value
