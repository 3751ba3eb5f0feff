"""Values that texts are about, of every country of the lists: names, organisations, addresses in the forms of many post
offices, record numbers, telephone numbers, dates of birth.

A share of the names is put together from parts of real ones. Deterministic by the generator's `random.Random`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from entitymodel.lists import Lists

INVENTED_SHARE = 0.3


def words_of(text: str) -> list[str]:
    """The words of a text, which a list is easier to read as."""
    return text.split()


def _phrases(text: str) -> list[str]:
    return text.split("|")


def shaped(form: str, rng: random.Random) -> str:
    """`d` a digit, `A` and `a` letters; the rest as it is."""
    sorts = {"d": "0123456789", "A": "ABCDEFGHJKLMNPRSTUVWXYZ", "a": "abcdefghijkmnpqrstuvwxyz"}
    return "".join(rng.choice(sorts[c]) if c in sorts else c for c in form)


_STREET_EN = words_of(
    "Street St St. Road Rd Rd. Avenue Ave Ave. Lane Ln Drive Dr Court Ct Boulevard Blvd Way Place Pl "
    "Square Terrace Crescent Close Hill Highway Hwy Parkway Circle Trail Row Mews Gardens Grove Alley "
    "Esplanade Parade"
)
_ORG_TAIL = words_of(
    "Inc Inc. LLC Ltd Ltd. Limited PLC Corp Corp. Corporation Group Holdings GmbH AG SE KG SA S.A. SARL "
    "SpA S.p.A. BV NV AB ApS Oy A/S & Co. & Sons & Partners Associates Solutions Systems Technologies "
    "Consulting Services Partners Labs Studio Media Industries Logistics Pharma Foods Energy Capital "
    "Ventures Insurance Bank Software Analytics"
)
WORTHY = words_of(
    "data cloud open smart blue solar green global first next bright clear deep fast gold home iron land "
    "map net north ocean path prime pure quick river rock sky snow star stone sun swift true urban vita "
    "wave wind wise zen geo care health farm fund trust legal market move work play trade travel safe "
    "secure better civic govern code vote census garden vista buena maintenance logic metric graph spark "
    "nova terra aero hydro bio nano micro macro meta"
)
_DIVISIONS = words_of(
    "Department Ministry Office Bureau Institute University College Academy Museum Bank Church Society "
    "Association Federation Council Committee Chamber Agency Center Centre School Foundation"
)
_SITES = words_of(
    "Hospital University Bank School College Clinic Hotel Museum Library Church Restaurant Café Theatre "
    "Stadium Medical_Center Primary_School High_School Credit_Union Savings_Bank Country_Club "
    "Football_Club Pharmacy General_Hospital Public_Library Bakery Times Post Herald Records"
)
MONTHS = words_of("January February March April May June July August September October November December")


class Values:
    """`country`: whose names and cities are drawn on most."""

    def __init__(self, lists: Lists, rng: random.Random) -> None:
        self._lists, self._rng = lists, rng
        self.country = "en"

    # -- people and places

    def _pick(self, table: dict[str, list[str]]) -> str:
        country = self.country if self._rng.random() < 0.8 else self._rng.choice(list(table))
        found = self._rng.choice(table.get(country) or table["en"])
        return self._invented(table) if self._rng.random() < INVENTED_SHARE else found

    def _invented(self, table: dict[str, list[str]]) -> str:
        """The head of one entry and the tail of another of the same country."""
        listed = table.get(self.country) or table["en"]
        first, second = self._rng.choice(listed), self._rng.choice(listed)
        cut = max(2, len(first) // 2 + self._rng.randrange(-1, 2))
        return (first[:cut] + second[len(second) // 2 :].lower()).strip(" -'.")

    def first(self) -> str:
        """A first name, now and then a double one."""
        name = self._pick(self._lists.first)
        if self._rng.random() < 0.03:
            name += "-" + self._pick(self._lists.first)
        return name

    def last(self) -> str:
        """A last name, now and then a double one."""
        name = self._pick(self._lists.last)
        if self._rng.random() < 0.06:
            name += self._rng.choice("- ") + self._pick(self._lists.last)
        return name

    def person(self) -> str:
        """A whole name in one of the orders that people write it."""
        rng, first, last = self._rng, self.first(), self.last()
        forms: list[tuple[float, Callable[[], str]]] = [
            (0.76, lambda: f"{first} {last}"),
            (0.83, lambda: f"{first} {rng.choice('ABCDEFGHIJKLMNOPRSTVW')}. {last}"),
            (0.87, lambda: f"{first[0]}. {last}"),
            (0.93, lambda: f"{first} {self.first()} {last}"),
            (0.96, lambda: f"{first} {last.upper()}"),
            (0.98, lambda: f"{last}, {first}"),
            (1.01, lambda: f"{first} {last} {rng.choice(('Jr.', 'Sr.', 'III', 'II'))}"),
        ]
        chance = rng.random()
        return next(make for limit, make in forms if chance < limit)()

    def city(self) -> str:
        """A city."""
        city = self._pick(self._lists.city)
        return city.upper() if self._rng.random() < 0.04 else city

    def org(self) -> str:
        """A company, an institution, a product's maker."""
        rng, w = self._rng, self._lists.templates
        common = lambda: rng.choice(self._lists.common if rng.random() < 0.6 else WORTHY).capitalize()  # noqa: E731
        forms: list[Callable[[], str]] = [
            lambda: rng.choice(w["org"]),
            lambda: rng.choice(w["org"]),
            lambda: f"{self.last()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{self.last()}, {self.last()} and {self.last()}",
            lambda: f"{self.last()}-{self.last()}",
            lambda: f"{self.last()} and Sons",
            lambda: f"{self.last()} {rng.choice(('&', 'and'))} {self.last()}{rng.choice(('', ' LLP', ' Ltd'))}",
            lambda: f"{common()} {common()}",
            lambda: f"{common()} {common()}",
            lambda: f"{common()} {common()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{common()} {rng.choice(_ORG_TAIL)}",
            lambda: f"{common()} {common()} {common()}",
            lambda: common() + rng.choice(("", "", "-", ".")) + rng.choice(WORTHY),
            lambda: common() + rng.choice(WORTHY).capitalize(),
            lambda: common()[:5] + rng.choice(("ify", "ly", "r", "io", "ix", "zen", "scope", "graphy", "ware", "ista")),
            lambda: common() + rng.choice((".com", ".io", ".org", "")),
            lambda: f"{rng.choice(_DIVISIONS)} of {common()}{rng.choice(('', ' and ' + common(), ' ' + common()))}",
            lambda: f"{rng.choice(_DIVISIONS)} of {self.city()}",
            lambda: f"{self.city()} {rng.choice(_SITES).replace('_', ' ')}",
            lambda: f"{rng.choice(('St.', 'Saint', 'Mount'))} {self.first()}'s {rng.choice(_SITES).replace('_', ' ')}",
            lambda: f"The {common()} {rng.choice(('Company', 'Foundation', 'Project', 'Group', 'Times', 'Trust'))}",
            lambda: common() + rng.choice("0123456789"),
        ]
        return rng.choice(forms)()

    # -- addresses

    def _number(self) -> str:
        rng = self._rng
        number = str(rng.randrange(1, rng.choice((30, 200, 2000, 99999))))
        return number + (rng.choice("abcABCD") if rng.random() < 0.07 else "")

    def street(self) -> str:
        """A street and number in the form of one of many countries."""
        rng, n = self._rng, self._number()
        name = rng.choice((self.last, self.first, self.city, self.word))()
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

    def word(self) -> str:
        """A common word with a capital."""
        return self._rng.choice(self._lists.common).capitalize()

    def unit(self) -> str:
        """What stands beside a street: a flat, a floor, a box."""
        kind = self._rng.choice(
            words_of("Apt. Apt Suite Ste. Unit Flat Floor Room # Apartment Building Block Box Wohnung")
        )
        return f"{kind} {self._rng.choice((str(self._rng.randrange(1, 999)), f'{self._rng.randrange(1, 60):03d}'))}"

    def postcode(self) -> str:
        """A postcode in the form of one of many countries."""
        rng = self._rng
        form = rng.choice(
            (
                *("ddddd", "ddddd", "ddddd", "ddddd-dddd", "dddd", "dddddd", "AAd dAA", "AdA dAd", "dddd AA"),
                *("dd-ddd", "dddd-ddd", "ddd dd", "ddddd-ddd", "Ad dAA", "AAdd dAA", "A-dddd"),
            )
        )
        return shaped(form, rng)

    def address(self, breaks: bool = True) -> str:
        """A whole address; `breaks`: it may go over several lines."""
        rng, w = self._rng, self._lists
        gap = rng.choice((", ", ", ", " ", "\n", "\n ") if breaks else (", ", ", ", " "))
        parts = [self.street()]
        if rng.random() < 0.35:
            parts.append(self.unit())
        if rng.random() < 0.12:
            parts.reverse()
        city = self.city()
        form = rng.random()
        if form < 0.3:
            parts.append(f"{city}{rng.choice((', ', ' '))}{rng.choice(w.places['abbr'])} {self.postcode()}")
        elif form < 0.55:
            parts.append(f"{self.postcode()} {city}")
        elif form < 0.65:
            parts += [city, self.postcode()]
        elif form < 0.75:
            parts += [f"{city} {rng.choice(w.places['region'])}"]
        else:
            parts.append(city)
        if rng.random() < 0.3:
            parts.append(rng.choice(w.places["country"]) + (f" {self.postcode()}" if rng.random() < 0.3 else ""))
        if rng.random() < 0.04:
            return f"{rng.choice(('the corner of ', 'corner ', ''))}{self.street()} and {self.street()}"
        if rng.random() < 0.03:
            box = f"{rng.choice(('PSC', 'Unit'))} {rng.randrange(1000, 9999)}, Box {rng.randrange(100, 9999)}"
            post = f"{rng.choice(('APO', 'FPO', 'DPO'))} {rng.choice(('AA', 'AE', 'AP'))}"
            return f"{box}{gap}{post} {shaped('ddddd', rng)}"
        return gap.join(parts)

    # -- numbers

    def record_number(self) -> str:
        """A number of an order, a case, a policy."""
        forms = words_of(
            "dddddd ddddddd dddddddd ddddddddd dddddddddd Adddddd Addddddd AAdddddd AA-ddddd AAA-dddddd #dddddd "
            "Addddddddddd dd-dddddd dddd-dddd AAdddddA dd/dddd/dd Addd-ddd-ddd #Addddddd ddd-ddd-ddd aaadddd "
            "ADdddd-dd"
        )
        return shaped(self._rng.choice(forms), self._rng)

    def phone(self) -> str:
        """A telephone number."""
        forms = _phrases(
            "ddd-ddd-dddd|(ddd) ddd-dddd|ddd.ddd.dddd|+1 ddd ddd dddd|+44 dddd dddddd|0dddd dddddd|"
            "0ddd ddd dddd|+49 ddd ddddddd|0ddd/dddddd|0dd dd dd dd dd|+33 d dd dd dd dd|+34 ddd ddd ddd|"
            "ddd dd dd dd|ddd ddd ddd|dd ddd ddd|dd ddd dd dd|dddd dddd|dddd-dddd|(dd) dddd-dddd|(ddd) ddd ddd|"
            "+91 ddddd ddddd|0ddddddddd|ddddddddd|+351 ddd ddd ddd|+48 ddd ddd ddd|+46 dd-ddd dd dd|"
            "(0dd) dddd dddd|ddd-ddd-dddd xdddd|0ddd dd dd dd|dd dd dd dd|ddd-ddddddd|+dd ddd dddd|"
            "001-ddd-ddd-dddd"
        )
        return shaped(self._rng.choice(forms), self._rng)

    def date_of_birth(self) -> str:
        """A date between 1930 and 2011."""
        rng = self._rng
        y, m, d = rng.randrange(1930, 2012), rng.randrange(1, 13), rng.randrange(1, 29)
        month = MONTHS[m - 1]
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
