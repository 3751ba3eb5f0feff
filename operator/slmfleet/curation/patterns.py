"""The patterns of personal data and secrets, in the order in which they claim a stretch of text.

Each has a kind, a regular expression (group `v`, where there is one, is the value), a check that the expression cannot
express, and what a text must hold before the expression is tried at all: most texts hold none of it, which is where the
speed comes from. No expression repeats without bound what it may also begin with: a prompt can be made of nothing else.
Secrets come first, then numbers with checksums, then what a word announces.

Pure. Announcing words: English, German, French, Spanish, Italian, Portuguese, Dutch; not every one in each.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from slmfleet.curation.checksums import ANNOUNCED, NATIONAL, card, iban_ok

_EXTENSION = r"(?:[ \t]?(?:x|ext\.?)[ \t]?\d{1,6})?(?![\w/]|-\d)"
_BETWEEN = r"[\"']?\s*(?:[:=#]|\bis\b|\bist\b|\best\b|\bes\b|\bé\b)?\s*[:#]?\s*[\"']?"
_MONTH = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|f[ée]vrier|mar(?:ch|s|zo)?|märz|apr(?:il)?|avril|may|mai|mayo|june?|"
    r"juin|junio|july?|juli|juillet|julio|aug(?:ust)?|août|agosto|sept?(?:ember)?|septembre|oct(?:ober)?|okt(?:ober)?|"
    r"octobre|nov(?:ember)?|novembre|dec(?:ember)?|dez(?:ember)?|d[ée]cembre)\.?"
)
_DATE = (
    r"(?:\d{1,4}[-./]\d{1,2}[-./]\d{1,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?[ -](?:of )?{_MONTH}[ -]\d{{2,4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_NUMBER, _LOWER, _UPPER = re.compile(r"\d+"), re.compile("[a-z]"), re.compile("[A-Z]")
_BEFORE_EXTENSION = re.compile("x|ext")
_NUMERIC_DATE = re.compile(r"\d{4}[-./]\d\d?[-./]\d\d?(?!\d)|\d\d?[-./]\d\d?[-./]\d{4}\b")
_NO_PROSE = re.compile(r"[^\w.,!?)]")
_PAST_YEAR, _CLOCK = re.compile(r"(?<!\d)(19\d\d|200\d)(?!\d)"), re.compile(r"[ T]\d\d:\d\d(:\d\d)?$")
Check = Callable[[str], bool]


@dataclass(frozen=True)
class Pattern:
    """`hint`: texts that hold none of these are not searched; `digits`: so many in a row or nearly.
    `named`: group `v` is the value."""

    kind: str
    regex: re.Pattern[str]
    check: Check
    hint: tuple[str, ...] = ()
    digits: int = 0
    named: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "named", "v" in self.regex.groupindex)


def _always(text: str) -> bool:
    return True


def _p(
    kind: str, regex: str, check: Check = _always, hint: tuple[str, ...] = (), *, digits: int = 0, flags: int = 0
) -> Pattern:
    return Pattern(kind, re.compile(regex, flags), check, hint, digits)


def _ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text not in ("0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1")


def _phone(text: str) -> bool:
    text = _BEFORE_EXTENSION.split(text, maxsplit=1)[0]
    groups = _NUMBER.findall(text)
    if not 7 <= sum(map(len, groups)) <= 15 or _NUMERIC_DATE.match(text):
        return False
    if text.startswith(("+", "00", "(")):
        return True
    return len(groups) >= 3 and max(map(len, groups)) <= 5 and min(map(len, groups[1:])) >= 2


def _entropic(text: str) -> bool:
    kinds = sum(bool(kind.search(text)) for kind in (_LOWER, _UPPER, _NUMBER))
    return kinds >= 2 and len(set(text)) >= 8


def _secretive(value: str) -> bool:
    """A password or key, not the next word of a sentence."""
    return (
        bool(_NUMBER.search(value))
        or bool(_NO_PROSE.search(value))
        or (value != value.lower() and value != value.capitalize() and value != value.upper())
    )


def _numbered(value: str) -> bool:
    return sum(c.isdigit() for c in value) >= 3


def _past_birth(value: str) -> bool:
    """A full date of the last century or the first years of this one: in a log of today hardly anything but a birth."""
    year = _PAST_YEAR.search(value)
    if year is None:
        return False
    value = _CLOCK.sub("", value)
    numbers = [int(n) for n in _NUMBER.findall(value.replace(year.group(), "", 1))]
    return all(0 < n <= 31 for n in numbers)


_SECRETS = (
    _p(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        hint=("PRIVATE KEY",),
        flags=re.S,
    ),
    _p("private_key", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}", hint=("AGE-SECRET",)),
    _p(
        "connection_string",
        r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|rediss?|amqps?|mssql|sqlserver|clickhouse|jdbc:\w+|s?ftp"
        r"|smb|ldaps?|nats|kafka)(?:\+\w{1,16})?://[^\s\"'<>:@]{0,256}:[^\s\"'<>@]{1,512}@[^\s\"'<>]+",
        hint=("://",),
    ),
    _p(
        "connection_string",
        r"(?:AccountKey|SharedAccessKey|Password|Pwd|sig)=(?P<v>[^;\s\"'&]{6,})",
        hint=("Key=", "assword=", "Pwd=", "sig="),
    ),
    _p("url_credentials", r"\b[a-z][a-z0-9+.-]{1,12}://(?P<v>[^\s/@:\"'<>]+:[^\s/@\"'<>]+)@", hint=("://",)),
    _p(
        "secret",
        r"(?i)[?&](?:api_?key|key|token|access_token|secret|password|sig|signature|auth)=(?P<v>[^\s&\"'<>#]{8,})",
        _entropic,
        ("?", "&"),
    ),
    _p("token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{5,}", hint=("eyJ",)),
    _p("secret", r"https://hooks\.slack\.com/services/(?P<v>T\w+/B\w+/\w+)", hint=("hooks.slack",)),
    _p(
        "api_key", r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant|or)?[-_]?[A-Za-z0-9_-]{16,}", _entropic, ("sk", "pk", "rk")
    ),
    _p(
        "api_key", r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{18,}", hint=("gh", "gith", "glpat")
    ),
    _p("api_key", r"\bxox[abeoprs]-[\w-]{10,}|\bxapp-[\w-]{10,}", hint=("xox", "xapp")),
    _p("api_key", r"\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}", hint=("AIza", "ya29", "GOCSPX")),
    _p("api_key", r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b", hint=("AKIA", "ASIA", "AROA", "AIDA")),
    _p("api_key", r"\bhf_[A-Za-z0-9]{25,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}", hint=("hf_", "npm_", "pypi-")),
    _p("api_key", r"\bSG\.[\w-]{16,}\.[\w-]{16,}|\bkey-[0-9a-f]{32}\b", hint=("SG.", "key-")),
    _p("api_key", r"\bdop_v1_[0-9a-f]{40,}|\bnvapi-[\w-]{20,}|\bgsk_\w{20,}", hint=("dop_v1", "nvapi", "gsk_")),
    _p("api_key", r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|\bsq0[a-z]{3}-[\w-]{20,}", hint=("shp", "sq0")),
    _p("api_key", r"\bAC[0-9a-f]{32}\b|\bSK[0-9a-f]{32}\b", hint=("AC", "SK"), digits=1),
    _p("api_key", r"\b\d{8,10}:AA[\w-]{32,}", hint=(":AA",)),
    _p("token", r"(?i)\b(?:bearer|basic)\s+(?P<v>[A-Za-z0-9._~+/-]{16,}=*)", _entropic, ("earer", "asic", "EARER")),
    _p(
        "secret",
        r"(?i)\b\w*(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?token|auth[_-]?token|client[_-]?secret"
        r"|passwd|password|passwort|passphrase|contraseña|mot de passe)[\"']?\s*(?:[:=]|\bis\b|\bist\b)\s*[\"']?"
        r"(?P<v>[^\s\"',;<>{}\[\]]{6,})",
        _secretive,
        ("key", "KEY", "Key", "ecret", "ECRET", "oken", "ass", "ASS", "contra"),
    ),
    _p("secret", r"(?i)\b(?:pin|cvv|cvc|cvv2|otp|tan)(?: code)?\s*(?:[:=]|is)\s*(?P<v>\d{3,8})\b", digits=3),
)
# Forms whose digits do not stand together.
_LETTERED = frozenset({"uk_nino", "it_fiscal_code", "in_pan", "mx_curp"})
_NUMBERS = (
    _p("email", r"[^\W_][\w.%+'-]{0,127}@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}", hint=("@",)),
    _p("iban", r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?\b", iban_ok, digits=7),
    _p("imei", r"(?i)\bimei\b" + _BETWEEN + r"(?P<v>\d{15}|\d{2}-\d{6}-\d{6}-\d)", digits=12),
    *(
        _p(kind, rf"(?i)\b(?:{words})\b{_BETWEEN}(?P<v>{form})(?![\w-])", check, digits=7)
        for kind, words, form, check in ANNOUNCED
    ),
    _p("card", r"(?<![\d.-])\d(?:[ -]?\d){11,18}(?![\d-])", card, digits=12),
    *(
        _p(kind, rf"(?<![\w.,/-])(?:{form})(?![\w/]|-\d|\.\d)", check, digits=1 if kind in _LETTERED else 7)
        for kind, form, check in NATIONAL
    ),
    _p("ip", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", _ip, (".",), digits=1),
    _p(
        "ip",
        r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:])"
        r"|(?<![\w:])[0-9a-fA-F]{1,4}::[0-9a-fA-F:]+(?![\w:])",
        _ip,
        (":",),
        digits=1,
    ),
    _p("mac", r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b|\b(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}\b", hint=(":", "-", ".")),
    _p("wallet", r"\b(?:0x[0-9a-fA-F]{40}|bc1[a-z0-9]{25,60}|[13][a-km-zA-HJ-NP-Z1-9]{32,33})\b", _entropic, digits=1),
    _p("bic", r"(?i:\b(?:bic|swift)(?: code)?)\b" + _BETWEEN + r"(?P<v>[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)\b"),
)
_DATES = (
    _p(
        "date_of_birth",
        r"(?i)\b(?:born(?: on)?|birth ?date|date of birth|d\.?o\.?b\.?|birthday|geboren(?: am)?|geburtsdatum|geb\.|"
        r"n[ée]e? le|date de naissance|nacid[oa](?: el)?|fecha de nacimiento|nat[oa] il|data di nascita|nascid[oa] em|"
        rf"data de nascimento|geboortedatum)(?![a-z])[^\d\n]{{0,14}}?(?P<v>{_DATE})",
        digits=2,
    ),
    _p("date_of_birth", rf"(?i)(?<![\w.-]){_DATE}(?:[ T]\d\d:\d\d(?::\d\d)?)?(?![\w-])", _past_birth, digits=4),
)
_CALL = (
    r"phone|telephone|tel|telefon|téléphone|teléfono|telefono|telefone|telefoon|mobile|mobil|móvil|cell|handy|call|text|"
    r"sms|whatsapp|signal|fax|hotline|answering at|reach (?:me|us|you|him|her|them) (?:at|on|under)|dial|ring"
)
# Announced in languages that are searched without their letters, which are no part of a number (see personal.find).
CALLED = _p(
    "phone",
    r"(?:电话|手机|座机|致电|電話|手機|携帯|전화|휴대폰|연락처|โทร)[^\d\n+]{0,12}(?P<v>\+?\d[\d -]{5,16}\d)(?![\d-])",
    digits=7,
)
_PHONES = (
    _p(
        "phone",
        r"(?<![\w./-])(?<!\d,)(?<!\d )(?:\+|00)\d{1,3}[ \t.()/-]*(?:\d[ \t.()/-]*){6,12}\d" + _EXTENSION,
        _phone,
        digits=7,
    ),
    _p("phone", r"(?<![\w./-])(?<!\d,)(?:\(\d{3}\)[ \t]?|\d{3}[ .-])\d{3}[ .-]\d{4}" + _EXTENSION, digits=7),
    _p(
        "phone",
        r"(?<![\w./-])(?<!\d,)(?:\(\d{1,5}\)|\d{2,5})[ \t./-]{1,2}\d{2,5}(?:[ \t./-]\d{2,5}){1,4}" + _EXTENSION,
        _phone,
        digits=7,
    ),
    _p("phone", r"(?<![\w./-])(?<!\d,)\(\d{2,5}\)[ \t]?\d{3,4}[ -]?\d{3,4}(?![\w/]|-\d)", digits=7),
    _p(
        "phone",
        rf"(?i)\b(?:{_CALL})\b[^\d\n]{{0,20}}"
        r"(?P<v>\(?\d{2,5}\)?[ -/]\d{3,8}(?:[ -]\d{2,6})?|\d{7,12})(?![\d-])",
        digits=7,
    ),
    _p(
        "phone",
        r"(?i)(?<![\w./-])(?<!\d,)(?P<v>\d{7,12}|\d{2,5}[ -]\d{4,8})[ -](?:office|mobile|fax|cell|phone)\b",
        digits=7,
    ),
)
_RECORDS = (
    _p(
        "record_number",
        r"(?i)\b(?:driv(?:er'?s?|ing)(?:['’]s)? licen[sc]e|licen[sc]e plate|passport|customer|client|member(?:ship)?|"
        r"employee|staff|student|patient|medical record|mrn|insurance|policy|account|acct|case|claim|booking|"
        r"reservation|kunden|personal|matrikel|cliente|adhérent)"
        r"(?:[ -]?(?:number|no\.?|nr\.?|num\.?|id|code|#|nummer|numéro|número))*"
        + _BETWEEN
        + r"(?P<v>[A-Z#]{0,4}-?\d[\dA-Z-]{4,18})(?![\w@])",
        _numbered,
        digits=2,
    ),
    _p(
        "address",
        r"(?i)\b(?:zip(?: ?code)?|post(?:al)? ?code|plz|postleitzahl|code postal|código postal|cap|cep)\b"
        + _BETWEEN
        + r"(?P<v>[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{5}-\d{3,4}|\d{4} ?[A-Z]{2}|\d{3}[ -]\d{2,3}"
        r"|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{4,6})\b",
        digits=1,
    ),
    _p(
        "address",
        r"\b\d{1,6}[A-Za-z]?,? (?:[NSEW]\.? )?(?:(?:[A-ZÀ-Þ][\w'’.-]*|\d{1,3}(?:st|nd|rd|th)) ){1,4}"
        r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Square|Terrace|Crescent|Highway|Hwy|Parkway|Circle)\b\.?",
        digits=1,
    ),
    _p(
        "address",
        r"\b[A-ZÀ-Þ][\w-]{1,60}(?:straße|strasse|str\.|straat|laan|gatan|vägen|vej|veien|gasse|platz|steenweg|katu)"
        r" \d{1,4} ?[a-z]?\b",
        digits=1,
    ),
    _p("address", r"(?i)\bp\.? ?o\.? box \d{1,7}\b", hint=("ox", "OX"), digits=1),
    _p(
        "age",
        r"(?i)\b(?P<v>\d{1,3})(?:[- ]years?[- ]old|[- ]?yo\b| Jahre alt| ans\b(?= et| \(|,)| años de edad)",
        digits=1,
    ),
    _p("age", r"(?i)\b(?:aged?|alter)[\"']?(?:\s*[:=]\s*|\s+)[\"']?(?P<v>\d{1,3})\b(?![-/.%]\d)", digits=1),
)
PATTERNS = (*_SECRETS, *_NUMBERS, *_DATES, *_PHONES, *_RECORDS)
