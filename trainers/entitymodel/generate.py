"""Invents short texts with personal data, and says where it stands. Everything in them comes from `words/` and the
package's list of common words.

A text is a template with its slots filled: names of two dozen countries, places, organisations, addresses in the forms
of many post offices, record numbers, telephone numbers, dates of birth. Half of the templates carry no data at all, so
that a model learns what to leave alone: capitals, headings, code, JSON, chat. A share of the names is invented from
syllables of real ones, and a share of the texts is in lower or upper case, so that a model cannot learn lists by heart.

Deterministic by seed. Not covered: scripts other than Latin.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from entitymodel.languages import Language, Slot, Speaker, languages, sections
from slmfleet.curation.personal import common_words

WORDS = Path(__file__).parent / "words"
SLOT = re.compile(r"\{([A-Za-z]\w*)\}")
LOWER_SHARE, UPPER_SHARE, INVENTED_SHARE = 0.12, 0.03, 0.3
# Of the texts that are not English, those with data: fewer, for it is ordinary words that are hard there.
OTHER_POSITIVE_SHARE = 0.55
# Before every line of a text: quotations, lists, broken encodings.
_LINE_MARKS = ("> ", "- ", "* ", "| ", "?? ", "# ", "; ", ">> ", "\t")


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split("|")


_ACRONYMS = _words(
    "AI API ATM AWS CEO CFO CPU CSS CSV DNS EUR FAQ FTP GBP GDP GPS GPU GUI HTML HTTP HTTPS ID IDE IP IT "
    "JSON KYC LED LLM LTE MFA ML NLP OCR OK OS OTP PC PDF PHP PIN PNG POS PR QA QR RAM RPC SDK SEO SIM "
    "SLA SMS SQL SSH SSL TODO TV UI URI URL USB USD UTC UUID VAT VAT VIN VM VPN WIFI XML YAML ZIP ASAP "
    "FYI ETA EOF NULL TRUE CHF JPY INR AUD CAD SEPA SWIFT"
)
_FUNCTION = _words(
    "the a an of to in and for is on that with as it was at by from this be are or not have has which you "
    "but can if will they we all more one about so when no out up into do any your what there than them "
    "only some could"
)
_STREET_EN = _words(
    "Street St St. Road Rd Rd. Avenue Ave Ave. Lane Ln Drive Dr Court Ct Boulevard Blvd Way Place Pl "
    "Square Terrace Crescent Close Hill Highway Hwy Parkway Circle Trail Row Mews Gardens Grove Alley "
    "Esplanade Parade"
)
_ORG_TAIL = _words(
    "Inc Inc. LLC Ltd Ltd. Limited PLC Corp Corp. Corporation Group Holdings GmbH AG SE KG SA S.A. SARL "
    "SpA S.p.A. BV NV AB ApS Oy A/S & Co. & Sons & Partners Associates Solutions Systems Technologies "
    "Consulting Services Partners Labs Studio Media Industries Logistics Pharma Foods Energy Capital "
    "Ventures Insurance Bank Software Analytics"
)
_WORTHY = _words(
    "data cloud open smart blue solar green global first next bright clear deep fast gold home iron land "
    "map net north ocean path prime pure quick river rock sky snow star stone sun swift true urban vita "
    "wave wind wise zen geo care health farm fund trust legal market move work play trade travel safe "
    "secure better civic govern code vote census garden vista buena maintenance logic metric graph spark "
    "nova terra aero hydro bio nano micro macro meta"
)
_DIVISIONS = _words(
    "Department Ministry Office Bureau Institute University College Academy Museum Bank Church Society "
    "Association Federation Council Committee Chamber Agency Center Centre School Foundation"
)
_SITES = _words(
    "Hospital University Bank School College Clinic Hotel Museum Library Church Restaurant Café Theatre "
    "Stadium Medical_Center Primary_School High_School Credit_Union Savings_Bank Country_Club "
    "Football_Club Pharmacy General_Hospital Public_Library Bakery Times Post Herald Records"
)


@dataclass(frozen=True)
class Text:
    """`spans`: (start, end, kind), in order, not overlapping."""

    text: str
    spans: tuple[tuple[int, int, str], ...] = ()


@dataclass
class Words:
    """The lists of `words/`. `first`, `last` and `city` are by country."""

    first: dict[str, list[str]] = field(default_factory=dict)
    last: dict[str, list[str]] = field(default_factory=dict)
    city: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    templates: dict[str, list[str]] = field(default_factory=dict)
    common: list[str] = field(default_factory=list)
    languages: list[Language] = field(default_factory=list)

    @classmethod
    def read(cls) -> Words:
        """Read every list."""
        words = cls(common=sorted(common_words()), languages=languages())
        for head, lines in sections(WORDS / "people.txt").items():
            country, sort = head.split()
            listed = [w.replace("_", " ") for line in lines for w in line.split()]
            getattr(words, sort)[country] = listed
        for language in words.languages:
            for sort in ("first", "last", "city"):
                getattr(words, sort)[language.names] += language.parts[sort]
        words.places = sections(WORDS / "places.txt")
        templates = sections(WORDS / "templates.txt").items()
        words.templates = {k: [t.replace(r"\n", "\n") for t in v] for k, v in templates}
        for sort in ("noun", "verb", "adj", "job", "org"):
            words.templates[sort] = [w.replace("_", " ") for line in words.templates[sort] for w in line.split()]
        return words


class Generator:
    """`text()` gives one after another, from `seed`. `other_share`: of texts that are not English."""

    def __init__(self, words: Words, seed: int, positive_share: float = 0.62, other_share: float = 0.0) -> None:
        self._words, self._rng, self._positive = words, random.Random(seed), positive_share
        self._other = other_share
        self._country = "en"
        self._fill = self._english = self._slots()
        self._local = {x.code: self._slots_of(x) for x in words.languages}

    def text(self) -> Text:
        """A new text."""
        rng = self._rng
        if rng.random() < self._other:
            return self._text_in(rng.choice(self._words.languages))
        self._fill = self._english
        self._country = rng.choice(list(self._words.first)) if rng.random() < 0.6 else "en"
        return self._made(self._words.templates, self._positive)

    def _text_in(self, language: Language) -> Text:
        rng = self._rng
        self._fill = self._local[language.code]
        self._country = language.names if rng.random() < 0.75 else rng.choice(list(self._words.first))
        return self._made(language.parts, OTHER_POSITIVE_SHARE)

    def _made(self, templates: Mapping[str, list[str]], positive: float) -> Text:
        rng = self._rng
        made = self._filled(rng.choice(templates["positive" if rng.random() < positive else "negative"]))
        if rng.random() < 0.12:
            made = _joined(made, self._filled(rng.choice(templates["sentence"])), rng.random() < 0.5)
        return self._cased(self._marked(made))

    def _marked(self, made: Text) -> Text:
        """Now and then a mark at the head of every line."""
        if "\n" not in made.text or self._rng.random() > 0.08:
            return made
        mark = self._rng.choice(_LINE_MARKS)
        breaks = [-1, *(i for i, c in enumerate(made.text) if c == "\n")]
        moved = lambda at: at + len(mark) * sum(b < at for b in breaks)  # noqa: E731
        spans = tuple((moved(a), moved(b - 1) + 1, k) for a, b, k in made.spans)
        return Text(mark + made.text.replace("\n", "\n" + mark), spans)

    def _filled(self, template: str) -> Text:
        out: list[str] = []
        spans: list[tuple[int, int, str]] = []
        at = length = 0
        for match in SLOT.finditer(template):
            kind, make = self._fill[match.group(1)]
            value = make()
            literal = template[at : match.start()]
            out += [literal, value]
            length += len(literal)
            if kind is not None:
                spans.append((length, length + len(value), kind))
            length += len(value)
            at = match.end()
        out.append(template[at:])
        return Text("".join(out), tuple(spans))

    def _cased(self, made: Text) -> Text:
        chance = self._rng.random()
        text = made.text
        if chance < LOWER_SHARE:
            text = text.lower()
        elif chance < LOWER_SHARE + UPPER_SHARE:
            text = text.upper()
        return Text(text, made.spans) if len(text) == len(made.text) else made

    # -- people and places

    def _pick(self, table: dict[str, list[str]]) -> str:
        country = self._country if self._rng.random() < 0.8 else self._rng.choice(list(table))
        found = self._rng.choice(table.get(country) or table["en"])
        return self._invented(table) if self._rng.random() < INVENTED_SHARE else found

    def _invented(self, table: dict[str, list[str]]) -> str:
        """The head of one entry and the tail of another of the same country."""
        listed = table.get(self._country) or table["en"]
        first, second = self._rng.choice(listed), self._rng.choice(listed)
        cut = max(2, len(first) // 2 + self._rng.randrange(-1, 2))
        return (first[:cut] + second[len(second) // 2 :].lower()).strip(" -'.")

    def _first(self) -> str:
        name = self._pick(self._words.first)
        if self._rng.random() < 0.03:
            name += "-" + self._pick(self._words.first)
        return name

    def _last(self) -> str:
        name = self._pick(self._words.last)
        if self._rng.random() < 0.06:
            name += self._rng.choice("- ") + self._pick(self._words.last)
        return name

    def _person(self) -> str:
        rng, first, last = self._rng, self._first(), self._last()
        forms: list[tuple[float, Callable[[], str]]] = [
            (0.76, lambda: f"{first} {last}"),
            (0.83, lambda: f"{first} {rng.choice('ABCDEFGHIJKLMNOPRSTVW')}. {last}"),
            (0.87, lambda: f"{first[0]}. {last}"),
            (0.93, lambda: f"{first} {self._first()} {last}"),
            (0.96, lambda: f"{first} {last.upper()}"),
            (0.98, lambda: f"{last}, {first}"),
            (1.01, lambda: f"{first} {last} {rng.choice(('Jr.', 'Sr.', 'III', 'II'))}"),
        ]
        chance = rng.random()
        return next(make for limit, make in forms if chance < limit)()

    def _city(self) -> str:
        city = self._pick(self._words.city)
        return city.upper() if self._rng.random() < 0.04 else city

    def _org(self) -> str:
        rng, w = self._rng, self._words.templates
        common = lambda: rng.choice(self._words.common if rng.random() < 0.6 else _WORTHY).capitalize()  # noqa: E731
        forms: list[Callable[[], str]] = [
            lambda: rng.choice(w["org"]),
            lambda: rng.choice(w["org"]),
            lambda: f"{self._last()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{self._last()}, {self._last()} and {self._last()}",
            lambda: f"{self._last()}-{self._last()}",
            lambda: f"{self._last()} and Sons",
            lambda: f"{self._last()} {rng.choice(('&', 'and'))} {self._last()}{rng.choice(('', ' LLP', ' Ltd'))}",
            lambda: f"{common()} {common()}",
            lambda: f"{common()} {common()}",
            lambda: f"{common()} {common()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{common()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{common()} {common()} {common()}",
            lambda: common() + rng.choice(("", "", "-", ".")) + rng.choice(_WORTHY),
            lambda: common() + rng.choice(_WORTHY).capitalize(),
            lambda: common()[:5] + rng.choice(("ify", "ly", "r", "io", "ix", "zen", "scope", "graphy", "ware", "ista")),
            lambda: common() + rng.choice((".com", ".io", ".org", "")),
            lambda: f"{rng.choice(_DIVISIONS)} of {common()}{rng.choice(('', ' and ' + common(), ' ' + common()))}",
            lambda: f"{rng.choice(_DIVISIONS)} of {self._city()}",
            lambda: f"{self._city()} {rng.choice(_SITES).replace('_', ' ')}",
            lambda: f"{rng.choice(('St.', 'Saint', 'Mount'))} {self._first()}'s {rng.choice(_SITES).replace('_', ' ')}",
            lambda: f"The {common()} {rng.choice(('Company', 'Foundation', 'Project', 'Group', 'Times', 'Trust'))}",
            lambda: common() + rng.choice("0123456789"),
        ]
        return rng.choice(forms)()

    # -- addresses

    def _number(self) -> str:
        rng = self._rng
        number = str(rng.randrange(1, rng.choice((30, 200, 2000, 99999))))
        return number + (rng.choice("abcABCD") if rng.random() < 0.07 else "")

    def _street(self) -> str:
        rng, n = self._rng, self._number()
        name = rng.choice((self._last, self._first, self._city, self._word))()
        ordinal = f"{rng.randrange(1, 130)}{rng.choice(('st', 'nd', 'rd', 'th'))}"
        tail = rng.choice(_STREET_EN)
        english = [
            lambda: f"{n} {name} {tail}",
            lambda: f"{n} {name} {tail}",
            lambda: f"{n} {rng.choice('NSEW')} {name} {tail}",
            lambda: f"{n} {rng.choice(('North', 'South', 'East', 'West', 'Old', 'New', 'Upper'))} {name} {tail}",
            lambda: f"{n} {ordinal} {tail}",
            lambda: f"{name} {tail}",
            lambda: f"{name} {tail} {n}",
            lambda: f"{n} {name}",
        ]
        other = [
            lambda: f"{name}{rng.choice(('straße', 'strasse', 'str.', 'weg', 'platz', 'allee', 'gasse', 'ring'))} {n}",
            lambda: (
                f"{name}{rng.choice(('straat', 'laan', 'weg', 'plein', 'kade', 'steenweg', 'dreef', 'singel'))} {n}"
            ),
            lambda: (
                f"{name}{rng.choice(('gatan', 'vägen', 'vej', 'gade', 'veien', 'gata', 'katu', 'tie', 'allé'))} {n}"
            ),
            lambda: (
                f"{n} {rng.choice(('rue', 'avenue', 'boulevard', 'place', 'chemin', 'quai', 'allée'))} "
                f"{rng.choice(('', 'de la ', 'du ', 'des ', 'de '))}{name}"
            ),
            lambda: (
                f"{rng.choice(('Calle', 'Avenida', 'Plaza', 'Paseo', 'C/', 'Camino', 'Ronda', 'Av.'))} "
                f"{rng.choice(('', 'de ', 'de la ', 'del '))}{name}{rng.choice((', ', ' '))}{n}"
            ),
            lambda: (
                f"{rng.choice(('Via', 'Viale', 'Piazza', 'Corso', 'Vicolo', 'Strada', 'Largo'))} {name}"
                f"{rng.choice((', ', ' '))}{n}"
            ),
            lambda: (
                f"{rng.choice(('Rua', 'Avenida', 'Travessa', 'Praça', 'Estrada', 'R.'))} "
                f"{rng.choice(('', 'da ', 'do ', 'de '))}{name} {n}"
            ),
            lambda: (
                f"{rng.choice(('ul.', 'ulica', 'al.', 'pl.', 'ulitsa', 'prospekt', 'náměstí', 'ulice'))} {name} {n}"
            ),
            lambda: f"{name} {rng.choice(('utca', 'út', 'tér', 'körút', 'köz'))} {n}.",
            lambda: f"{rng.choice(('Strada', 'Bulevardul', 'Odos', 'Jalan', 'Jl.', 'Sokak'))} {name} {n}",
            lambda: f"{name} {rng.choice(('Caddesi', 'Sokak', 'Marg', 'Nagar', 'Dori', 'Road', 'Mahallesi'))} {n}",
            lambda: f"{name} {n}",
            lambda: f"P.O. Box {n}",
            lambda: f"PO Box {n}",
        ]
        return rng.choice(english if rng.random() < 0.45 else other)()

    def _word(self) -> str:
        return self._rng.choice(self._words.common).capitalize()

    def _unit(self) -> str:
        kind = self._rng.choice(
            _words("Apt. Apt Suite Ste. Unit Flat Floor Room # Apartment Building Block Box Wohnung")
        )
        return f"{kind} {self._rng.choice((str(self._rng.randrange(1, 999)), f'{self._rng.randrange(1, 60):03d}'))}"

    def _zip(self) -> str:
        rng = self._rng
        form = rng.choice(
            (
                *("ddddd", "ddddd", "ddddd", "ddddd-dddd", "dddd", "dddddd", "AAd dAA", "AdA dAd", "dddd AA"),
                *("dd-ddd", "dddd-ddd", "ddd dd", "ddddd-ddd", "Ad dAA", "AAdd dAA", "A-dddd"),
            )
        )
        return _shaped(form, rng)

    def _addr(self, breaks: bool = True) -> str:
        rng, w = self._rng, self._words
        gap = rng.choice((", ", ", ", " ", "\n", "\n ") if breaks else (", ", ", ", " "))
        parts = [self._street()]
        if rng.random() < 0.35:
            parts.append(self._unit())
        if rng.random() < 0.12:
            parts.reverse()
        city = self._city()
        form = rng.random()
        if form < 0.3:
            parts.append(f"{city}{rng.choice((', ', ' '))}{rng.choice(w.places['abbr'])} {self._zip()}")
        elif form < 0.55:
            parts.append(f"{self._zip()} {city}")
        elif form < 0.65:
            parts += [city, self._zip()]
        elif form < 0.75:
            parts += [f"{city} {rng.choice(w.places['region'])}"]
        else:
            parts.append(city)
        if rng.random() < 0.3:
            parts.append(rng.choice(w.places["country"]) + (f" {self._zip()}" if rng.random() < 0.3 else ""))
        if rng.random() < 0.04:
            return f"{rng.choice(('the corner of ', 'corner ', ''))}{self._street()} and {self._street()}"
        if rng.random() < 0.03:
            box = f"{rng.choice(('PSC', 'Unit'))} {rng.randrange(1000, 9999)}, Box {rng.randrange(100, 9999)}"
            post = f"{rng.choice(('APO', 'FPO', 'DPO'))} {rng.choice(('AA', 'AE', 'AP'))}"
            return f"{box}{gap}{post} {_shaped('ddddd', rng)}"
        return gap.join(parts)

    # -- numbers

    def _id(self) -> str:
        forms = _words(
            "dddddd ddddddd dddddddd ddddddddd dddddddddd Adddddd Addddddd AAdddddd AA-ddddd AAA-dddddd #dddddd "
            "Addddddddddd dd-dddddd dddd-dddd AAdddddA dd/dddd/dd Addd-ddd-ddd #Addddddd ddd-ddd-ddd aaadddd "
            "ADdddd-dd"
        )
        return _shaped(self._rng.choice(forms), self._rng)

    def _phone(self) -> str:
        forms = _phrases(
            "ddd-ddd-dddd|(ddd) ddd-dddd|ddd.ddd.dddd|+1 ddd ddd dddd|+44 dddd dddddd|0dddd dddddd|"
            "0ddd ddd dddd|+49 ddd ddddddd|0ddd/dddddd|0dd dd dd dd dd|+33 d dd dd dd dd|+34 ddd ddd ddd|"
            "ddd dd dd dd|ddd ddd ddd|dd ddd ddd|dd ddd dd dd|dddd dddd|dddd-dddd|(dd) dddd-dddd|(ddd) ddd ddd|"
            "+91 ddddd ddddd|0ddddddddd|ddddddddd|+351 ddd ddd ddd|+48 ddd ddd ddd|+46 dd-ddd dd dd|"
            "(0dd) dddd dddd|ddd-ddd-dddd xdddd|0ddd dd dd dd|dd dd dd dd|ddd-ddddddd|+dd ddd dddd|"
            "001-ddd-ddd-dddd"
        )
        return _shaped(self._rng.choice(forms), self._rng)

    def _dob(self) -> str:
        rng = self._rng
        y, m, d = rng.randrange(1930, 2012), rng.randrange(1, 13), rng.randrange(1, 29)
        month = _MONTHS[m - 1]
        return rng.choice(
            (
                *(f"{m}/{d}/{y}", f"{d:02d}/{m:02d}/{y}", f"{y}-{m:02d}-{d:02d}", f"{d}.{m}.{y}"),
                f"{d:02d}.{m:02d}.{y}",
                f"{month} {d}, {y}",
                f"{d} {month} {y}",
                f"{d}-{month[:3]}-{y}",
                f"{m}/{d}/{y % 100:02d}",
                f"{d}th of {month} {y}",
            )
        )

    # -- everything else

    def _frame(self, part: str) -> str:
        return self._filled(self._rng.choice(self._words.templates[part])).text

    def _of(self, part: str) -> str:
        if part in ("noun", "adj", "verb") and self._rng.random() < 0.25:
            return self._rng.choice(self._words.common)
        return self._rng.choice(self._words.templates[part])

    def _salad(self) -> str:
        rng, words = self._rng, []
        for _ in range(rng.randrange(2, 10)):
            words.append(rng.choice(_FUNCTION) if rng.random() < 0.45 else rng.choice(self._words.common))
        return " ".join(words)

    def _title(self) -> str:
        words = self._salad().split()[:5]
        return " ".join(w if w in _FUNCTION and self._rng.random() < 0.7 else w.capitalize() for w in words)

    def _name(self, gap: str, capital: bool) -> str:
        words = [self._rng.choice(self._words.common) for _ in range(self._rng.randrange(1, 4))]
        return gap.join(w.capitalize() if capital else w for w in words)

    def _slots_of(self, language: Language) -> dict[str, Slot]:
        return Speaker(language, self._rng, lambda template: self._filled(template).text).slots(self._english)

    def _slots(self) -> dict[str, Slot]:
        rng, w = self._rng, self._words
        n = lambda a, b: str(rng.randrange(a, b))  # noqa: E731
        plain: dict[str, Callable[[], str]] = {
            "title": lambda: rng.choice(_words("Mr Mrs Ms Dr Mr. Mrs. Ms. Dr. Prof. Professor Miss Sir Madam")),
            "pronoun": lambda: rng.choice(("me", "him", "her", "them")),
            "pronoun2": lambda: rng.choice(("He", "She", "They")),
            "num": lambda: n(1, rng.choice((10, 100, 1000))),
            "year": lambda: n(1950, 2030),
            "age": lambda: n(18, 99),
            "amount": lambda: rng.choice(("$", "€", "£", "")) + n(1, 5000) + rng.choice(("", ".99", ".50", ",000")),
            "time": lambda: f"{n(0, 24)}:{rng.randrange(60):02d}",
            "date": lambda: rng.choice(
                (
                    f"{n(2018, 2030)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
                    f"{rng.choice(_MONTHS)} {n(1, 29)}",
                    f"{n(1, 29)} {rng.choice(_MONTHS)} {n(2018, 2030)}",
                )
            ),
            "weekday": lambda: rng.choice(_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday tomorrow")),
            "email": lambda: f"{self._first()}.{self._last()}@{rng.choice(_WORTHY)}.com".lower().replace(" ", ""),
            "user": lambda: self._first().lower().replace(" ", "") + n(1, 99),
            "ip": lambda: ".".join(n(1, 255) for _ in range(4)),
            "card": lambda: _shaped("4ddd dddd dddd dddd", rng),
            "iban": lambda: _shaped("DEdddddddddddddddddddd", rng),
            "sentence": lambda: self._frame("sentence"),
            "question": lambda: self._frame("question"),
            "salad": self._salad,
            "Salad": lambda: self._salad().capitalize(),
            "Title": self._title,
            "TITLE": lambda: self._title().upper(),
            "labels": lambda: ", ".join(self._name("_", False) for _ in range(rng.randrange(2, 9))),
            "acro": lambda: rng.choice(_ACRONYMS) if rng.random() < 0.8 else _shaped("AAA", rng),
            "hex": lambda: "".join(rng.choice("0123456789abcdef") for _ in range(rng.choice((8, 12, 24, 32, 40)))),
            "blob": lambda: "".join(rng.choice(_BLOB) for _ in range(rng.randrange(20, 90))),
            "long": lambda: n(10**9, 2 * 10**9),
            "snake": lambda: self._name("_", False),
            "Camel": lambda: self._name("", True),
        }
        for part in ("noun", "verb", "adj", "job"):
            plain[part] = lambda p=part: self._of(p)  # type: ignore[misc]
            plain[part.capitalize()] = lambda p=part: self._of(p).capitalize()  # type: ignore[misc]
            plain[part.upper()] = lambda p=part: self._of(p).upper()  # type: ignore[misc]
        kinds: dict[str, tuple[str, Callable[[], str]]] = {
            "person": ("name", self._person),
            "first": ("name", self._first),
            "last": ("name", self._last),
            "org": ("organisation", self._org),
            "city": ("place", self._city),
            "country": ("place", lambda: rng.choice(w.places["country"])),
            "region": ("place", lambda: rng.choice(w.places["region"])),
            "abbr": ("address", lambda: rng.choice(w.places["abbr"])),
            "addr": ("address", self._addr),
            "addr1": ("address", lambda: self._addr(breaks=False)),
            "street": ("address", self._street),
            "unit": ("address", self._unit),
            "zip": ("address", self._zip),
            "id": ("record_number", self._id),
            "phone": ("phone", self._phone),
            "dob": ("date_of_birth", self._dob),
        }
        return {**{k: (None, v) for k, v in plain.items()}, **kinds}


_BLOB = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_MONTHS = _words("January February March April May June July August September October November December")


def _shaped(form: str, rng: random.Random) -> str:
    """`d` a digit, `A` and `a` letters; the rest as it is."""
    sorts = {"d": "0123456789", "A": "ABCDEFGHJKLMNPRSTUVWXYZ", "a": "abcdefghijkmnpqrstuvwxyz"}
    return "".join(rng.choice(sorts[c]) if c in sorts else c for c in form)


def _joined(first: Text, second: Text, turned: bool) -> Text:
    if turned:
        return _joined(second, first, False)
    shift = len(first.text) + 1
    moved = tuple((a + shift, b + shift, k) for a, b, k in second.spans)
    return Text(f"{first.text} {second.text}", first.spans + moved)
