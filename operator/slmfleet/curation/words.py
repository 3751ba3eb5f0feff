"""The words of a text in any script, for the names and the likeness of tasks.

Python's `\\w` ends a word at every vowel sign of Hindi, and scripts without spaces have no words for it at all. Here
letters keep their signs, CamelCase is taken apart in every script that has case, runs of Chinese characters become
their pairs, and Thai, Lao, Khmer and Burmese are cut by ICU's dictionaries. Not covered: Japanese in hiragana alone,
which is mostly grammar; words that a dictionary lacks, such as names, which come out in pieces.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from slmfleet.curation.language import COMMON, UNDETERMINED, language_of

_ASCII = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SPACELESS = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf\u3005]+|[\u30a0-\u30ff]+|[\u3041-\u309f]+")
_DICTIONARY = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\uaa60-\uaa7f]+")
_IDEOGRAPH = re.compile(r"[\u3005\u3400-\u4dbf\u4e00-\u9fff]+")
_EAST_ASIAN = "\u2e80"
# Chinese particles, pronouns and the like, which stand between words.
_BETWEEN = re.compile("[的了吗呢吧我你您他她它们是在把给请就和与及也都很这那个里到让有没不第为]")
LONGEST_JOINED = 4
_HIRAGANA = ("\u3041", "\u309f")
_ENGLISH = (
    "the and for that this with from are was were has have had not but can could would should what which when where "
    "who why how you your our its his her them they please will about into out get got does did been being there "
    "here just than then also only one all any some more most very don ll ve need want like know let"
)
_FEWEST = 0.03
ALIKE = 0.8


def words_of(text: str) -> list[str]:
    """Lower-case words, CamelCase and snake_case taken apart; of a run of Chinese characters its pairs."""
    if text.isascii():
        return [w.lower() for w in _ASCII.findall(text)]
    plain = unicodedata.normalize("NFKC", text)
    return [part for word in _any_script().findall(plain) for part in _parts(word.lower())]


def tells(word: str, common: frozenset[str]) -> bool:
    """Whether a word can tell one task from another: no number, no function word, not too short."""
    return len(word) > (0 if word[0] >= _EAST_ASIAN else 2) and not word.isdigit() and word not in common


def common_words(texts: Sequence[str]) -> frozenset[str]:
    """Function words of English and of every language that some of the texts are in."""
    found = [language_of(t) for t in texts[:: max(1, len(texts) // 400)]]
    spoken = {c for c in set(found) if c != UNDETERMINED and found.count(c) >= _FEWEST * len(found)}
    return frozenset(_ENGLISH.split()).union(*(COMMON.get(code, ()) for code in spoken))


def by_dictionary(text: str) -> bool:
    """Whether a text, or a word, has letters of a script that only a dictionary cuts into words."""
    return _DICTIONARY.search(text) is not None


def best(score: Mapping[str, float], count: int) -> list[str]:
    """The words of the highest score; pairs of characters that continue each other, and are about as good, as one."""
    found: list[str] = []
    worth: list[float] = []
    for word in sorted(score, key=lambda w: (-score[w], w)):
        for i, other in enumerate(found):
            if score[word] >= ALIKE * worth[i] and (longer := _continued(other, word)):
                found[i] = longer
                break
        else:
            if len(found) > count:
                break
            found.append(word)
            worth.append(score[word])
    return found[:count]


def _continued(one: str, other: str) -> str | None:
    if not (_IDEOGRAPH.fullmatch(one) and _IDEOGRAPH.fullmatch(other)):
        return None
    if len(one) + len(other) - 1 > LONGEST_JOINED or len(other) < 2:
        return None
    if one[-1] == other[0]:
        return one + other[1:]
    return other + one[1:] if other[-1] == one[0] else None


def latin(word: str) -> str:
    """In lower-case Latin letters of ASCII, for names that Kubernetes accepts."""
    if word.isascii():
        return word.lower()
    from anyascii import anyascii

    return re.sub(r"['`\"]", "", anyascii(word)).lower()


def _parts(word: str) -> Iterator[str]:
    """A word as it is; one of a script without spaces by kind of character, Chinese characters two by two, or by the
    dictionary."""
    runs = _SPACELESS.findall(word)
    if not runs and by_dictionary(word):
        yield from _DICTIONARY.sub(lambda run: f" {' '.join(_cut(run.group()))} ", word).split()
        return
    if not runs:
        yield word
        return
    for run in runs:
        if not _IDEOGRAPH.fullmatch(run):
            if not _HIRAGANA[0] <= run[0] <= _HIRAGANA[1]:
                yield run
            continue
        for piece in filter(None, _BETWEEN.split(run)):
            yield from (piece[i : i + 2] for i in range(max(1, len(piece) - 1)))


def _cut(run: str) -> list[str]:
    from icu4py.breakers import WordBreaker

    # NFKC takes the vowel am apart, and the dictionaries have it whole.
    whole = run.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")
    return [word for word in WordBreaker(whole, "th") if word[0].isalpha()]  # the locale does not matter to them


@cache
def _any_script() -> re.Pattern[str]:
    """`_ASCII` for all scripts: capitals, then letters with the signs that belong to them."""
    upper = _characters(lambda c: unicodedata.category(c) in ("Lu", "Lt"))
    other = _characters(lambda c: unicodedata.category(c) in ("Ll", "Lm", "Lo", "Mn", "Mc"))
    return re.compile(f"[{upper}]+(?![{other}])|[{upper}]?[{other}]+|\\d+")


def _characters(wanted: Callable[[str], bool]) -> str:
    """The wanted characters of the basic plane as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(min(0x10000, sys.maxunicode)):
        if wanted(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\u{a:04x}-\\u{b:04x}" for a, b in ranges)
