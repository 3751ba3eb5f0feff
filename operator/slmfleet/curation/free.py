"""Tasks among the calls whose answers give no form away: bare messages, free text, no answer at all.

First by frame: frames whose prompts say nearly the same, with the same tools and response format, are one family; calls
without any frame are one as well. Then by what the calls were answered with (text, JSON, a tool). Then, for text, by
the meaning of the inputs. At last, groups of two families are one task where both their inputs and their answers mean
the same: two prompts for one task, not two tasks on one kind of text.

A family with a prompt of its own whose inputs show no structure is one task; without a prompt it is noise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from slmfleet.curation.calls import Call
from slmfleet.curation.communities import Matrix
from slmfleet.curation.embed import Embedder
from slmfleet.curation.meaning import meanings
from slmfleet.curation.shapes import shape_of
from slmfleet.recognise.frame import Frame

SAME_PROMPT = 0.8
SAME_INPUTS = 0.9
SAME_ANSWERS = 0.8
FRAMES = 2_000
ANSWERS = 16
BROAD_INPUT_CHARACTERS = 600
BROAD_ANSWER_CHARACTERS = 1_500
BROAD_MESSAGES = 8

Indices = list[int]
Say = Callable[[str], None]
Asked = Callable[[Sequence[str]], list[str]]


def is_broad(call: Call) -> bool:
    """Long, many-stepped or long answered: what stays with the LLM whatever it means."""
    return (
        len(call.frame.user) > BROAD_INPUT_CHARACTERS
        or call.frame.messages > BROAD_MESSAGES
        or len(call.answer) + sum(len(a) for _, a in call.tool_calls) > BROAD_ANSWER_CHARACTERS
    )


def find_free(
    calls: Sequence[Call], embedder: Embedder, *, min_size: int, seed: int, say: Say = lambda line: None,
    asked: Asked = list,
) -> list[Indices]:
    """Groups of at least `min_size` calls, the largest first; calls in none of them are noise. `asked`: inputs without
    what says who asks."""
    found: list[tuple[int, Indices]] = []
    inputs = asked([call.frame.user.strip() for call in calls])
    for number, family in enumerate(_families(calls, embedder)):
        for members in _by_form(calls, family):
            parts = _by_meaning(calls, inputs, members, embedder, min_size, seed)
            if parts:
                say(f"{len(members)} free calls of one frame: {len(parts)} meanings")
            found += [(number, part) for part in parts]
    merged = _merged(calls, inputs, found, embedder)
    return sorted((sorted(m) for m in merged), key=lambda m: (-len(m), calls[m[0]].id))


def _families(calls: Sequence[Call], embedder: Embedder) -> list[Indices]:
    """Calls by frame, frames that are rewordings of one prompt together; the largest first."""
    of_frame: dict[str, Indices] = defaultdict(list)
    for i, call in enumerate(calls):
        of_frame[call.fingerprint].append(i)
    frames = sorted(of_frame, key=lambda f: (-len(of_frame[f]), f))
    heads = [calls[of_frame[f][0]].frame for f in frames[:FRAMES]]
    prompts = [k for k, head in enumerate(heads) if head.system.strip()]
    rows = dict(zip(prompts, embedder.embed([heads[k].system for k in prompts]), strict=True)) if prompts else {}
    families: list[tuple[int, Indices]] = []
    for k, frame in enumerate(frames):
        home = _home(families, heads, rows, k) if k < len(heads) else None
        if home is None:
            families.append((k, list(of_frame[frame])))
        else:
            home.extend(of_frame[frame])
    return [members for _, members in families]


def _home(
    families: list[tuple[int, Indices]], heads: Sequence[Frame], rows: dict[int, Matrix], k: int
) -> Indices | None:
    mine = heads[k]
    for first, members in families:
        if first >= len(heads):
            return None
        theirs = heads[first]
        if (mine.tools, mine.response_format) != (theirs.tools, theirs.response_format):
            continue
        if k in rows and first in rows and float(rows[k] @ rows[first]) >= SAME_PROMPT:
            return members
    return None


def _by_form(calls: Sequence[Call], members: Indices) -> list[Indices]:
    forms: dict[str, Indices] = defaultdict(list)
    for i in members:
        kind = shape_of(calls[i]).kind
        forms[kind if kind in ("json", "tool") else "text"].append(i)
    return [forms[f] for f in sorted(forms)]


def _by_meaning(
    calls: Sequence[Call], inputs: Sequence[str], members: Indices, embedder: Embedder, min_size: int, seed: int
) -> list[Indices]:
    if len(members) < min_size:
        return []
    framed = not calls[members[0]].frame.is_empty
    if framed and shape_of(calls[members[0]]).kind in ("json", "tool"):
        return [members]
    of_text: dict[str, Indices] = defaultdict(list)
    for i in members:
        of_text[inputs[i]].append(i)
    texts = sorted(of_text, key=lambda t: of_text[t][0])
    weight = [len(of_text[t]) for t in texts]
    found = meanings(embedder.embed(texts), weight, min_size=min_size, seed=seed)
    if not found.structured:
        repeated = len(members) >= 5 * len(texts)
        return [members] if framed or repeated else []
    parts: dict[int, Indices] = defaultdict(list)
    for text, label in zip(texts, found.labels.tolist(), strict=True):
        if label >= 0:
            parts[label] += of_text[text]
    return [parts[k] for k in sorted(parts)]


def _merged(
    calls: Sequence[Call], inputs: Sequence[str], found: list[tuple[int, Indices]], embedder: Embedder
) -> list[Indices]:
    """Groups of different families with the same inputs and the same answers are one."""
    if len({family for family, _ in found}) < 2:
        return [members for _, members in found]
    centre = _centres([[inputs[i] for i in _spread(m, 200)] for _, m in found], embedder)
    answer = _centres([[calls[i].answer for i in _spread(m, ANSWERS) if calls[i].answer] for _, m in found], embedder)
    near = centre @ centre.T
    joined = [list(members) for _, members in found]
    for b in range(1, len(found)):
        for a in range(b):
            if found[a][0] == found[b][0] or not joined[a] or near[a, b] < SAME_INPUTS:
                continue
            both = answer[a].any() and answer[b].any()
            if both and float(answer[a] @ answer[b]) >= SAME_ANSWERS:
                joined[a] += joined[b]
                joined[b] = []
                break
    return [members for members in joined if members]


def _centres(groups: Sequence[Sequence[str]], embedder: Embedder) -> Matrix:
    """The mean row of each group, of unit length; zeros for a group without a text."""
    texts = [t for group in groups for t in group]
    rows = embedder.embed(texts) if texts else np.zeros((0, 1), dtype=np.float32)
    found = np.zeros((len(groups), rows.shape[1]), dtype=np.float32)
    at = 0
    for k, group in enumerate(groups):
        if group:
            mean = rows[at : at + len(group)].mean(axis=0)
            found[k] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        at += len(group)
    return found


def _spread(members: Indices, count: int) -> Indices:
    return members[:: max(1, len(members) // count)][:count]


def meanings_within(
    calls: Sequence[Call], embedder: Embedder, *, min_size: int, seed: int, asked: Asked = list
) -> list[Indices]:
    """Calls of one task by what their inputs mean; one group where they show no structure. `asked`: see `find_free`."""
    inputs = asked([c.frame.user.strip() for c in calls])
    texts = Counter(inputs)
    found = meanings(embedder.embed(list(texts)), list(texts.values()), min_size=min_size, seed=seed)
    label = dict(zip(texts, found.labels.tolist(), strict=True))
    parts: dict[int, Indices] = defaultdict(list)
    for i, text in enumerate(inputs):
        parts[label[text]].append(i)
    return [parts[k] for k in sorted(parts) if k >= 0]
