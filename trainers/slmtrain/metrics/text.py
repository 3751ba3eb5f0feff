"""Similarity of free text, without a model: chrF and ROUGE-L.

They measure wording. An answer that says the same in other words scores low, one that turns "can" into "cannot" scores
high: a floor on them is a floor on closeness to the LLM's wording, no proof that the answer is right.

Sources: M. Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015 (n from 1 to 6, beta 2,
spaces ignored, as sacrebleu computes it for one sentence); C.-Y. Lin, "ROUGE", 2004 (ROUGE-L's F1 of the longest common
subsequence of words; here letters and digits of any script are words, CJK characters a word each).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Reference

ORDERS = range(1, 7)
BETA = 2.0
_WORDS = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]|[^\W_぀-ヿ㐀-䶿一-鿿가-힯]+")


def score(answer: str, reference: Reference) -> float:
    """chrF against the most similar right answer, 0 to 1."""
    return max(chrf(answer, text) for text in (reference.text, *reference.accepted))


def rouge(answer: str, reference: Reference) -> float:
    """ROUGE-L's F1 against the most similar right answer, 0 to 1."""
    return max(rouge_l(answer, text) for text in (reference.text, *reference.accepted))


def valid(answer: str, reference: Reference, form: Form) -> bool:
    """Any text but an empty one."""
    return bool(answer.strip()) or not reference.text.strip()


def chrf(answer: str, recorded: str) -> float:
    """F of mean precision and mean recall over the n-gram orders that both texts are long enough for.

    >>> round(chrf("the cat sat on the mat", "the cat is on the mat"), 4)
    0.6458
    """
    got, want = "".join(answer.split()), "".join(recorded.split())
    if not got or not want:
        return float(got == want)
    orders = [n for n in ORDERS if n <= min(len(got), len(want))]
    precision = recall = 0.0
    for n in orders:
        mine, theirs = _ngrams(got, n), _ngrams(want, n)
        both = sum((mine & theirs).values())
        precision += both / mine.total()
        recall += both / theirs.total()
    weight, both_sides = BETA * BETA, BETA * BETA * precision + recall
    return (1 + weight) * precision * recall / both_sides / len(orders) if both_sides else 0.0


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def words(text: str) -> list[str]:
    """Lower-case words; every CJK character is one."""
    return _WORDS.findall(text.casefold())


def rouge_l(answer: str, recorded: str) -> float:
    """F1 of the longest common subsequence of words.

    >>> round(rouge_l("Refund approved.", "Your refund was approved."), 4)
    0.6667
    """
    got, want = words(answer), words(recorded)
    if not got or not want:
        return float(got == want)
    return 2 * common_words(got, want) / (len(got) + len(want))


def common_words(got: Sequence[str], want: Sequence[str]) -> int:
    """Length of the longest common subsequence, a machine word of columns at a time (H. Hyyrö, AWOCA 2004).

    >>> common_words("a b c d".split(), "b d a c".split())
    2
    """
    places: dict[str, int] = {}
    for column, word in enumerate(want):
        places[word] = places.get(word, 0) | 1 << column
    every = (1 << len(want)) - 1
    rest = every
    for word in got:
        hit = rest & places.get(word, 0)
        rest = (rest + hit | rest - hit) & every
    return len(want) - rest.bit_count()
