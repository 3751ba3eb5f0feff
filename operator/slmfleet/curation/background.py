"""Foreign texts that a log does not hold: what people ask agents about in other fields, from templates.

A classifier that has only seen its own tasks takes any polite first-person question for one of them. These lines teach
it that the politeness is nobody's. A field that the log's own tasks talk about is left out, whatever it is. Written by
hand for this project; no data set stands behind it, and it is English only: a log in another language gets nothing
from it and nothing taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

LINES = 1_800
_FIELDS = {
    "shopping": "order parcel refund shoes jacket coupon basket size return sweater delivery warehouse gift wishlist",
    "travel": "flight luggage passport visa boarding airport hotel layover itinerary seat cruise gate suitcase",
    "insurance": "policy claim premium deductible coverage accident adjuster quote vehicle roof liability beneficiary",
    "health": "appointment doctor prescription allergy vaccine clinic symptom dosage blood nurse dentist therapy",
    "telecom": "router broadband signal modem roaming sim handset outage voicemail bandwidth landline antenna",
    "computing": "password laptop printer driver update browser file folder server backup login screen keyboard",
    "software": "function class exception test repository branch compile deploy endpoint query index thread loop array",
    "staff": "payslip vacation contract manager overtime training onboarding resignation badge shift salary review",
    "school": "homework lecture exam essay grade campus tuition professor library semester thesis scholarship",
    "law": "lawsuit clause tenant lease attorney court signature witness notary patent trademark plaintiff",
    "housing": "apartment landlord rent heating window neighbour lease plumber kitchen elevator mortgage deposit",
    "energy": "meter electricity gas bill solar tariff outage boiler thermostat reading consumption grid",
    "cooking": "recipe oven flour onion sauce boil chicken spice dessert vegan butter pan vegetable soup",
    "sport": "match league goal coach training tournament score season stadium injury referee champion",
    "music": "song album playlist concert guitar lyrics band singer melody track drummer piano",
    "weather": "rain forecast temperature storm wind snow humidity sunny cloudy freezing degrees umbrella",
    "film": "movie director actor scene cinema trailer episode series screenplay theatre animation ticket",
    "banking": "card account transfer payment bank cash balance currency transaction loan interest withdrawal",
    "dining": "restaurant table reservation menu waiter dinner brunch bistro cuisine party bar lunch",
    "science": "experiment molecule theory equation particle sample laboratory hypothesis galaxy enzyme data energy",
    "mathematics": "number sum triangle fraction equation percent average probability apples speed area total",
    "news": "election government minister economy market company shares report crisis industry president budget",
    "driving": "car engine tyre brake mileage garage fuel parking licence mechanic battery windshield road",
    "family": "daughter birthday wedding grandmother baby dog holiday present friend party garden toy",
}
_FORMS = (
    "I would like to know about my {a}.",
    "hi, i need some help with the {a} please",
    "Can you tell me how the {a} works with a {b}?",
    "My {a} is not working and the {b} is wrong.",
    "What should I do if the {a} has no {b}?",
    "how do i change my {a}",
    "I have a problem with my {a}, it says the {b} is missing. What now?",
    "Why was my {a} declined after the {b}?",
    "yes, my {a} number is {n} and the {b} is from {m}",
    "Thanks! I also want to update the {a} and cancel the {b}.",
    "Okay, that sounds good. What about the {a}?",
    "Yeah, I'm calling about the {a} that I got last week.",
    "Is there a way to get the {a} without a {b}?",
    "Write a short text about the {a} and the {b}.",
    "Translate the following sentence: the {a} is near the {b}.",
    "Summarise this: The {a} was discussed. The {b} came later, and the {c} was agreed.",
    "find the best {a} for a {b}",
    "show me {n} {a} with {b}",
    "Explain the difference between a {a} and a {b}.",
    "What is the {a} of the {b}?",
    "Calculate the {a} for {n} {b} and {m} {c}.",
    "If the {a} has {n} {b} and each {b} costs {m} dollars, how much is the {c}?",
    "The {a} is {n} and the {b} is {m}; the {c} followed in the evening.",
    "Please remind me about the {a} on Friday at {n}.",
    "Could you check whether my {a} went through? I still see the {b}.",
    "who invented the {a} and when was the first {b}",
    "I forgot my {a}.",
    "No, I never got the {a}, only the {b}.",
    "add a {a} to the {b}",
    "Given the {a} below, list every {b}.",
    "My name is {p} and I moved the {a} to the {b} in {q}.",
    "You said the {a} would be ready. Where is it?",
    "set the {a} to {n}",
    "good morning, {p} here, the {a} needs a new {b}",
)
_PEOPLE = ("Anna", "Mr. Becker", "Omar", "Li Wei", "Carla Gomez", "Ivan", "Priya", "Tom")
_PLACES = ("Oslo", "Texas", "the north", "Lima", "Kyoto", "the city centre", "Nairobi", "France")


class _HasFrame(Protocol):
    @property
    def frame(self) -> Any: ...


def background_texts(members: Sequence[_HasFrame], rng: np.random.Generator) -> list[str]:
    """LINES seeded lines from the fields that the members do not talk about."""
    said = [m.frame.user.lower() for m in members[:: max(1, len(members) // 3_000)]]
    fields = [words for words in (f.split() for f in _FIELDS.values()) if not _talked_about(words, said)]
    if not fields:
        return []
    lines = []
    for _ in range(LINES):
        words = fields[int(rng.integers(len(fields)))]
        a, b, c = (words[int(i)] for i in rng.choice(len(words), 3, replace=False))
        form = _FORMS[int(rng.integers(len(_FORMS)))]
        lines.append(
            form.format(
                a=a,
                b=b,
                c=c,
                n=int(rng.integers(2, 90)),
                m=int(rng.integers(2, 2_000)),
                p=_PEOPLE[int(rng.integers(len(_PEOPLE)))],
                q=_PLACES[int(rng.integers(len(_PLACES)))],
            )
        )
    return lines


def _talked_about(words: Sequence[str], said: Sequence[str]) -> bool:
    """A third of a field's words each in one of two hundred texts, or any of them in one of fifteen."""
    if not said:
        return False
    counts = [sum(1 for text in said if word in text) / len(said) for word in words]
    return sum(c >= 0.005 for c in counts) >= len(words) / 3 or max(counts) >= 1 / 15
