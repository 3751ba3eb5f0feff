"""Whether a specialist is worth making of a task, and why; and how a task moved since the run before. Pure."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal

from slmfleet.curation import formats, naming
from slmfleet.curation.calls import Call
from slmfleet.curation.naming import Likeness
from slmfleet.curation.repair import repaired
from slmfleet.curation.words import tells, words_of
from slmfleet.wire.discovery import Change, Drift, Suitability
from slmfleet.wire.routes import OutputFormat

ENOUGH_CALLS = 200
AGREEING = 0.6
FEWEST_PAIRS = 30  # of fewer the share says little
SAME = 0.6
ChangeKind = Literal["Split", "Merged", "New", "Gone"]
Verdict = Literal["Specialise", "Wait", "Keep"]
_NUMBER, _WORD = re.compile(r"\d+"), re.compile(r"\w+")


@dataclass(frozen=True)
class Agreement:
    """How often two answers to one prompt (numbers and punctuation aside) were the same."""

    pairs: int
    same: int

    @property
    def share(self) -> float | None:
        return self.same / self.pairs if self.pairs >= FEWEST_PAIRS else None


def agreement(calls: Sequence[Call], expected: OutputFormat) -> Agreement:
    """Each call beside the one before it with the same frame and the same words. All of them: a word as small as "not"
    may ask for another answer. An answer that curation mends (a fence around it) says what it says without it."""
    last: dict[tuple[str, str], str] = {}
    pairs = same = 0
    for call in calls:
        if call.set_aside is not None:
            continue
        words = " ".join(_WORD.findall(_NUMBER.sub("0", call.frame.user.lower())))
        key = (call.fingerprint, words or call.frame.user)
        answer = _plain(call, expected)
        if key in last:
            pairs += 1
            same += last[key] == answer
        last[key] = answer
    return Agreement(pairs, same)


def _plain(call: Call, expected: OutputFormat) -> str:
    """An answer without what does not matter: white space, the order of keys, what wraps it."""
    text = call.answer.strip() + "".join(f"{name}({arguments})" for name, arguments in call.tool_calls)
    if not call.tool_calls and formats.fault(text, expected) is not None:
        text = (repaired(text, expected) or (text, ""))[0]
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return " ".join(text.lower().split())


def suitability(
    calls: Sequence[Call], expected: OutputFormat, *, cohesion: float, left: str | None, token_share: float
) -> Suitability:
    """`left`: why the calls' form speaks against a specialist, or None. `token_share`: of the log's tokens."""
    answered = [c for c in calls if c.set_aside is None]
    fitting = [c for c in answered if c.tool_calls or formats.fault(c.answer, expected) is None]
    format_share = len(fitting) / len(answered) if answered else 0.0
    agreed = agreement(calls, expected)
    strict = format_share if left is None else 0.0
    verdict, reason = _verdict(len(answered), left, agreed, format_share)
    return Suitability(
        verdict=verdict,
        reason=reason,
        narrowness=round((max(0.0, min(1.0, cohesion)) + strict) / 2, 4),
        format_share=round(format_share, 4),
        agreement=None if agreed.share is None else round(agreed.share, 4),
        agreement_pairs=agreed.pairs,
        saving_tokens_percent=0.0 if verdict == "Keep" else round(100 * token_share, 2),
    )


def _verdict(answered: int, left: str | None, agreed: Agreement, format_share: float) -> tuple[Verdict, str]:
    if not answered:
        return "Keep", "no answers to learn from"
    if left is not None:
        return "Keep", left
    share = agreed.share
    if share is not None and share < AGREEING:
        return "Keep", f"the LLM gives one prompt the same answer in {share:.0%} of {agreed.pairs} pairs only"
    if answered < ENOUGH_CALLS:
        return "Wait", f"{answered} answered calls; {ENOUGH_CALLS} make a dataset"
    told = "" if share is None else f", the same to the same prompt in {share:.0%} of {agreed.pairs} pairs"
    return "Specialise", f"short, strict answers: {format_share:.0%} fit the format{told}"


def drift(
    calls: Sequence[Call],
    now: Likeness,
    share: float,
    before: Sequence[Likeness],
    denied: Container[str] = frozenset(),
) -> Drift | None:
    """From an earlier run; None for a task that it did not have. `denied`: words that no run keeps."""
    old = next((p for p in before if p.name == now.name), None)
    if old is None or old.share is None:
        return None
    known = {w for p in before for w in p.centroid}
    return Drift(
        share_before=old.share,
        share_now=share,
        distance=round(min(1.0, max(0.0, 1 - naming.cosine(now.centroid, old.centroid))), 4),
        noise_share=strange_share(calls, known, denied),
        noise_before=old.strange,
    )


def strange_share(calls: Sequence[Call], known: set[str], denied: Container[str] = frozenset()) -> float:
    """Share of calls with mostly words that are not among these, denied ones aside."""
    return round(sum(_strange(call, known, denied) for call in calls) / len(calls), 4) if calls else 0.0


def _strange(call: Call, known: set[str], denied: Container[str]) -> bool:
    """Most of its words were in no task of the earlier run."""
    words = {w for w in words_of(call.frame.user[:naming.READ_CHARACTERS]) if tells(w, frozenset()) and w not in denied}
    return bool(words) and len(words & known) < 0.5 * len(words)


def changes(
    now: Sequence[Likeness], before: Sequence[Likeness], declared: frozenset[str] = frozenset()
) -> list[Change]:
    """What became of the tasks of the run before: one that is several, several that are one, new ones, gone ones.
    `declared`: names that a person gave, which are no news; a task whose calls became one's own is merged into it."""
    if not before:
        return []
    old, new = {p.name: p for p in before}, {n.name: n for n in now}
    stayed = [n for n in now if n.name in old]
    split: dict[str, list[str]] = defaultdict(list)
    merged: dict[str, list[str]] = defaultdict(list)
    narrow = {name for name, one in [*old.items(), *new.items()] if one.narrow}
    found: list[tuple[ChangeKind, list[str], list[str]]] = []
    for name in sorted(set(new) - set(old) - declared):
        home = _nearest(new[name], [old[n.name] for n in stayed])
        if home is None:
            found.append(("New", [], [name]))
        else:
            split[home].append(name)
    for name in sorted(set(old) - set(new)):
        home = _nearest(old[name], [n for n in now if n.name in old or n.name in declared])
        if home is None:
            found.append(("Gone", [name], []))
        else:
            merged[home].append(name)
    found += [("Split", [name], [name, *parts]) for name, parts in sorted(split.items())]
    found += [("Merged", [*({name} & set(old)), *parts], [name]) for name, parts in sorted(merged.items())]
    return [Change(kind=k, before=b, now=n, narrow=not narrow.isdisjoint([*b, *n])) for k, b, n in found]


def _nearest(one: Likeness, others: Sequence[Likeness]) -> str | None:
    scored = [(naming.likeness(one, other), other.name) for other in others]
    best = max(scored, key=lambda s: (s[0], s[1]), default=(0.0, ""))
    return best[1] if best[0] >= SAME else None
