"""Numbers of states and banks: what passes, and what a wrong digit does."""

from __future__ import annotations

import pytest

from slmfleet.curation.checksums import NATIONAL
from slmfleet.curation.personal import find

# Values published as examples by the issuers or in the descriptions of the checks.
VALID = [
    ("us_ssn", "123-45-6789"),
    ("uk_nino", "AB123456C"),
    ("uk_nhs", "943 476 5919"),
    ("de_tax_id", "36 574 261 809"),
    ("fr_nir", "2 95 10 99 126 111 93"),
    ("es_dni", "54362315K"),
    ("es_dni", "X-2482300W"),
    ("it_fiscal_code", "RCCMNL83S18D969H"),
    ("pl_pesel", "44051401359"),
    ("br_cpf", "390.533.447-05"),
    ("br_cpf", "39053344705"),
    ("br_cnpj", "16.727.230/0001-97"),
    ("in_aadhaar", "2341 2341 2346"),
    ("in_pan", "ACUPA7085R"),
    ("se_personnummer", "880320-0016"),
    ("no_id", "15108695088"),
    ("fi_hetu", "131052-308T"),
    ("dk_cpr", "211062-5629"),
    ("be_id", "85.07.30-033.28"),
    ("ch_ahv", "756.9217.0769.85"),
    ("ca_sin", "123-456-782"),
    ("cn_id", "11010519491231002X"),
    ("kr_rrn", "971013-9019902"),
    ("tr_id", "17291716060"),
    ("ro_cnp", "1630615123457"),
    ("cz_birth_number", "710319/2745"),
    ("za_id", "7503305044089"),
    ("sg_nric", "S1234567D"),
    ("mx_curp", "BOXW310820HNERXN09"),
    ("card", "4111 1111 1111 1111"),
    ("card", "378282246310005"),
    ("card", "5555-5555-5555-4444"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "NL91ABNA0417164300"),
    ("iban", "MT84MALT011000012345MTLCAST001S"),
]
ANNOUNCED = [
    ("us_ssn", "SSN: ", "123456789"),
    ("nl_bsn", "BSN is ", "111222333"),
    ("au_tfn", "tax file number ", "123 456 782"),
    ("pt_nif", "NIF: ", "501964843"),
    ("in_aadhaar", "Aadhaar number ", "234123412346"),
    ("uk_nhs", "NHS number: ", "9434765919"),
    ("bic", "BIC: ", "DEUTDEFF500"),
    ("imei", "IMEI ", "490154203237518"),
]
WITH_CHECK_DIGIT = [
    (kind, value)
    for kind, value in VALID
    if kind not in ("us_ssn", "uk_nino", "in_pan", "kr_rrn", "dk_cpr", "mx_curp", "se_personnummer")
]


@pytest.mark.parametrize(("kind", "value"), VALID)
def test_a_valid_number_is_found_whole(kind: str, value: str) -> None:
    assert (kind, value) in [(s.kind, s.value) for s in find(f"it says {value}, and then")]


@pytest.mark.parametrize(("kind", "word", "value"), ANNOUNCED)
def test_an_announced_number_is_found(kind: str, word: str, value: str) -> None:
    assert (kind, value) in [(s.kind, s.value) for s in find(f"his {word}{value}.")]


@pytest.mark.parametrize(("kind", "value"), WITH_CHECK_DIGIT)
def test_another_digit_is_no_number_of_that_kind(kind: str, value: str) -> None:
    at = next(i for i in range(len(value) - 2, 0, -1) if value[i].isdigit())
    wrong = value[:at] + str((int(value[at]) + 1) % 10) + value[at + 1 :]
    assert kind not in [s.kind for s in find(f"it says {wrong}, and then")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name,phone\nBerg,(227)664-8546x506", "(227)664-8546x506"),
        ("Tel. +1-743-438-6774x62406.", "+1-743-438-6774x62406"),
        ("call 001-448-414-3381x0601", "001-448-414-3381x0601"),
        ("on 448-414-3381 ext. 12", "448-414-3381 ext. 12"),
        ("fax 0471 234567", "0471 234567"),
        ("ring 06 12 34 56 78 today", "06 12 34 56 78"),
        ("+44 20 7946 0958 is mine", "+44 20 7946 0958"),
        ("+91 98765 43210", "+91 98765 43210"),
    ],
)
def test_a_telephone_number_is_found_with_its_extension(text: str, value: str) -> None:
    assert [s.value for s in find(text) if s.kind == "phone"] == [value]


def test_every_national_number_has_an_example() -> None:
    assert {kind for kind, _, _ in NATIONAL} == {k for k, _ in VALID} - {"card", "iban"}
