"""Checks of numbers that states, banks and registries give out: whether a number is possible, not whether it is given.

Each takes the value as it stands in a text, separators and all, and is named by the country and the document. Sources:
ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN), ISO 7064 (mod 11,10 and mod 11-2), and the pages of the issuing authorities.

Pure. Not covered: numbers without a check digit or a date in them, which only a word beside them can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

_NOT_ALNUM, _NOT_DIGIT = re.compile(r"[\W_]+"), re.compile(r"\D+")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # the digits of twice a digit, added


def compact(text: str) -> str:
    """Letters (in upper case) and digits only."""
    return _NOT_ALNUM.sub("", text).upper()


def luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1)."""
    single, double = map(int, digits[::-2]), map(int, digits[-2::-2])
    return (sum(single) + sum(_DOUBLED[n] for n in double)) % 10 == 0


def iban_ok(text: str) -> bool:
    """ISO 13616: the remainder by 97 is 1."""
    code = compact(text)
    if not 15 <= len(code) <= 34 or not code.isascii():
        return False
    turned = code[4:] + code[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def card(text: str) -> bool:
    """A payment card: 13 to 19 digits of a network's range that pass Luhn's check."""
    digits = _NOT_DIGIT.sub("", text)
    return 12 <= len(digits) <= 19 and digits[0] in "23456" and len(set(digits)) > 1 and luhn(digits)


def us_ssn(text: str) -> bool:
    code = compact(text)
    area, group, serial = code[:3], code[3:5], code[5:]
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def uk_nino(text: str) -> bool:
    return compact(text)[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def uk_nhs(text: str) -> bool:
    code = compact(text)
    check = 11 - _weighted(code, range(10, 1, -1)) % 11
    return check % 11 == int(code[9]) and check != 10


def de_tax(text: str) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits one stands two or three times."""
    code = compact(text)
    if code[0] == "0" or not 1 < max(code[:10].count(d) for d in code[:10]) < 4:
        return False
    product = 10
    for d in code[:10]:
        total = (int(d) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(code[10])


def fr_nir(text: str) -> bool:
    code = compact(text)
    body = code[:13].replace("2A", "19").replace("2B", "18")
    return body.isdecimal() and code[13:].isdecimal() and 97 - int(body) % 97 == int(code[13:])


def es_dni(text: str) -> bool:
    """DNI, and NIE with X, Y or Z for 0, 1 or 2."""
    code = compact(text)
    number = {"X": "0", "Y": "1", "Z": "2"}.get(code[0], code[0]) + code[1:-1]
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == code[-1]


def it_fiscal(text: str) -> bool:
    code = compact(text)
    if not code.isascii():  # the sign of kelvin is a K to an expression that ignores case
        return False
    odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    total = 0
    for i, c in enumerate(code[:15]):
        value = int(c, 36) - (10 if c.isalpha() else 0)
        total += value if i % 2 else odd[value]
    return chr(65 + total % 26) == code[15]


def nl_bsn(text: str) -> bool:
    code = compact(text)
    return (_weighted(code, range(9, 1, -1)) - int(code[8])) % 11 == 0 and int(code) > 0


def pl_pesel(text: str) -> bool:
    code = compact(text)
    month, century = int(code[2:4]), {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[int(code[2]) // 2]
    dated = _is_date(century + int(code[:2]), month % 20, int(code[4:6]))
    return dated and (10 - _weighted(code, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(code[10])


def br_cpf(text: str) -> bool:
    code = compact(text)
    return len(set(code)) > 1 and all(
        _weighted(code, range(n + 1, 1, -1)) * 10 % 11 % 10 == int(code[n]) for n in (9, 10)
    )


def br_cnpj(text: str) -> bool:
    code = compact(text)
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return all((11 - _weighted(code, weights[13 - n :]) % 11) % 11 % 10 == int(code[n]) for n in (12, 13))


_D5 = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678"),
    *("5987604321", "6598710432", "7659821043", "8765932104", "9876543210"),
)
_P8 = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def in_aadhaar(text: str) -> bool:
    """Verhoeff's check (Verhoeff 1969)."""
    c = 0
    for i, d in enumerate(reversed(compact(text))):
        c = int(_D5[c][int(_P8[i % 8][int(d)])])
    return c == 0


def se_number(text: str) -> bool:
    """Personnummer: a date and Luhn's check on the last ten digits."""
    code = compact(text)[-10:]
    return 0 < int(code[2:4]) < 13 and 0 < int(code[4:6]) % 60 < 32 and luhn(code)


def no_number(text: str) -> bool:
    code = compact(text)
    first = (11 - _weighted(code, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - _weighted(code, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return 0 < int(code[2:4]) < 13 and 0 < int(code[:2]) < 32 and code[9:] == f"{first}{second}"


def fi_hetu(text: str) -> bool:
    number = text[:6] + text[7:10]
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == text[10].upper()


def dk_cpr(text: str) -> bool:
    return 0 < int(text[:2]) < 32 and 0 < int(text[2:4]) < 13


def be_number(text: str) -> bool:
    code = compact(text)
    return any(97 - int(head + code[:9]) % 97 == int(code[9:]) for head in ("", "2"))


def ch_ahv(text: str) -> bool:
    code = compact(text)
    return (10 - _weighted(code, (1, 3) * 6) % 10) % 10 == int(code[12])


def ca_sin(text: str) -> bool:
    code = compact(text)
    return code[0] not in "08" and luhn(code)


def au_tfn(text: str) -> bool:
    return _weighted(compact(text), (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def cn_id(text: str) -> bool:
    """ISO 7064 mod 11-2, and a date."""
    code = compact(text)
    total = sum(int(d) * (1 << (17 - i)) for i, d in enumerate(code[:17]))
    return _is_date(int(code[6:10]), int(code[10:12]), int(code[12:14])) and "10X98765432"[total % 11] == code[17]


def kr_number(text: str) -> bool:
    code = compact(text)
    return 0 < int(code[2:4]) < 13 and 0 < int(code[4:6]) < 32


def tr_number(text: str) -> bool:
    code = compact(text)
    odd, even = sum(map(int, code[0:9:2])), sum(map(int, code[1:8:2]))
    return (odd * 7 - even) % 10 == int(code[9]) and sum(map(int, code[:10])) % 10 == int(code[10])


def pt_nif(text: str) -> bool:
    code = compact(text)
    return (11 - _weighted(code, range(9, 1, -1)) % 11) % 11 % 10 == int(code[8])


def ro_cnp(text: str) -> bool:
    code = compact(text)
    check = _weighted(code, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    dated = 0 < int(code[3:5]) < 13 and 0 < int(code[5:7]) < 32
    return dated and (1 if check == 10 else check) == int(code[12])


def cz_number(text: str) -> bool:
    code = compact(text)
    return int(code) % 11 == 0 and 0 < int(code[4:6]) < 32


def za_id(text: str) -> bool:
    code = compact(text)
    return 0 < int(code[2:4]) < 13 and 0 < int(code[4:6]) < 32 and code[10] in "012" and luhn(code)


def sg_nric(text: str) -> bool:
    code = compact(text)
    total = _weighted(code[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if code[0] in "TG" else 0)
    table = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK"}
    return table[code[0]][total % 11] == code[8]


def mx_curp(text: str) -> bool:
    return _is_date(1900 + int(text[4:6]), int(text[6:8]), int(text[8:10]))


def _weighted(digits: str, weights: Sequence[int] | range) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


# kind, the form of the number, its check. Forms that many other numbers have are in ANNOUNCED.
NATIONAL: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("us_ssn", r"\d{3}[- ]\d{2}[- ]\d{4}", us_ssn),
    ("uk_nino", r"(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])", uk_nino),
    ("fr_nir", r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", fr_nir),
    ("es_dni", r"(?:\d{8}|[XYZxyz]-?\d{7})-?[A-Za-z]", es_dni),
    ("it_fiscal_code", r"(?i:[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])", it_fiscal),
    ("cn_id", r"\d{17}[\dXx]", cn_id),
    ("br_cnpj", r"\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}", br_cnpj),
    ("br_cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11}", br_cpf),
    ("pl_pesel", r"\d{11}", pl_pesel),
    ("de_tax_id", r"\d{2} \d{3} \d{3} \d{3}|\d{11}", de_tax),
    ("tr_id", r"[1-9]\d{10}", tr_number),
    ("no_id", r"\d{6} ?\d{5}", no_number),
    ("be_id", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", be_number),
    ("ch_ahv", r"756\.?\d{4}\.?\d{4}\.?\d{2}", ch_ahv),
    ("in_aadhaar", r"[2-9]\d{3} \d{4} \d{4}", in_aadhaar),
    ("in_pan", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", lambda v: True),
    ("za_id", r"\d{13}", za_id),
    ("ro_cnp", r"[1-8]\d{12}", ro_cnp),
    ("kr_rrn", r"\d{6}-\d{7}", kr_number),
    ("se_personnummer", r"(?:\d{2})?\d{6}[-+]\d{4}", se_number),
    ("fi_hetu", r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", fi_hetu),
    ("dk_cpr", r"\d{6}-\d{4}", dk_cpr),
    ("cz_birth_number", r"\d{6}/\d{4}", cz_number),
    ("ca_sin", r"\d{3}[- ]\d{3}[- ]\d{3}", ca_sin),
    ("uk_nhs", r"\d{3} \d{3} \d{4}", uk_nhs),
    ("sg_nric", r"[STFG]\d{7}[A-Z]", sg_nric),
    ("mx_curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", mx_curp),
)
# A word, then the number: kind, words, form, check.
ANNOUNCED: tuple[tuple[str, str, str, Callable[[str], bool]], ...] = (
    ("us_ssn", r"ssn|social security(?: (?:number|no\.?))?", r"\d{9}", us_ssn),
    ("nl_bsn", r"bsn|burgerservicenummer|sofinummer", r"\d{9}|\d{4}\.\d{2}\.\d{3}", nl_bsn),
    ("uk_nhs", r"nhs(?: (?:number|no\.?))?", r"\d{10}|\d{3}[- ]\d{3}[- ]\d{4}", uk_nhs),
    ("au_tfn", r"tfn|tax file (?:number|no\.?)", r"\d{3} ?\d{3} ?\d{3}", au_tfn),
    ("pt_nif", r"nif|contribuinte", r"\d{3} ?\d{3} ?\d{3}", pt_nif),
    ("in_aadhaar", r"aadhaa?r(?: (?:number|no\.?|card))?", r"[2-9]\d{11}", in_aadhaar),
    ("ca_sin", r"sin|social insurance(?: number)?", r"\d{9}", ca_sin),
    ("dk_cpr", r"cpr(?:-nummer|-nr\.?)?", r"\d{10}", dk_cpr),
    ("se_personnummer", r"personnummer", r"\d{10}|\d{12}", se_number),
    ("uk_utr", r"utr", r"\d{10}", lambda v: True),
    ("jp_my_number", r"my number", r"\d{4}[ -]?\d{4}[ -]?\d{4}", lambda v: True),
)
