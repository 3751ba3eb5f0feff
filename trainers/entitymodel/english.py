"""English words as they stand in texts, and what fills each slot of an English template.

Deterministic by the generator's `random.Random`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from entitymodel.languages import Slot
from entitymodel.lists import Lists
from entitymodel.values import MONTHS, WORTHY, Values, shaped, words_of

_ACRONYMS = words_of(
    "AI API ATM AWS CEO CFO CPU CSS CSV DNS EUR FAQ FTP GBP GDP GPS GPU GUI HTML HTTP HTTPS ID IDE IP IT "
    "JSON KYC LED LLM LTE MFA ML NLP OCR OK OS OTP PC PDF PHP PIN PNG POS PR QA QR RAM RPC SDK SEO SIM "
    "SLA SMS SQL SSH SSL TODO TV UI URI URL USB USD UTC UUID VAT VAT VIN VM VPN WIFI XML YAML ZIP ASAP "
    "FYI ETA EOF NULL TRUE CHF JPY INR AUD CAD SEPA SWIFT"
)
_FUNCTION = words_of(
    "the a an of to in and for is on that with as it was at by from this be are or not have has which you "
    "but can if will they we all more one about so when no out up into do any your what there than them "
    "only some could"
)
_BLOB = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class English:
    """`text_of` fills a template."""

    def __init__(self, lists: Lists, values: Values, rng: random.Random, text_of: Callable[[str], str]) -> None:
        self._lists, self._values, self._rng, self._text_of = lists, values, rng, text_of

    def _frame(self, part: str) -> str:
        return self._text_of(self._rng.choice(self._lists.templates[part]))

    def _of(self, part: str) -> str:
        if part in ("noun", "adj", "verb") and self._rng.random() < 0.25:
            return self._rng.choice(self._lists.common)
        return self._rng.choice(self._lists.templates[part])

    def _salad(self) -> str:
        rng, words = self._rng, []
        for _ in range(rng.randrange(2, 10)):
            words.append(rng.choice(_FUNCTION) if rng.random() < 0.45 else rng.choice(self._lists.common))
        return " ".join(words)

    def _title(self) -> str:
        words = self._salad().split()[:5]
        return " ".join(w if w in _FUNCTION and self._rng.random() < 0.7 else w.capitalize() for w in words)

    def _name(self, gap: str, capital: bool) -> str:
        words = [self._rng.choice(self._lists.common) for _ in range(self._rng.randrange(1, 4))]
        return gap.join(w.capitalize() if capital else w for w in words)

    def slots(self) -> dict[str, Slot]:
        """What fills each slot of a template."""
        rng, w = self._rng, self._lists
        n = lambda a, b: str(rng.randrange(a, b))  # noqa: E731
        plain: dict[str, Callable[[], str]] = {
            "title": lambda: rng.choice(words_of("Mr Mrs Ms Dr Mr. Mrs. Ms. Dr. Prof. Professor Miss Sir Madam")),
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
                    f"{rng.choice(MONTHS)} {n(1, 29)}",
                    f"{n(1, 29)} {rng.choice(MONTHS)} {n(2018, 2030)}",
                )
            ),
            "weekday": lambda: rng.choice(
                words_of("Monday Tuesday Wednesday Thursday Friday Saturday Sunday tomorrow")
            ),
            "email": lambda: f"{self._values.first()}.{self._values.last()}@{rng.choice(WORTHY)}.com".lower().replace(
                " ", ""
            ),
            "user": lambda: self._values.first().lower().replace(" ", "") + n(1, 99),
            "ip": lambda: ".".join(n(1, 255) for _ in range(4)),
            "card": lambda: shaped("4ddd dddd dddd dddd", rng),
            "iban": lambda: shaped("DEdddddddddddddddddddd", rng),
            "sentence": lambda: self._frame("sentence"),
            "question": lambda: self._frame("question"),
            "salad": self._salad,
            "Salad": lambda: self._salad().capitalize(),
            "Title": self._title,
            "TITLE": lambda: self._title().upper(),
            "labels": lambda: ", ".join(self._name("_", False) for _ in range(rng.randrange(2, 9))),
            "acro": lambda: rng.choice(_ACRONYMS) if rng.random() < 0.8 else shaped("AAA", rng),
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
            "person": ("name", self._values.person),
            "first": ("name", self._values.first),
            "last": ("name", self._values.last),
            "org": ("organisation", self._values.org),
            "city": ("place", self._values.city),
            "country": ("place", lambda: rng.choice(w.places["country"])),
            "region": ("place", lambda: rng.choice(w.places["region"])),
            "abbr": ("address", lambda: rng.choice(w.places["abbr"])),
            "addr": ("address", self._values.address),
            "addr1": ("address", lambda: self._values.address(breaks=False)),
            "street": ("address", self._values.street),
            "unit": ("address", self._values.unit),
            "zip": ("address", self._values.postcode),
            "id": ("record_number", self._values.record_number),
            "phone": ("phone", self._values.phone),
            "dob": ("date_of_birth", self._values.date_of_birth),
        }
        return {**{k: (None, v) for k, v in plain.items()}, **kinds}
