"""Names of tasks: readable, from their own words, and the same from run to run."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from slmfleet.curation import personal
from slmfleet.curation.calls import Call
from slmfleet.curation.shapes import LabelField, Shape
from slmfleet.curation.words import best, by_dictionary, common_words, latin, tells, words_of

NAME_CHARACTERS = 48
# Of an input, what tasks are named and compared by.
READ_CHARACTERS = 600
SAME_TASK = 0.35


@dataclass(frozen=True)
class Likeness:
    """What two runs compare a task by. `share`: of all calls, 0 to 1. `strange`: of the task's own calls, those unlike
    the words that its run kept. `title`, `about`: in an LLM's words, where one was asked."""

    name: str
    labels: frozenset[str]
    fingerprints: frozenset[str]
    centroid: dict[str, float]
    share: float | None = None
    narrow: bool = True
    strange: float | None = None
    title: str = ""
    about: str = ""


def slug(parts: Sequence[str]) -> str:
    """A name that Kubernetes accepts: words of other scripts in Latin letters."""
    text = re.sub(r"[^a-z0-9]+", "-", "-".join(map(latin, parts))).strip("-")
    cut = text[:NAME_CHARACTERS]
    if len(text) > NAME_CHARACTERS and "-" in cut:
        cut = cut[: cut.rindex("-")]
    return cut.strip("-") or "task"


@dataclass(frozen=True)
class DeniedWords:
    """`uncut`: values of scripts without spaces, a line each. A dictionary cuts a name as its neighbours have it, so
    every part of them is denied."""

    words: frozenset[str] = frozenset()
    uncut: str = ""

    def __contains__(self, word: object) -> bool:
        return word in self.words or (isinstance(word, str) and by_dictionary(word) and word in self.uncut)


def denied_words(deny: Iterable[tuple[str, str]], more: frozenset[str] = frozenset()) -> DeniedWords:
    """Words of a tenant's deny list that are no common ones, and `more`: they may be in no name."""
    values = [value for value, _ in deny]
    words = frozenset(w for value in values for w in words_of(value) if w not in personal.common_words())
    return DeniedWords(words | more, "\n".join(filter(by_dictionary, values)))


def without(words: Container[str], tasks: Iterable[Likeness]) -> list[Likeness]:
    """Tasks of an earlier run, compared without words that this run leaves out."""
    return [replace(t, centroid={w: x for w, x in t.centroid.items() if w not in words}) for t in tasks]


def top_terms(
    members: Sequence[Call], others: Sequence[Call], count: int = 3, denied: Container[str] = frozenset()
) -> list[str]:
    """Words that many of the task's inputs have and few others do. Words of a few calls are left out: a name must not
    carry what one person said."""
    ours = Counter(w for c in members for w in set(words_of(c.frame.user[:READ_CHARACTERS])))
    theirs = Counter(w for c in others for w in set(words_of(c.frame.user[:READ_CHARACTERS])))
    floor, common = max(5, 0.02 * len(members)), common_words([c.frame.user[:READ_CHARACTERS] for c in members])
    score = {
        w: n / len(members) - theirs[w] / max(1, len(others))
        for w, n in ours.items()
        if n >= floor and tells(w, common) and w not in denied
    }
    return best(score, count)


def own_terms(
    groups: Sequence[Sequence[Call]], count: int = 3, denied: Container[str] = frozenset()
) -> list[list[str]]:
    """The same for many groups at once, of each against all the others: share within times log of how few others have
    the word (class-based tf-idf, Grootendorst 2022, arXiv 2203.05794)."""
    within = [Counter(w for c in group for w in set(words_of(c.frame.user[:READ_CHARACTERS]))) for group in groups]
    share = [{w: n / len(group) for w, n in mine.items()} for mine, group in zip(within, groups, strict=True)]
    total: dict[str, float] = defaultdict(float)
    for each in share:
        for word, value in each.items():
            total[word] += value
    found = []
    common = common_words([c.frame.user[:READ_CHARACTERS] for group in groups for c in group])
    for mine, shares, group in zip(within, share, groups, strict=True):
        floor = max(3, 0.05 * len(group))
        score = {
            w: shares[w] * math.log(1 + len(groups) / total[w])
            for w, n in mine.items()
            if n >= floor and tells(w, common) and w not in denied
        }
        found.append(best(score, count))
    return found


def field_word(shapes: Sequence[Shape], labels: LabelField | None) -> list[str]:
    """What the answers are: the name of the label's field, the tool, or the keys."""
    kind = Counter(s.kind for s in shapes).most_common(1)[0][0]
    if kind == "tool":
        return ["tool", *words_of(Counter(k for s in shapes for k in s.keys).most_common(1)[0][0])[:2]]
    if labels is not None and labels.path:
        return words_of(labels.path.split(".")[-1])[:2]
    if kind == "label":
        return ["label"]
    if kind == "json":
        return [w for k, _ in Counter(k for s in shapes for k in s.keys).most_common(2) for w in words_of(k)][:2]
    return ["text"]


def unique(name: str, taken: set[str]) -> str:
    """The name, or the name with a number."""
    found, number = name, 2
    while found in taken:
        found = f"{name}-{number}"
        number += 1
    return found


def likeness(a: Likeness, b: Likeness) -> float:
    """0 to 1: how surely two tasks of two runs are one. Labels say most; words next; frames only support, since two
    tasks may share one."""
    words = cosine(a.centroid, b.centroid)
    frames = (
        len(a.fingerprints & b.fingerprints) / min(len(a.fingerprints), len(b.fingerprints))
        if (a.fingerprints and b.fingerprints)
        else words
    )
    if a.labels and b.labels:
        labels = len(a.labels & b.labels) / min(len(a.labels), len(b.labels))
        return 0.6 * labels + 0.3 * words + 0.1 * frames
    return 0.7 * words + 0.3 * frames


def matched(found: Sequence[Likeness], previous: Sequence[Likeness], least: float = SAME_TASK) -> dict[int, str]:
    """Index of a found task to the name it had: best pairs first, each name once."""
    pairs = sorted(
        ((likeness(f, p), i, p.name) for i, f in enumerate(found) for p in previous), key=lambda x: (-x[0], x[1], x[2])
    )
    names: dict[int, str] = {}
    for like, i, name in pairs:
        if like >= least and i not in names and name not in names.values():
            names[i] = name
    return names


def cosine(a: dict[str, float], b: dict[str, float]) -> float:
    """Of two bags of words."""
    dot = sum(x * b.get(w, 0.0) for w, x in a.items())
    norm = (sum(x * x for x in a.values()) * sum(x * x for x in b.values())) ** 0.5
    return dot / norm if norm else 0.0
