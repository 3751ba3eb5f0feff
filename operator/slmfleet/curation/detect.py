"""All that finds values in texts, in one call: the tenant's list and patterns, our patterns, and a model.

Where two meet, the tenant's come first, then numbers and secrets that a form and a checksum vouch for; what a model
finds is cut around them. Keys of JSON objects are touched only where a form vouches for them, and never what a caller
asks to keep (labels, names of tools): a data set whose keys and labels were redacted teaches nothing.

Pure but for the models, which are read once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from slmfleet.curation.personal import NOT_NAMES, common_words, find, find_all
from slmfleet.curation.seeker import Seeker
from slmfleet.curation.spans import Disjoint, Span
from slmfleet.curation.surrogates import STAYS

if TYPE_CHECKING:
    from slmfleet.wire.expressions import Expression

# Found by words around or by a model, and replaced word by word; the others have a form of their own.
SOFT = frozenset({"name", "organisation", "place", "address"})
_WEAK = SOFT | {"record_number", "phone", "date_of_birth", "age"}
_KEY = re.compile(r'"(?:[^"\\\n]|\\.){1,80}"(?=\s*:)')
# Where a value cannot go on: quotes, brackets, JSON's escapes.
_EDGE = re.compile(r'\\u[0-9a-fA-F]{4}|\\[a-z"\\/]|["{}<>\[\]|\t]')
_TRIM = " \n\r.,;:-–—!?()'`*#_/=&+@"
_PLURAL = re.compile(r"['’]s$")
_NEXT = re.compile(r"[ ]((?:[^\W\d_a-z](?=[^\W\d_A-Z]))[^\W\d_]+(?:[-'’][^\W\d_]+)*)")
_BEFORE = re.compile(r"(?<![^\W_])((?:[^\W\d_a-z](?=[^\W\d_A-Z]))[^\W\d_]+(?:[-'’][^\W\d_]+)*)[ ]\Z")
# With a capital before a name and no part of it: titles, greetings and "I am" of the languages the model was made for.
_BEFORE_NAME_WORDS = (
    "mr mrs ms miss dr prof professor sir madam hi hello dear "
    "herr herrn frau hallo moin servus guten lieber liebe liebes bin kollege kollegin kunde kundin "
    "señor señora señorita sr sra don doña hola soy querido querida estimado estimada según cliente "
    "monsieur madame mademoiselle maître bonjour bonsoir salut coucou cher chère chers merci selon client "
    "signor signora signorina dottor dottoressa ciao buongiorno salve sono caro gentile egregio egregia secondo "
    "senhor senhora dona olá oi sou prezado prezada segundo "
    "meneer mevrouw beste lieve geachte hoi dag volgens klant "
    "pan pani panie szanowny szanowna drogi droga cześć jestem klient sayın sevgili merhaba selam müşteri"
)
_BEFORE_NAME = frozenset(_BEFORE_NAME_WORDS.split())
_YEAR = re.compile(r"(?:19|20)\d\d")
_SHORT_PLACES = frozenset({"US", "UK", "EU"})
_ACRONYM_WORDS = (
    "AI API APIS ASAP ATM ATMS AWS CEO CFO CHF CLI CPU CSS CSV CTO DNS DOB EOF ETA EUR FAQ FTP FY FYI GBP GDP "
    "GPS GPT GPU GUI HTML HTTP HTTPS IBAN ID IDE IP ISO IT JPY JSON KYC LED LLM LLMS MFA ML NLP NULL OCR OK "
    "OTP PDF PHP PII PIN PNG POS QA RAM REST ROI RPC SDK SEO SIM SLA SMS SQL SSH SSL SSN SUV SWIFT TODO TRUE "
    "TSV TV UI URI URL URLS USB USD UTC UTF UUID VAT VIN VPN WIFI XML YAML ZIP"
)
_ACRONYMS = frozenset(_ACRONYM_WORDS.split())
MAX_WORDS = {"name": 7, "organisation": 10, "place": 8, "address": 40}


class Model(Protocol):
    """Finds (start, end, kind) in each text; kinds as in `entities.KINDS`."""

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int, str]]]: ...


@dataclass(frozen=True)
class TenantPattern:
    """A kind and an expression of the tenant's own."""

    kind: str
    expression: Expression


@dataclass(frozen=True)
class Detector:
    """`model` None: patterns only. `deny`: values by kind. `keep`: values, in lower case, that a model may not take.
    `name`: of the model, for reports."""

    model: Model | None = None
    deny: tuple[tuple[str, str], ...] = ()
    patterns: tuple[TenantPattern, ...] = ()
    keep: frozenset[str] = frozenset()
    name: str = "none"
    _seeker: Seeker = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seeker", Seeker(self.deny))

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text its values, in order and without overlaps."""
        guessed = self.model.spans(texts) if self.model is not None else [()] * len(texts)
        found = find_all(texts)
        return [self._one(*each) for each in zip(texts, guessed, found, strict=True)]

    def vouched(self, text: str) -> list[Span]:
        """The tenant's own, and what a form with its checks vouches for: what is found without reading a language."""
        hard = [s for s in find(text) if s.kind not in _WEAK]
        return _first([*self._seeker.spans(text), *_tenants(self.patterns, text)], hard).spans

    def insists(self, span: Span) -> bool:
        """Whether a value goes even within a word of the application: a tenant's, or one its form vouches for."""
        if span.kind not in _WEAK or any(p.kind == span.kind for p in self.patterns):
            return True
        return any(denied.value == span.value for denied in self._seeker.spans(span.value))

    def _one(self, text: str, guessed: Sequence[tuple[int, int, str]], found: Sequence[Span]) -> list[Span]:
        own = [*self._seeker.spans(text), *_tenants(self.patterns, text)]
        if not (own or found or guessed):
            return []
        hard = [s for s in found if s.kind not in _WEAK]
        weak = [s for s in found if s.kind in _WEAK]
        keys = Disjoint(_keys(text) if '":' in text or '" :' in text else ())
        soft = self._believable(text, guessed)
        kept = _first(own, hard)
        for span in _longest([*weak, *soft]):
            if not keys.meeting(span.start, span.end):
                _add_around(kept, span)
        return kept.spans

    def _believable(self, text: str, guessed: Iterable[tuple[int, int, str]]) -> list[Span]:
        """What of a model's finds has the form of its kind. A house number is one beside the rest of an address."""
        pieces = [piece for a, b, kind in guessed for piece in _pieces(text, a, b, kind)]
        kept, capitals = [], text != text.lower()
        for i, span in enumerate(pieces):
            if span.value.casefold() in self.keep or _merely_a_word(span, text, capitals):
                continue
            beside = [p for p in pieces[max(0, i - 1) : i + 2] if p is not span and _touch(text, p, span)]
            if plausible(span) or (span.kind == "address" and span.value.isdigit() and beside):
                kept.append(_grown(text, span))
        return kept


def _first(own: Sequence[Span], hard: Sequence[Span]) -> Disjoint:
    """The tenant's own before what has a form, but for what is a part of that: an address goes as a whole, and not the
    denied name in it alone."""
    whole = Disjoint(hard)
    if not own:
        return whole
    apart = (s for s in own if not any(len(h.value) > len(s.value) for h in whole.around(s)))
    return Disjoint([*apart, *hard])


def _grown(text: str, span: Span) -> Span:
    """A name with the rest of it: the capitals beside it that are no common words."""
    if span.kind != "name" or text == text.upper():
        return span
    start, end = span.start, span.end
    while (more := _NEXT.match(text, end)) and _is_rest(more.group(1)):
        end = more.end()
    while (more := _BEFORE.search(text, max(0, start - 40), start)) and _is_rest(more.group(1)):
        start = more.start()
    return Span(start, end, span.kind, text[start:end])


def _is_rest(word: str) -> bool:
    return word.lower() not in common_words() and word.lower() not in NOT_NAMES and word.lower() not in _BEFORE_NAME


def _touch(text: str, first: Span, second: Span) -> bool:
    between = text[min(first.end, second.end) : max(first.start, second.start)]
    return len(between) <= 6 and not any(c.isalnum() for c in between)


def plausible(span: Span) -> bool:
    """Whether a model's find has the form of its kind. A model errs most on what is not language at all."""
    value, digits = span.value, sum(c.isdigit() for c in span.value)
    longest = max((len(w) for w in value.split()), default=0)
    if longest > 40 or len(value) > 200:
        return False
    if span.kind == "phone":
        return 7 <= digits <= 16
    if span.kind == "record_number":
        return digits >= 4
    if span.kind == "date_of_birth":
        return digits >= 3 and bool(re.search(r"\d[-./]\d|\d{4}|[^\W\d_]{3,} \d", value)) and value != value[:4]
    words = re.findall(r"[^\W\d_]+", value)
    if span.kind == "address" and digits and not (value.isdigit() and len(value) < 4) and not _YEAR.fullmatch(value):
        return True
    if not words or len(value) < 2 or len(words) > MAX_WORDS[span.kind]:
        return False
    if all(w.lower() in STAYS or (w.islower() and w in common_words()) for w in words):
        return False
    if len(words) > 1:
        return True
    if words[0].isupper() and len(words[0]) <= 5:
        return words[0] in _SHORT_PLACES or (len(words[0]) > 2 and words[0] not in _ACRONYMS)
    return words[0].lower() not in common_words() or not (words[0].islower() or words[0].isupper())


def _merely_a_word(span: Span, text: str, capitals: bool) -> bool:
    """One word in lower case where the text writes capitals, or a common one with the capital of its sentence."""
    word = span.value
    if span.kind not in SOFT or not word.isalpha():
        return False
    if word.islower():
        return capitals
    begins = text[max(0, span.start - 40) : span.start].rstrip(" \t\"'*-#>")[-1:] in ("", ".", "!", "?", ":", "\n")
    return begins and word.lower() in common_words()


def _tenants(patterns: Sequence[TenantPattern], text: str) -> list[Span]:
    if not patterns:
        return []
    from slmfleet.wire.expressions import Encoded  # RE2 is needed by tenants' patterns alone

    encoded = Encoded(text)
    return [Span(a, b, p.kind, text[a:b]) for p in patterns for a, b in p.expression.spans(encoded)]


def _pieces(text: str, start: int, end: int, kind: str) -> Iterable[Span]:
    """A model's span without quotes, brackets and escapes inside, and without punctuation at its ends."""
    at = start
    for edge in [*(m.span() for m in _EDGE.finditer(text, start, end)), (end, end)]:
        a, b = at, edge[0]
        at = edge[1]
        while a < b and text[a] in _TRIM:
            a += 1
        while b > a and text[b - 1] in _TRIM:
            b -= 1
        if kind != "address" and (tail := _PLURAL.search(text[a:b])):
            b = a + tail.start()
        if b > a:
            yield Span(a, b, kind, text[a:b])


def _keys(text: str) -> Iterable[Span]:
    return (Span(*match.span(), "key", match.group()) for match in _KEY.finditer(text))


def _longest(spans: Iterable[Span]) -> list[Span]:
    """Without overlaps: the longer of two, and what is left of the shorter."""
    kept = Disjoint()
    for span in sorted(spans, key=lambda s: (s.start - s.end, s.start)):
        _add_around(kept, span)
    return kept.spans


def _add_around(kept: Disjoint, span: Span) -> None:
    """Add what of the span is left beside those that are there."""
    meeting = kept.meeting(span.start, span.end)
    if not meeting:
        kept.add(span)
        return
    begins = [span.start, *(k.end for k in meeting)]
    ends = [*(k.start for k in meeting), span.end]
    for a, b in zip(begins, ends, strict=True):
        value = span.value[a - span.start : b - span.start] if a < b else ""
        begin = a + len(value) - len(value.lstrip(_TRIM))
        value = value.strip(_TRIM)
        if any(c.isalnum() for c in value):
            kept.add(Span(begin, begin + len(value), span.kind, value))


@lru_cache(maxsize=4_096)
def tells(key: str) -> bool:
    """Whether a key of an object is itself a value that its form vouches for: `{"anna@corp.com": "admin"}`."""
    return any(span.kind not in _WEAK for span in find(key))
