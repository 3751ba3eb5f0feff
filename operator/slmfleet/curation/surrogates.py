"""Invents values: of the same kind and shape as what they stand for, and the same throughout one conversation.

A conversation has one `Cast`. Names, organisations and places are translated word by word, whatever their case, so
that "Xaver Quandt", "Quandt, Xaver", "XAVER" and "quandt's" stay one person; numbers by their digits, whatever stands
between them; dates of birth by one turn of the calendar (`dates`), so that 12/03/1984 and 1984-03-12 stay one day;
e-mail addresses by the words in them. What says what a thing is ("Street", "Bank", "van der") stays. Card numbers,
IBANs and national numbers pass their checks. All is drawn from a seed, never from the value, so nothing of it can be
computed back.

Pure. Not covered: gender, and the country a name or a number is from; amounts, which answers may compute with.
"""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Callable, Hashable, Sequence

from slmfleet.curation.checksums import NATIONAL, compact, iban_ok, luhn
from slmfleet.curation.dates import meaning, turn_of, turned

Maker = Callable[["Cast", str, random.Random], str]
_WORD = re.compile(r"[^\W\d_]+|\d+")


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split("|")


_FIRST = _words(
    "Alex Robin Sascha Jona Mika Toni Rene Noor Jule Dana Kai Alva Bente Ciel Dorin Elio Fenja Gael Hanno "
    "Ilva Jorin Kaja Levin Maren Nevio Oriel Pelle Quirin Runa Silvan Tamo Ulla Vero Wanja Yaro Zita Aris "
    "Brisa Corin Delia"
)
_LAST = _words(
    "Morgan Rivers Winter Marlow Lindqvist Hale Ortner Vale Brook Ashdown Birkett Calder Dunmore Ellwood "
    "Farrow Garnet Holbrook Ingram Jessop Kestrel Lorne Merrow Norland Orwin Penrose Quarles Redfern "
    "Selwyn Tarrant Upton Verney Wexley"
)
_PLACES = _words(
    "Marwick Oldenau Tresco Belford Karsten Lunden Montara Rosenthal Valdera Ostrava Highmoor Ellern "
    "Brevik Sandau Corvale Norden Pinehurst Alderton Westmark Halden Furano Lysefjord Tamarin Kestrelton "
    "Ravensfield Silverlake"
)
_COUNTRIES = _phrases(
    "Argentina|Australia|Austria|Belgium|Brazil|Bulgaria|Canada|Chile|China|Colombia|Croatia|Denmark|"
    "Ecuador|Egypt|England|Estonia|Finland|France|Germany|Ghana|Greece|Hungary|Iceland|India|Indonesia|"
    "Iran|Iraq|Ireland|Israel|Italy|Jamaica|Japan|Kenya|Latvia|Lithuania|Malaysia|Mexico|Morocco|"
    "Netherlands|New Zealand|Nigeria|Norway|Pakistan|Peru|Philippines|Poland|Portugal|Romania|Russia|"
    "Scotland|Serbia|Singapore|Slovakia|Slovenia|South Africa|South Korea|Spain|Sweden|Switzerland|"
    "Thailand|Tunisia|Turkey|Uganda|Ukraine|United Kingdom|United States|Uruguay|Vietnam|Wales"
)
_BY_COUNTRY = {c.lower(): c for c in _COUNTRIES}
# What says what a thing is, and so stays.
STAYS = frozenset(
    _words(
        "van der den de la del di da do dos du des von zu bin al el le les of the and for und y e et i on "
        "upon in at inc ltd llc plc corp co gmbh ag se kg sa sarl spa bv nv ab oy group holdings bank "
        "university college school hospital clinic hotel museum library church restaurant club council "
        "institute office department ministry foundation association airport street st road rd avenue ave "
        "lane ln drive dr court ct boulevard blvd way place pl square terrace highway hwy parkway circle apt "
        "apartment suite ste unit flat floor room box po p o straße strasse str weg platz allee gasse straat "
        "laan plein gatan vej gade rue calle avenida plaza paseo via viale piazza corso rua travessa ul utca "
        "út tér north south east west new old upper lower saint mr mrs ms miss dr prof corner kingdom "
        "republic city county state jr sr ii iii"
    )
)
_SYLLABLES = _words("ba be bri da del do fen ga hal ie jor ka lan lo mar mi nel or pa ri sel tor ul va ven wil yo zan")


class Cast:
    """The invented values of one conversation. `taken(value)`: whether a value, in lower case, is one of the log."""

    def __init__(self, key: str, taken: Callable[[str], bool]) -> None:
        self._key, self.taken = key, taken
        self._made: dict[tuple[str, str], str] = {}
        self._words: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        self._countries: dict[str, str] = {}
        self._days: dict[str, Hashable] = {}
        self._used: set[str] = set()

    def surrogate(self, kind: str, value: str) -> str:
        """What stands for a value. The same for the same value, another one for another, never one of the log."""
        if kind in _BY_WORD:
            return MAKERS[kind](self, value, self.rng(kind))
        bare = value.lower() if kind in _AS_WRITTEN else compact(value) or value
        key = ("" if bare.isdigit() else kind, bare)
        if key not in self._made:
            self._made[key] = self._invent(kind, value)
        made = self._made[key]
        return _like(value, made) if kind not in _AS_WRITTEN and len(compact(made)) == len(bare) else made

    def word(self, word: str, pool: Sequence[str]) -> str:
        """What stands for one word, in the word's own case."""
        folded = word.casefold()
        if folded not in self._words:
            self._words[folded] = self._new_word(pool, len(word) == 1)
        made = self._words[folded]
        if len(word) == 1:
            return made[0].upper() if word.isupper() else made[0].lower()
        if word.isupper():
            return made.upper()
        return made.lower() if word.islower() else made

    def number(self, digits: str) -> str:
        """What stands for a run of digits: another one of the same length, the same one for the same run."""
        if digits not in self._numbers:
            rng = self.rng(f"number/{len(self._numbers)}")
            tried = (_same_shape(self, digits, rng) for _ in range(50))
            self._numbers[digits] = next((m for m in tried if m != digits and self.is_new(m)), digits[::-1])
            self._used.add(self._numbers[digits])
        return self._numbers[digits]

    def country(self, name: str) -> str:
        """Another country, unless the log holds them all."""
        if name not in self._countries:
            order = self.rng("countries").sample(_COUNTRIES, len(_COUNTRIES))
            made = next((c for c in order if all(map(self.is_new, c.lower().split()))), None) or self.word(
                name, _PLACES
            )
            self._used.add(made.lower())
            self._countries[name] = made
        return self._countries[name]

    def stands_for(self, made: str, day: Hashable) -> bool:
        """Whether an invented date may stand for a day: it does already, or for no other."""
        return self._days.setdefault(made, day) == day

    def uses(self, folded: str) -> bool:
        """Whether one of its inventions is this."""
        return folded in self._used

    def is_new(self, folded: str) -> bool:
        """Whether neither the log nor this conversation's inventions hold it."""
        return folded not in self._used and not self.taken(folded)

    def rng(self, what: str) -> random.Random:
        """Random numbers for a purpose."""
        return random.Random(hashlib.sha256(f"{self._key}/{what}".encode()).digest())

    def _new_word(self, pool: Sequence[str], letter: bool) -> str:
        rng = self.rng(f"word/{len(self._words)}")
        if letter:
            return rng.choice(string.ascii_uppercase)
        tried = [rng.choice(pool) for _ in range(12)]
        while True:
            for made in tried:
                if self.is_new(made.lower()):
                    self._used.add(made.lower())
                    return made
            tried = ["".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3)))).capitalize() for _ in range(8)]

    def _invent(self, kind: str, value: str) -> str:
        rng = self.rng(f"{kind}/{len(self._made)}")
        make = MAKERS.get(kind, _same_shape)
        for attempt in range(60):
            made = make(self, value, rng) if attempt < 30 else _same_shape(self, value, rng)
            if attempt >= 45:
                made += rng.choice(string.digits)
            if made != value and self.is_new(made.lower()):
                break
        self._used.add(made.lower())
        return made


def _same_shape(cast: Cast, value: str, rng: random.Random) -> str:
    """Digits for digits (a first zero stays one, another never becomes one), letters for letters of the same case."""
    out = []
    before = ""
    for c in value:
        made = _same_sort(c, rng)
        if c.isdigit() and not before.isdigit():
            made = "0" if c == "0" else rng.choice("123456789")
        out.append(made)
        before = c
    return "".join(out)


def _same_sort(c: str, rng: random.Random) -> str:
    if c.isdigit():
        return rng.choice(string.digits)
    if c.isalpha():
        return rng.choice(string.ascii_uppercase if c.isupper() else string.ascii_lowercase)
    return c


def _like(value: str, made: str) -> str:
    """The letters and digits of `made` where `value` has some; the rest of `value` stays."""
    sorts = iter(c for c in made if c.isalnum())
    return "".join(next(sorts, c) if c.isalnum() else c for c in value)


def _translated(pool: Sequence[str], first: Sequence[str] | None = None) -> Maker:
    def make(cast: Cast, value: str, rng: random.Random) -> str:
        seen = 0
        telling = any(w.lower() not in STAYS for w in _WORD.findall(value))

        def one(match: re.Match[str]) -> str:
            nonlocal seen
            word = match.group()
            if word[0].isdigit():
                return cast.number(word)
            if telling and word.lower() in STAYS:
                return word
            seen += 1
            return cast.word(word, first if first and seen == 1 else pool)

        return _WORD.sub(one, value)

    return make


def _place(cast: Cast, value: str, rng: random.Random) -> str:
    country = _BY_COUNTRY.get(value.lower())
    if country is None:
        return _translated(_PLACES)(cast, value, rng)
    made = cast.country(country)
    return made.upper() if value.isupper() else made.lower() if value.islower() else made


def _email(cast: Cast, value: str, rng: random.Random) -> str:
    """The words of the local part as elsewhere in the conversation; a domain that belongs to nobody (RFC 2606)."""
    local, _, _ = value.partition("@")
    made = re.sub(r"[^A-Za-z0-9._-]", "", _translated(_LAST, _FIRST)(cast, local.lower(), rng)).strip("._-") or "user"
    return f"{made}@example.{rng.choice(('com', 'org', 'net'))}"


def _card(cast: Cast, value: str, rng: random.Random) -> str:
    """Digits that pass Luhn's check, in a range that no bank issues (9…)."""
    places = [i for i, c in enumerate(value) if c.isdigit()]
    digits = ["9"] + [rng.choice(string.digits) for _ in places[1:]]
    digits[-1] = next(d for d in string.digits if luhn("".join([*digits[:-1], d])))
    return _placed(value, places, digits)


def _iban(cast: Cast, value: str, rng: random.Random) -> str:
    places = [i for i, c in enumerate(value) if c.isalnum()]
    body = [_same_sort(value[i], rng) for i in places[4:]]
    for check in range(2, 99):
        made = _placed(value, places, [value[places[0]], value[places[1]], *f"{check:02d}", *body])
        if iban_ok(made):
            return made
    return _same_shape(cast, value, rng)


def _checked(form: str, check: Callable[[str], bool]) -> Maker:
    """Of the same shape, and one that passes the check where it is found in time."""
    regex = re.compile(form)

    def make(cast: Cast, value: str, rng: random.Random) -> str:
        for _ in range(1_500):
            made = _same_shape(cast, value, rng)
            if regex.fullmatch(made) and check(made):
                return made
        return made

    return make


def _ssn(cast: Cast, value: str, rng: random.Random) -> str:
    """An area number that is never given out (9..), and no taxpayer number's group."""
    return _like(value, f"9{rng.randrange(100):02d}{rng.randrange(1, 50):02d}{rng.randrange(1, 10000):04d}")


def _ip(cast: Cast, value: str, rng: random.Random) -> str:
    """From the ranges for documentation (RFC 5737, RFC 3849)."""
    if ":" in value:
        return f"2001:db8::{rng.randrange(1, 0xFFFF):x}"
    return f"{rng.choice(('192.0.2', '198.51.100', '203.0.113'))}.{rng.randrange(1, 255)}"


def _phone(cast: Cast, value: str, rng: random.Random) -> str:
    """The country's prefix stays; of the rest, digits for digits, beginning with 555."""
    prefix = re.match(r"(?:\+|00)\d{1,2}(?=\D)|0(?=\d)", value)
    places = [i for i, c in enumerate(value) if c.isdigit() and i >= (prefix.end() if prefix else 0)]
    digits = list("555")[: len(places)] + [rng.choice(string.digits) for _ in places[3:]]
    return _placed(value, places, digits)


def _credentials(cast: Cast, value: str, rng: random.Random) -> str:
    return f"user{rng.randrange(100)}:" + _same_shape(cast, value.partition(":")[2], rng)


def _connection(cast: Cast, value: str, rng: random.Random) -> str:
    scheme, _, rest = value.partition("://")
    if not rest:
        return _same_shape(cast, value, rng)
    return f"{scheme}://user:{_same_shape(cast, 'aaaa0000', rng)}@db{rng.randrange(100)}.example.net/data"


def _private_key(cast: Cast, value: str, rng: random.Random) -> str:
    lines = re.split(r"(\n|\\n)", value)
    return "".join(x if x.startswith("-----") or x in ("\n", "\\n") else _same_shape(cast, x, rng) for x in lines)


def _secret(cast: Cast, value: str, rng: random.Random) -> str:
    """The prefix that says what it is (sk-, ghp_, AKIA) stays."""
    prefix = re.match(r"(?:[A-Za-z]{2,6}[-_.])+|AKIA|ASIA|AIza|eyJ|0x|bc1", value)
    kept = prefix.group() if prefix and len(prefix.group()) <= len(value) // 2 else ""
    return kept + _same_shape(cast, value[len(kept) :], rng)


def _birth(cast: Cast, value: str, rng: random.Random) -> str:
    """By one turn of the calendar a conversation; another turn where that gives a value of the log, or what stands for
    another day."""
    for attempt in range(20):
        made = turned(value, turn_of(cast.rng(f"calendar/{attempt}")))
        if made != value and not cast.taken(made.lower()) and cast.stands_for(made, meaning(value)):
            break
    return made


def _age(cast: Cast, value: str, rng: random.Random) -> str:
    shift = cast.rng("age").choice((-3, -2, -1, 1, 2, 3))
    made = int(value) + shift
    return str(made if made > 0 else int(value) + 4)


def _placed(value: str, places: Sequence[int], digits: Sequence[str]) -> str:
    made = list(value)
    for i, d in zip(places, digits, strict=True):
        made[i] = d
    return "".join(made)


MAKERS: dict[str, Maker] = {
    **{kind: _checked(form, check) for kind, form, check in NATIONAL},
    "name": _translated(_LAST, _FIRST),
    "organisation": _translated(_LAST),
    "place": _place,
    "address": _translated(_PLACES),
    "deny_list": _translated(_LAST),
    "email": _email,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "phone": _phone,
    "us_ssn": _ssn,
    "url_credentials": _credentials,
    "connection_string": _connection,
    "private_key": _private_key,
    "date_of_birth": _birth,
    "age": _age,
    "api_key": _secret,
    "token": _secret,
}
# Translated part by part; the parts are what the conversation remembers.
_BY_WORD = frozenset({"name", "organisation", "place", "address", "deny_list", "date_of_birth", "age"})
# What stands between their letters and digits tells two of them apart: 10.1.11.5 is not 10.11.1.5.
_AS_WRITTEN = frozenset({"ip", "email", "url_credentials", "connection_string"})
