"""Finds personal data and secrets in text, by patterns with their checksums, and by words that announce a value.

What it does not cover: names that nothing announces (an unknown name in the middle of a sentence), organisations,
street addresses, dates of birth without the words for them, national ids other than the United States' SSN, record
numbers of one's own systems, data in languages other than English where a word must announce it, and anything inside
images or audio. A trained model for these comes later; until then a log with such data needs its owner's eyes.

Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_FIRST_NAMES = (
    "james mary robert patricia john jennifer michael linda david elizabeth william barbara richard susan joseph "
    "jessica thomas sarah charles karen christopher nancy daniel lisa matthew margaret anthony betty mark sandra "
    "donald ashley steven kimberly paul emily andrew donna joshua michelle kenneth carol kevin amanda brian melissa "
    "george deborah edward stephanie ronald rebecca timothy laura jason cynthia jeffrey kathleen ryan amy jacob "
    "angela gary shirley nicholas anna eric brenda jonathan pamela stephen emma larry nicole justin helen scott "
    "samantha brandon katherine benjamin christine samuel debra gregory rachel alexander carolyn patrick janet "
    "frank maria raymond catherine jack heather dennis diane olivia jerry julie tyler joyce aaron victoria jose "
    "ruth adam virginia nathan lauren henry kelly zachary christina douglas joan peter evelyn kyle judith noah "
    "andrea ethan hannah jeremy megan walter cheryl christian jacqueline keith martha roger teresa sean sophia carl "
    "ana juan carlos luis miguel pedro lucia carmen sofia hans klaus jurgen stefan andreas ursula ingrid giovanni "
    "marco giulia francesca pierre jean camille amelie lars anders ingmar olga ivan dmitri svetlana yuki hiroshi "
    "kenji wei ming mohammed ahmed fatima ali omar aisha priya raj arjun ananya chen isabella mia mei yusuf noah "
    "liam ava"
)
FIRST_NAMES = frozenset(_FIRST_NAMES.split())
_NAME = r"[A-Z][a-zÀ-ÿ]+(?:['’-][A-Z][a-zÀ-ÿ]+)?"
_EXTENSION = r"(?:[ \t]?(?:x|ext\.?)[ \t]?\d{1,6})?(?![\w/]|-\d)"
_PARTICLE = r"(?:van der|van den|van|von|de la|de|del|di|da|bin|al|el|le|la)"
_FULL = rf"{_NAME}(?:[ \t]+(?:[A-Z]\.\s+)?(?:{_PARTICLE}\s+)?{_NAME}){{0,2}}"


@dataclass(frozen=True)
class Span:
    """`text[start:end]` is a value of `kind`."""

    start: int
    end: int
    kind: str
    value: str


def luhn(digits: str) -> bool:
    """Luhn's check (ISO/IEC 7812-1)."""
    total = 0
    for i, d in enumerate(reversed(digits)):
        n = int(d) * (2 if i % 2 else 1)
        total += n - 9 if n > 9 else n
    return total % 10 == 0


def iban_ok(text: str) -> bool:
    """ISO 13616: the remainder by 97 is 1."""
    compact = re.sub(r"[\s-]", "", text).upper()
    if not 15 <= len(compact) <= 34:
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and digits[0] in "3456" + "2" and len(set(digits)) > 1 and luhn(digits)


def _ssn(text: str) -> bool:
    area, group, serial = re.split(r"[- ]", text)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text not in ("0.0.0.0", "127.0.0.1", "::", "::1")


def _phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not 8 <= len(digits) <= 15 or re.match(r"\d{4}[-./]\d\d?[-./]\d\d?(?!\d)|\d\d?[-./]\d\d?[-./]\d{4}\b", text):
        return False
    groups = re.findall(r"\d+", text)
    if text.startswith(("+", "00", "(")):
        return True
    return len(groups) >= 3 and max(map(len, groups)) <= 5 and min(map(len, groups[1:])) >= 2


def _entropic(text: str) -> bool:
    kinds = sum(bool(re.search(p, text)) for p in (r"[a-z]", r"[A-Z]", r"\d"))
    return kinds >= 2 and len(set(text)) >= 8


def _always(text: str) -> bool:
    return True


@dataclass(frozen=True)
class _Pattern:
    """`hint`: a regex-free test that most texts fail. The value is group `v` where there is one."""

    kind: str
    regex: re.Pattern[str]
    check: Callable[[str], bool] = _always
    hint: tuple[str, ...] = ()
    digits: bool = False


def _p(
    kind: str,
    regex: str,
    check: Callable[[str], bool] = _always,
    hint: tuple[str, ...] = (),
    *,
    digits: bool = False,
    flags: int = 0,
) -> _Pattern:
    return _Pattern(kind, re.compile(regex, flags), check, hint, digits)


# In this order: the first to claim a stretch of text has it.
PATTERNS = (
    _p(
        "private_key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        hint=("PRIVATE KEY",),
        flags=re.S,
    ),
    _p("private_key", r"AGE-SECRET-KEY-1[A-Z0-9]{20,}", hint=("AGE-SECRET",)),
    _p(
        "connection_string",
        r"\b(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|redis|rediss|amqps?|mssql|jdbc:\w+|ftp|sftp|smb|ldaps?)"
        r"(?:\+\w+)?://[^\s\"'<>]*:[^\s\"'<>@]+@[^\s\"'<>]+",
        hint=("://",),
    ),
    _p(
        "connection_string",
        r"(?:AccountKey|SharedAccessKey|Password|Pwd)=(?P<v>[^;\s\"']{6,})",
        hint=("Key=", "assword=", "Pwd="),
    ),
    _p("url_credentials", r"\bhttps?://(?P<v>[^\s/@:\"'<>]+:[^\s/@\"'<>]+)@", hint=("://",)),
    _p("token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{5,}", hint=("eyJ",)),
    _p(
        "api_key", r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant|or)?[-_]?[A-Za-z0-9_-]{16,}", _entropic, ("sk", "pk", "rk")
    ),
    _p(
        "api_key",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{18,}|xox[abpros]-[\w-]{10,}"
        r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|hf_[A-Za-z0-9]{25,}|npm_[A-Za-z0-9]{30,}"
        r"|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[0-9a-f]{40,}|pypi-[\w-]{40,})\b",
    ),
    _p("token", r"(?i)\b(?:bearer|basic)\s+(?P<v>[A-Za-z0-9._~+/-]{16,}=*)", _entropic, ("earer", "asic", "EARER")),
    _p(
        "secret",
        r"(?i)\b(?:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?token|auth[_-]?token|client[_-]?secret"
        r"|passwd|password|passphrase)[\"']?\s*(?:[:=]|\bis\b)\s*[\"']?(?P<v>[^\s\"',;<>{}\[\]]{6,})",
        lambda v: _secretive(v),
        ("key", "KEY", "Key", "ecret", "ECRET", "oken", "ass", "ASS"),
    ),
    _p("email", r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", hint=("@",)),
    _p("iban", r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,4})?\b", iban_ok, digits=True),
    _p("card", r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d-])", _card, digits=True),
    _p("us_ssn", r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])", _ssn, digits=True),
    _p("ip", r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", _ip, (".",), digits=True),
    _p(
        "ip",
        r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4}){1,6}(?![\w:])|(?<![\w:])[0-9a-fA-F]{1,4}::[0-9a-fA-F:]+(?![\w:])",
        _ip,
        (":",),
    ),
    _p("mac", r"\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b", hint=(":", "-")),
    _p(
        "phone",
        r"(?<![\w.,/-])(?<!\d )(?:\+|00)\d{1,3}[ \t.()/-]*(?:\d[ \t.()/-]*){6,12}\d" + _EXTENSION,
        _phone,
        digits=True,
    ),
    _p("phone", r"(?<![\w.,/-])(?:\(\d{3}\)[ \t]?|\d{3}[ .-])\d{3}[ .-]\d{4}" + _EXTENSION, digits=True),
    _p(
        "phone",
        r"(?<![\w.,/-])\(?\d{2,5}\)?[ \t./-]{1,2}\d{2,5}(?:[ \t./-]\d{2,5}){1,3}" + _EXTENSION,
        _phone,
        digits=True,
    ),
    _p(
        "phone",
        r"(?i)\b(?:phone|telephone|tel|mobile|cell|call|text|whatsapp|fax|answering at|reach (?:me|us|you) (?:at|on))\b"
        r"[^\d\n]{0,20}(?P<v>\d{7,12}|\d{2,5}[ -]\d{4,8})(?![\d-])",
        digits=True,
    ),
    _p(
        "phone",
        r"(?i)(?<![\w.,/-])(?P<v>\d{7,12}|\d{2,5}[ -]\d{4,8})[ -](?:office|mobile|fax|cell|phone)\b",
        digits=True,
    ),
    _p(
        "date_of_birth",
        r"(?i)\b(?:born(?: on)?|birth ?date|date of birth|dob|birthday)\b[^\d\n]{0,12}"
        r"(?P<v>\d{1,4}[-./]\d{1,2}[-./]\d{1,4})",
        digits=True,
    ),
    _p("wallet", r"\b(?:0x[0-9a-fA-F]{40}|bc1[a-z0-9]{25,60})\b", digits=True),
    _p(
        "name",
        rf"(?:[Mm]y name is|[Mm]y name's|[Mm]y full name is|[Tt]his is|I am called|I'm called|[Cc]all me|[Ss]igned,"
        rf"|[Dd]ear|[Nn]ame:|[Cc]ustomer:|[Pp]atient:|[Rr]egards,\s|[Nn]amed)\s+(?P<v>{_FULL})",
        lambda v: _name(v),
    ),
    _p(
        "name",
        rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Madam)\.?\s+(?P<v>{_FULL})",
        hint=("Mr", "Ms", "Miss", "Dr", "Prof", "Sir", "Madam"),
    ),
    _p(
        "name",
        rf"\b(?P<v>{_NAME}[ \t]+(?:[A-Z]\.[ \t]+)?(?:{_PARTICLE}[ \t]+)?{_NAME})\b",
        lambda v: v.split()[0].lower() in FIRST_NAMES,
    ),
)
_NOT_NAME_WORDS = (
    "the this that it sir madam customer team support there all what which no not my your our i we you please "
    "thanks thank hello hi monday tuesday wednesday thursday friday saturday sunday january february march april "
    "may june july august september october november december english german french python java json api"
)
_NOT_NAMES = frozenset(_NOT_NAME_WORDS.split())


def _name(value: str) -> bool:
    return value.split()[0].lower() not in _NOT_NAMES


def _secretive(value: str) -> bool:
    """A password or key, not the next word of a sentence."""
    return (
        bool(re.search(r"\d", value))
        or bool(re.search(r"[^\w.,!?)]", value))
        or (value != value.lower() and value != value.capitalize() and value != value.upper())
    )


def find(text: str) -> list[Span]:
    """Values in a text, in their order, none overlapping another."""
    has_digit = any(c.isdigit() for c in text)
    taken: list[Span] = []
    for pattern in PATTERNS:
        if pattern.digits and not has_digit:
            continue
        if pattern.hint and not any(h in text for h in pattern.hint):
            continue
        for span in _matches(pattern, text):
            if all(span.end <= t.start or span.start >= t.end for t in taken):
                taken.append(span)
    return sorted(taken, key=lambda s: s.start)


def _matches(pattern: _Pattern, text: str) -> Iterator[Span]:
    named = "v" in pattern.regex.groupindex
    for match in pattern.regex.finditer(text):
        start, end = match.span("v") if named else match.span()
        value = text[start:end]
        trimmed = value.rstrip(" .,;:-")
        if pattern.kind != "private_key":
            end -= len(value) - len(trimmed)
            value = trimmed
        if value and pattern.check(value):
            yield Span(start, end, pattern.kind, value)
