"""Which members teach and on which side of the split, where that needs more than one of them.

Failed workflows → signs in the conversation → conversations that are not over → asked again → duplicates → split →
share of an origin → size → time → share of escalations.
Pure on what `Members` holds; each step refuses places with its reason, so that all reasons add up to the members.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slmfleet.curation import duplicates
from slmfleet.curation.members import Members
from slmfleet.curation.origins import cap
from slmfleet.curation.rows import messages_of, new_text
from slmfleet.curation.signs import digest, step

TRAIN, HELDOUT = "train", "heldout"
OVERLAP_SHARE = 0.1
OPEN_SHARE = 0.1


@dataclass(frozen=True)
class Limits:
    """Of a dataset. `max_origin_share`: of all rows; None: see `origins`. `max_examples`: of training rows.
    `quiet_seconds`: after which a conversation is over; None: by the log's own pauses."""

    heldout_share: float = 0.2
    max_origin_share: float | None = None
    max_examples: int = 100_000
    signs: bool = True
    quiet_seconds: float | None = None


@dataclass
class Decision:
    """`sides`: place to side of what is kept, in the order of time. `copies`: place to those it stands for.

    `overlap`: training rows later than the first held-out one, where dropping them would have cost too much.
    `harder`: the held-out side is mostly escalations. `unfinished`: calls of conversations that may be under way, where
    dropping them would have cost too much. `origins`: that rows are from; `origin_share`: the cap that was kept to;
    `largest_origin`: the share of the rows that the largest gives. None where no call names an origin.
    """

    sides: dict[int, str]
    copies: dict[int, list[int]]
    overlap: int = 0
    harder: bool = False
    unfinished: int = 0
    origins: int = 0
    origin_share: float | None = None
    largest_origin: float | None = None


def decide(members: Members, limits: Limits) -> Decision:
    """Refuse what does not teach; say where the rest goes."""
    _failed_workflows(members)
    if limits.signs:
        _signs(members)
    unfinished = _unfinished(members, limits)
    _asked_again(members)
    copies = _duplicates(members)  # before the split: of traffic that repeats itself, nothing late would be new
    part = _parts(members, limits.heldout_share)

    def side(place: int) -> str:
        return part[members.conversations[place]]

    share = _origins(members, limits.max_origin_share)
    _size(members, side, limits)
    overlap = _overlap(members, side)
    harder = _escalations(members, side)
    kept = sorted(members.alive(), key=lambda i: (members.times[i], members.ids[i]))
    given = [len(places) for places in _by_origin(members).values()]
    return Decision({i: side(i) for i in kept}, {i: copies[i] for i in kept if i in copies}, overlap, harder,
                    unfinished, len(given), share, max(given) / len(kept) if given else None)


def _failed_workflows(members: Members) -> None:
    """The last that was declared of a conversation holds for its calls that declare nothing."""
    for i in members.alive():
        last = members.declared.get(members.conversations[i])
        if members.outcomes[i] < 0 and last is not None and not last[1]:
            members.refuse(i, "success", "the workflow failed")


def _signs(members: Members) -> None:
    for i in members.alive():
        reason = members.against.get((members.conversations[i], step(members.prompts[i], members.answers[i])))
        if reason is not None:
            members.refuse(i, "success", reason)


def _unfinished(members: Members, limits: Limits) -> int:
    """What is not over is not done well yet, unless its outcome is declared. Of a log so short, or so interleaved, that
    much of it may be under way by its own pauses, nothing is left out for that: it is told."""
    found = members.endings.unfinished(limits.quiet_seconds)
    undeclared = [i for i in members.alive() if members.conversations[i] not in members.declared]
    if limits.signs:
        for i in undeclared:
            if members.conversations[i] in found.unanswered:
                members.refuse(i, "success", "its conversation ended before a tool answered")
    under_way = [i for i in undeclared if members.conversations[i] in found.open]
    if limits.quiet_seconds is None and len(under_way) > OPEN_SHARE * len(members.alive()):
        return len(under_way)
    for i in under_way:
        members.refuse(i, "success", "its conversation was not over")
    return 0


def _asked_again(members: Members) -> None:
    """The same prompt twice in a conversation with another answer: the first was not good enough."""
    last: dict[tuple[int, int], int] = {}
    for i in sorted(members.alive(), key=lambda i: (members.times[i], members.ids[i])):
        key = (members.conversations[i], members.prompts[i])
        earlier = last.get(key)
        if earlier is not None and members.answers[earlier] != members.answers[i]:
            members.refuse(earlier, "success", "asked again")
        last[key] = i


def _parts(members: Members, share: float) -> dict[int, str]:
    """The latest conversations are held out, until they hold their share of the calls."""
    alive = members.alive()
    first: dict[int, tuple[float, str]] = {}
    size: Counter[int] = Counter()
    for i in alive:
        conversation, at = members.conversations[i], (members.times[i], members.ids[i])
        first[conversation] = min(at, first.get(conversation, at))
        size[conversation] += 1
    part: dict[int, str] = {}
    held = 0
    for conversation in sorted(first, key=first.__getitem__, reverse=True):
        take = held < share * len(alive) and len(part) < len(first) - 1
        part[conversation] = HELDOUT if take else TRAIN
        held += size[conversation]
    return part


def _duplicates(members: Members) -> dict[int, list[int]]:
    """One of each group of copies stays, so that no prompt is on both sides: the earliest with the answer that most of
    the group gave."""
    alive = members.alive()
    numbers = duplicates.grouped(
        [members.prints[i] for i in alive], lambda n: new_text(messages_of(members.call(alive[n])))
    )
    groups: dict[int, list[int]] = defaultdict(list)
    for number, place in zip(numbers, alive, strict=True):
        groups[number].append(place)
    copies = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        votes = Counter(members.answers[i] for i in group)
        ranked = sorted(group, key=lambda i: (-votes[members.answers[i]], members.times[i], members.ids[i]))
        for i in ranked[1:]:
            members.refuse(i, "duplicates", "duplicate")
        copies[ranked[0]] = sorted(ranked[1:])
    return copies


def _origins(members: Members, asked: float | None) -> float | None:
    """No origin gives more than its share of the rows. The share that was kept to; None where no call names one."""
    of = _by_origin(members)
    found = cap([len(v) for v in of.values()], len(members.alive()) - sum(len(v) for v in of.values()), asked)
    for places in of.values():
        for i in _spread(members, places)[found.limit :]:
            members.refuse(i, "origin", "over the share of one origin")
    return found.share if of else None


def _by_origin(members: Members) -> dict[int, list[int]]:
    """What is alive, by who called; calls that do not say are in none."""
    of: dict[int, list[int]] = defaultdict(list)
    for i in members.alive():
        if members.origins[i] != members.no_origin:
            of[members.origins[i]].append(i)
    return of


def _size(members: Members, side: Callable[[int], str], limits: Limits) -> None:
    for name, most in ((TRAIN, limits.max_examples), (HELDOUT, max(1, int(limits.max_examples * 0.25)))):
        places = [i for i in members.alive() if side(i) == name]
        for i in _spread(members, places)[most:]:
            members.refuse(i, "split", "over --max-examples")


def _spread(members: Members, places: Sequence[int]) -> list[int]:
    """In an order that depends on nothing but the ids: the first n are a fair sample."""
    return sorted(places, key=lambda i: digest("sample", members.ids[i]))


def _overlap(members: Members, side: Callable[[int], str]) -> int:
    """Training calls later than the first held-out call are left out, where they are few; else they are told."""
    alive = members.alive()
    held = min((members.times[i] for i in alive if side(i) == HELDOUT), default=float("inf"))
    train = [i for i in alive if side(i) == TRAIN]
    late = [i for i in train if members.times[i] >= held]
    if len(late) > OVERLAP_SHARE * len(train):
        return len(late)
    for i in late:
        members.refuse(i, "split", "later than the first held-out call")
    return 0


def _escalations(members: Members, side: Callable[[int], str]) -> bool:
    """Once a specialist serves, what the LLM still answers is harder than the traffic: of the held-out calls,
    escalations keep the share that they have of all calls of the task, and the rest is left out. True where they are
    the most of what there is, and stay: then the held-out side is harder than the traffic."""
    calls = sum(members.answered.values()) - len(members.escalated)  # an escalated call is two records
    natural = len(members.escalated) / calls if calls else 1.0
    held = [i for i in members.alive() if side(i) == HELDOUT]
    hard = [i for i in held if i in members.escalated]
    plain = len(held) - len(hard)
    if natural >= 1 or plain < len(hard):
        return bool(hard)
    for i in _spread(members, hard)[max(1, round(plain * natural / (1 - natural))) :]:
        members.refuse(i, "split", "escalations over their share of the traffic")
    return False
