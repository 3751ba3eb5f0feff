"""What stands for a value: one person stays one person, one number one number, and nothing of the log comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slmfleet.curation.checksums import NATIONAL
from slmfleet.curation.detect import Detector
from slmfleet.curation.redact import Redactor
from slmfleet.curation.redact_file import redact_file
from slmfleet.curation.surrogates import Cast
from slmfleet.curation.tenant import detector_of

EXAMPLES = {
    "us_ssn": "123-45-6789", "uk_nino": "AB123456C", "fr_nir": "2 95 10 99 126 111 93", "es_dni": "54362315K",
    "br_cpf": "390.533.447-05", "de_tax_id": "36 574 261 809", "in_aadhaar": "2341 2341 2346", "ca_sin": "123-456-782",
}  # fmt: skip


def cast(*taken: str) -> Cast:
    return Cast("0/c", lambda low: low in taken)


def redacted(*texts: str, conversation: str = "c") -> list[str]:
    redactor = Redactor(detector=Detector())
    for text in texts:
        redactor.learn(conversation, text)
    made = [redactor.redact(conversation, text) for text in texts]
    assert [kind for text in made for kind in redactor.leaks(text)] == []
    return made


def test_a_person_stays_one_person_however_the_name_is_written() -> None:
    first, whole, turned, upper, owner, alone = redacted(
        "Hi, my name is Xaver Quandt and I need help",
        '{"customer": "Xaver Quandt"}',
        "Quandt, Xaver",
        "XAVER QUANDT",
        "so quandt's card",
        "Thanks Xaver!",
    )
    name = json.loads(whole)["customer"]
    given, family = name.split()
    assert f"my name is {name} and" in first
    assert (turned, upper, owner, alone) == (
        f"{family}, {given}",
        name.upper(),
        f"so {family.lower()}'s card",
        f"Thanks {given}!",
    )
    assert name != "Xaver Quandt"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.1.11.5", "10.11.1.5"),
        ("10.0.1.12", "10.0.11.2"),
        ("a.berg@corp.com", "ab.erg@corp.com"),
        ("anna_berg@corp.com", "annaberg@corp.com"),
    ],
)
def test_two_values_that_differ_by_their_separators_stay_two(one: str, other: str) -> None:
    (made,) = redacted(f"from {one} to {other} and {one.upper()}")
    _, first, _, second, _, third = made.split()
    assert first != second and first == third


def test_an_address_of_a_person_holds_the_persons_name() -> None:
    mail, name = redacted("write to xaver.quandt@corp.com", "my name is Xaver Quandt.")
    given, family = name.removeprefix("my name is ").rstrip(".").lower().split()
    assert re.search(rf"{given}\.{family}@example\.(com|org|net)", mail)


def test_a_number_stays_one_number_whatever_stands_between_its_digits() -> None:
    spaced, bare = redacted("card 4111 1111 1111 1111", '{"card": "4111111111111111"}')
    assert spaced.removeprefix("card ").replace(" ", "") == json.loads(bare)["card"]


def test_two_ways_of_writing_a_day_stay_one_day() -> None:
    one, other, words = redacted("born on 12/03/1984", '{"dob": "1984-03-12"}', "date of birth: March 12, 1984")
    a, b, year = re.findall(r"\d+", one)
    assert json.loads(other)["dob"] == f"{year}-{b}-{a}"
    assert words.endswith(f"{int(a)}, {year}") and (a, b, year) != ("12", "03", "1984")


def test_a_common_word_that_is_also_a_name_is_left_alone_where_it_is_a_word() -> None:
    _, text = redacted("my name is Will Power.", "i will pay with the power of the card")
    assert text == "i will pay with the power of the card"


def test_a_first_zero_stays_and_no_other_digit_becomes_one() -> None:
    for text in ('{"account_id": 100200300400}', '{"account_id": "0012345678"}'):
        (made,) = redacted(text)
        value = json.loads(made)["account_id"]
        assert type(value) is type(json.loads(text)["account_id"]) and len(str(value)) == len(
            str(json.loads(text)["account_id"])
        )


@pytest.mark.parametrize(("kind", "value"), sorted(EXAMPLES.items()))
def test_a_national_number_becomes_another_one_of_its_form(kind: str, value: str) -> None:
    made = cast().surrogate(kind, value)
    form, check = next((form, check) for k, form, check in NATIONAL if k == kind)
    assert made != value and re.fullmatch(form, made)
    assert kind == "us_ssn" or check(made)


def test_no_surrogate_is_a_value_of_the_log() -> None:
    taken = {"tamo", "alex", "robin", "kaja", "austria"}
    made = {cast(*taken).surrogate("name", name).lower() for name in ("Xaver", "Anna", "Omar", "Ling")}
    countries = {cast(*taken).surrogate("place", c).lower() for c in ("France", "Peru", "Kenya")}
    assert not taken & (made | countries)


def test_two_values_never_become_one() -> None:
    one = cast()
    names = [f"Name{chr(97 + i)}{chr(97 + j)}" for i in range(26) for j in range(4)]
    assert len({one.surrogate("name", n) for n in names}) == len(names)
    numbers = [f"+49 170 12345{i:02d}" for i in range(60)]
    assert len({one.surrogate("phone", n) for n in numbers}) == len(numbers)


def test_another_conversation_has_another_cast_and_the_same_seed_the_same() -> None:
    here, again, there = (Cast(k, lambda low: False) for k in ("0/a", "0/a", "0/b"))
    names = ["Xaver Quandt", "Anna Berg", "Omar Haddad"]
    assert [here.surrogate("name", n) for n in names] == [again.surrogate("name", n) for n in names]
    assert [here.surrogate("name", n) for n in names] != [there.surrogate("name", n) for n in names]


@example("date_of_birth", "²")
@given(
    st.sampled_from(["name", "place", "address", "organisation", "phone", "date_of_birth", "email", "api_key"]),
    st.text(),
)
@settings(max_examples=60, deadline=None)
def test_any_value_gets_one_surrogate(kind: str, value: str) -> None:
    one = cast()
    assert one.surrogate(kind, value) == one.surrogate(kind, value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20)
    | st.sampled_from(["Xaver Quandt", "4111 1111 1111 1111", "anna@corp.com", "my name is Xaver Quandt"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(_JSON, st.booleans())
@settings(max_examples=50, deadline=None)
def test_json_stays_json_with_its_keys(value: object, ascii_only: bool) -> None:
    text = json.dumps({"data": value}, ensure_ascii=ascii_only)
    redactor = Redactor(detector=Detector())
    redactor.learn("c", "my name is Xaver Quandt")
    redactor.learn("c", text)
    made = json.loads(redactor.redact("c", text))
    assert _shape(made) == _shape(json.loads(text))


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {k: _shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shape(v) for v in value]
    return type(value)


def test_the_log_is_searched_for_what_any_conversation_told(tmp_path: Path) -> None:
    lines = [
        {"id": "1", "conversation": "a", "text": "my name is Xaver Quandt, ssn 123-45-6789"},
        {"id": "2", "conversation": "b", "text": "Xaver Quandt again; number 123-45-6789"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), "utf-8")
    found = redact_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "r.json", 0, detector_of("none"))
    text = (tmp_path / "out.jsonl").read_text("utf-8")
    assert "Quandt" not in text and "123-45-6789" not in text and found.leaks == 0
    assert found.not_covered[0].startswith("no model was used")
    assert list(json.loads((tmp_path / "r.json").read_text("utf-8")))[:2] == ["schema", "not_covered"]
