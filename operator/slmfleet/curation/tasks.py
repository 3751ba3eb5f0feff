"""From calls to tasks: which calls are one recurring narrow task, without being told.

Four cuts, each on other evidence, so that neither a shared prompt nor a missing one nor a reworded one decides:
1. the form of the answers (kind, keys, tools);
2. the frames that send them, where frames share their answers' labels they are one task reworded, else they are two;
3. the register of the inputs (`style`): within one form and one frame, two applications are told apart by wording that
   carries over to labels never learned from; without labels, one frame that is answered with the same keys is one task;
4. narrowness: what is long, free or many-stepped stays with the LLM.

Pure: calls in, groups out; the seed is an argument.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation import style
from slmfleet.curation.calls import Call
from slmfleet.curation.shapes import COPIED_CALLS, LabelField, Shape, copied_fields, label_field, narrowness, shape_of

STYLE_ROWS = 3_000
STYLE_ROWS_EACH = 80
STRAY = 1.25
SAME_LABELS = 0.25
SAME_TEXTS = 0.85

Indices = list[int]


@dataclass
class Group:
    """Calls of one candidate task. `labels`: the closed field of its answers, if it has one."""

    members: Indices
    labels: LabelField | None
    kind: str
    narrow: bool = True
    reason: str = ""
    cut: str = ""
    frames: Counter[str] = field(default_factory=Counter)


def find_tasks(
    calls: Sequence[Call], *, min_size: int, seed: int, say: Callable[[str], None] = lambda line: None
) -> list[Group]:
    """Every group of at least `min_size` calls, narrow or not, largest first."""
    shapes = [shape_of(c) for c in calls]
    found: list[Group] = []
    for members in _by_form(calls, shapes, min_size):
        found += _within_form(calls, shapes, members, min_size, seed)
    for group in found:
        verdict = narrowness([calls[i] for i in group.members], [shapes[i] for i in group.members])
        group.narrow, group.reason = verdict.narrow, verdict.reason
        group.frames = Counter(calls[i].fingerprint for i in group.members)
        say(f"group of {len(group.members)} calls ({group.kind}): {verdict.reason}{group.cut}")
    return sorted(found, key=lambda g: (-len(g.members), calls[g.members[0]].id))


def _by_form(calls: Sequence[Call], shapes: Sequence[Shape], min_size: int) -> list[Indices]:
    """Groups of one kind and one set of keys; key sets that mostly overlap in one frame are one form with optional
    keys."""
    forms: dict[tuple[str, tuple[str, ...]], Indices] = defaultdict(list)
    offered = Counter(calls[i].frame.tools for i, s in enumerate(shapes) if s.kind == "tool")
    for i, shape in enumerate(shapes):
        keys = shape.keys
        if shape.kind == "tool":
            tools = calls[i].frame.tools
            keys = tools if offered[tools] >= min_size else ("",)
        if shape.kind in ("text", "code"):
            keys = (calls[i].fingerprint,)
        forms[(shape.kind, keys)].append(i)
    merged: list[tuple[str, set[str], Indices]] = []
    for (kind, keys), members in sorted(forms.items(), key=lambda f: (-len(f[1]), f[0])):
        home = next((m for m in merged if kind == "json" and m[0] == kind and _optional(calls, m, keys, members)), None)
        if home is None:
            merged.append((kind, set(keys), list(members)))
            continue
        home[1].update(keys)
        home[2].extend(members)
    return [sorted(m) for _, _, m in merged if len(m) >= min_size]


def _optional(
    calls: Sequence[Call], home: tuple[str, set[str], Indices], keys: tuple[str, ...], members: Indices
) -> bool:
    both = len(home[1] & set(keys)) / len(home[1] | set(keys))
    if both <= 0.3:
        return False
    theirs = {calls[i].fingerprint for i in members if not calls[i].frame.is_empty}
    ours = {calls[i].fingerprint for i in home[2] if not calls[i].frame.is_empty}
    return bool(theirs & ours) or (both > 0.5 and not theirs and not ours)


def _within_form(
    calls: Sequence[Call], shapes: Sequence[Shape], members: Indices, min_size: int, seed: int
) -> list[Group]:
    mine = [shapes[i] for i in members]
    copied = copied_fields([calls[i].frame.user for i in members[:COPIED_CALLS]], mine)
    labels = label_field(mine, copied=copied)
    kind = Counter(shapes[i].kind for i in members).most_common(1)[0][0]
    if kind in ("text", "code"):  # free, whatever they say: `free` sorts them by meaning
        return [Group(members, None, kind)]
    parts = _by_frame(calls, shapes, members, labels, min_size, seed)
    groups = []
    for part in parts:
        field_ = label_field([shapes[i] for i in part], copied=copied) or labels
        cuts = _by_register(calls, shapes, part, field_, min_size, seed)
        if field_ is None:
            cuts = _of_one_frame(calls, shapes, cuts, copied)
        for cut in cuts:
            cut = _without_giants(calls, cut)
            own = label_field([shapes[i] for i in cut], copied=copied)
            if len(cut) >= min_size:
                note = " (told apart by wording)" if len(cut) < len(part) else ""
                groups.append(Group(sorted(cut), own, kind, cut=note))
    return groups


def _of_one_frame(
    calls: Sequence[Call], shapes: Sequence[Shape], cuts: Sequence[Indices], copied: frozenset[str]
) -> list[Indices]:
    """Cuts without labels that share a frame and their answers' keys are one task, however its inputs are worded: the
    frame asks the same of all of them."""
    joined: list[tuple[set[str], tuple[str, ...], Indices]] = []
    found: list[Indices] = []
    for cut in cuts:
        frames = {calls[i].fingerprint for i in cut if not calls[i].frame.is_empty}
        keys = Counter(shapes[i].keys for i in cut).most_common(1)[0][0]
        if label_field([shapes[i] for i in cut], copied=copied) is not None:
            found.append(cut)
            continue
        same = [one for one in joined if one[1] == keys and one[0] & frames]
        joined = [one for one in joined if one not in same]
        joined.append((frames.union(*(one[0] for one in same)), keys, [*cut, *(i for one in same for i in one[2])]))
    return [*found, *(members for _, _, members in joined)]


def _without_giants(calls: Sequence[Call], members: Indices) -> Indices:
    """A long document that happened to be answered with a task's label is none of its calls."""
    sizes = sorted(len(calls[i].frame.user) for i in members)
    if not sizes:
        return members
    limit = 4 * sizes[int(0.95 * (len(sizes) - 1))] + 200
    return [i for i in members if len(calls[i].frame.user) <= limit]


def _by_frame(
    calls: Sequence[Call],
    shapes: Sequence[Shape],
    members: Indices,
    labels: LabelField | None,
    min_size: int,
    seed: int,
) -> list[Indices]:
    """Frames joined where their answers say the same things; calls in rare frames follow their label, or stay one
    part."""
    of_frame: dict[str, Indices] = defaultdict(list)
    for i in members:
        of_frame[calls[i].fingerprint].append(i)
    floor = max(8, min(min_size // 2, int(0.01 * len(members))))
    frequent = sorted((f for f, m in of_frame.items() if len(m) >= floor), key=lambda f: (-len(of_frame[f]), f))
    rare = [i for f, m in of_frame.items() if f not in set(frequent) for i in m]
    if not frequent:
        return [members]
    joined: list[Indices] = []
    for frame in frequent:
        home = next((j for j in joined if _same_task(calls, shapes, j, of_frame[frame], labels, seed)), None)
        if home is None:
            joined.append(list(of_frame[frame]))
        else:
            home.extend(of_frame[frame])
    joined = _fixpoint(calls, shapes, joined, labels, seed)
    return _with_rare(shapes, joined, rare, labels, min_size)


def _fixpoint(
    calls: Sequence[Call], shapes: Sequence[Shape], parts: list[Indices], labels: LabelField | None, seed: int
) -> list[Indices]:
    """Joining makes parts larger, and larger parts show what they share: until nothing joins any more."""
    merged = True
    while merged and len(parts) > 1:
        merged = False
        for a in range(len(parts)):
            b = next(
                (b for b in range(a + 1, len(parts)) if _same_task(calls, shapes, parts[a], parts[b], labels, seed)),
                None,
            )
            if b is not None:
                parts[a] = parts[a] + parts.pop(b)
                merged = True
                break
    return parts


def _with_rare(
    shapes: Sequence[Shape], parts: list[Indices], rare: Indices, labels: LabelField | None, min_size: int
) -> list[Indices]:
    if not rare:
        return parts
    if labels is None:
        if len(parts) == 1:
            return [parts[0] + rare]
        return [*parts, rare]
    owner: dict[str, Counter[int]] = defaultdict(Counter)
    for number, part in enumerate(parts):
        for i in part:
            label = labels.of(shapes[i])
            if label is not None:
                owner[label][number] += 1
    loose = []
    for i in rare:
        label = labels.of(shapes[i])
        if label is not None and owner[label]:
            parts[owner[label].most_common(1)[0][0]].append(i)
        else:
            loose.append(i)
    return [*parts, loose] if len(loose) >= min_size else parts


def _same_task(
    calls: Sequence[Call], shapes: Sequence[Shape], a: Indices, b: Indices, labels: LabelField | None, seed: int
) -> bool:
    """Whether two frames are one task: their labels overlap as two samples of one distribution would; without labels,
    their inputs cannot be told apart by wording."""
    if labels is not None:
        return _overlap(labels, shapes, a, b) >= SAME_LABELS
    return _separability(calls, a, b, seed) < SAME_TEXTS


def _overlap(labels: LabelField, shapes: Sequence[Shape], a: Indices, b: Indices) -> float:
    """Shared mass of two label distributions, over what two samples of their sizes could share at most."""
    one, two = (Counter(x for x in (labels.of(shapes[i]) for i in part) if x is not None) for part in (a, b))
    if not one or not two:
        return 0.0
    share = sum(min(n / one.total(), two[x] / two.total()) for x, n in one.items())
    small, large = sorted((one.total(), two.total()))
    possible = min(1.0, (small / max(1, len(labels.support))) ** 0.5)
    common = len(set(one) & set(two)) / min(len(one), len(two))
    return max(share / max(possible, 0.4), share if large < 30 else 0.0) if common >= 0.2 else 0.0


def _separability(calls: Sequence[Call], a: Indices, b: Indices, seed: int) -> float:
    """Area under the curve of telling two sets' inputs apart by wording, on calls not learned from."""
    rng = np.random.default_rng(seed)
    one, two = (sorted(rng.permutation(p)[:400].tolist()) for p in (a, b))
    matrix = style.style_matrix([calls[i].frame.user for i in one + two])
    fold = np.concatenate([np.arange(len(one)) % 4, np.arange(len(two)) % 4 + 4])
    side = np.array([True] * 4 + [False] * 4)
    cut = style.generalisation(style.Atoms(matrix, fold, 8), side, seed)
    return cut.mean if cut else 0.0


def _by_register(
    calls: Sequence[Call],
    shapes: Sequence[Shape],
    members: Indices,
    labels: LabelField | None,
    min_size: int,
    seed: int,
) -> list[Indices]:
    """Cut in two by wording as long as a cut is clear, then join what turned out not to differ."""
    if len(members) < 2 * min_size:
        return [members]
    names = _atoms(calls, shapes, members, labels, seed)
    parts: list[list[str]] = []
    queue = [sorted(n for n, c in Counter(names.values()).items() if c >= 3)]
    while queue:
        chosen = queue.pop()
        cut = _cut(calls, names, chosen, min_size, seed)
        if cut is None:
            parts.append(chosen)
            continue
        queue += cut
    parts = _polished(calls, names, _rejoined(calls, names, parts, seed), seed)
    if len(parts) == 1:
        return [members]
    number = {name: k for k, part in enumerate(parts) for name in part}
    split: list[Indices] = [[] for _ in parts]
    for i in members:
        if names.get(i) in number:
            split[number[names[i]]].append(i)
    return split


def _atoms(
    calls: Sequence[Call], shapes: Sequence[Shape], members: Indices, labels: LabelField | None, seed: int
) -> dict[int, str]:
    """What a cut may not go through: the calls of one label; without labels, calls that say similar things."""
    if labels is not None:
        named = {i: labels.of(shapes[i]) for i in members}
        return {i: name for i, name in named.items() if name is not None}
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [calls[i].frame.user[:2_000] for i in members]
    try:
        matrix = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    except ValueError:
        return dict.fromkeys(members, "all")
    size = min(40, matrix.shape[1] - 1)
    if size < 8:
        return dict.fromkeys(members, "all")
    dense = TruncatedSVD(size, random_state=seed).fit_transform(matrix)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True) + 1e-9
    count = min(16, len(members) // 12, len(np.unique(dense, axis=0)))
    found = KMeans(count, n_init=2, random_state=seed).fit_predict(dense)
    return {i: f"text-{k:02d}" for i, k in zip(members, found.tolist(), strict=True)}


def _rows(names: dict[int, str], chosen: Sequence[str], seed: int) -> tuple[Indices, NDArray[np.int64]]:
    """A sample of calls, every atom with its share and the small ones whole."""
    rng = np.random.default_rng(seed)
    number = {n: k for k, n in enumerate(chosen)}
    of_atom: dict[int, Indices] = defaultdict(list)
    for i, name in names.items():
        if name in number:
            of_atom[number[name]].append(i)
    most = max(STYLE_ROWS_EACH, STYLE_ROWS // max(1, len(chosen)))
    rows, atom = [], []
    for k in sorted(of_atom):
        kept = sorted(rng.permutation(of_atom[k])[:most].tolist())
        rows += kept
        atom += [k] * len(kept)
    return rows, np.array(atom, dtype=np.int64)


def _style_atoms(calls: Sequence[Call], names: dict[int, str], chosen: Sequence[str], seed: int) -> style.Atoms:
    rows, atom = _rows(names, chosen, seed)
    return style.Atoms(style.style_matrix([calls[i].frame.user for i in rows]), atom, len(chosen))


def _cut(
    calls: Sequence[Call], names: dict[int, str], chosen: list[str], min_size: int, seed: int
) -> list[list[str]] | None:
    if len(chosen) < 4:
        return None
    atoms = _style_atoms(calls, names, chosen, seed)
    cut = style.best_cut(atoms, seed, min_size)
    if cut is None:
        return None
    return [[n for n, s in zip(chosen, cut.side, strict=True) if s == wanted] for wanted in (True, False)]


def _polished(calls: Sequence[Call], names: dict[int, str], parts: list[list[str]], seed: int) -> list[list[str]]:
    """Wording alone leaves a label now and then on the wrong side. What its inputs say then decides: a label whose
    three nearest labels (cosine of tf-idf centroids) are STRAY times nearer in another part moves there. No part gives
    away more than a fifth of its labels, nor a label that is much of it: such a label's topic is its own."""
    if len(parts) < 2:
        return parts
    from sklearn.feature_extraction.text import TfidfVectorizer

    chosen = [n for part in parts for n in part]
    rows, atom = _rows(names, chosen, seed)
    weight = Counter(names.values())
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, token_pattern=r"\w+").fit_transform(
        [calls[i].frame.user[:2_000] for i in rows]
    )
    centroid = np.stack([np.asarray(words[atom == k].mean(axis=0)).ravel() for k in range(len(chosen))])
    centroid /= np.linalg.norm(centroid, axis=1, keepdims=True) + 1e-12
    near = centroid @ centroid.T
    np.fill_diagonal(near, -1.0)
    place = np.array([k for k, part in enumerate(parts) for _ in part])
    size = np.bincount(place)
    affinity = np.stack([np.sort(near[:, place == k], axis=1)[:, -3:].mean(axis=1) for k in range(len(parts))], axis=1)
    own = affinity[np.arange(len(chosen)), place]
    gain = affinity.max(axis=1) / np.maximum(own, 1e-9)
    count = np.array([weight[n] for n in chosen], dtype=float)
    share = count / np.bincount(place, weights=count)[place]
    moved: Counter[int] = Counter()
    home = place.copy()
    for k in np.argsort(-gain, kind="stable"):
        if gain[k] < STRAY or moved[int(place[k])] >= size[place[k]] // 5 or share[k] > 0.06:
            continue
        moved[int(place[k])] += 1
        home[k] = int(affinity[k].argmax())
    return [[n for n, h in zip(chosen, home, strict=True) if h == k] for k in range(len(parts))]


def _rejoined(calls: Sequence[Call], names: dict[int, str], parts: list[list[str]], seed: int) -> list[list[str]]:
    """A first cut may be crooked: parts that wording does not separate are one again, the least separable first."""
    while len(parts) > 1:
        pairs = []
        for a in range(len(parts)):
            for b in range(a + 1, len(parts)):
                atoms = _style_atoms(calls, names, parts[a] + parts[b], seed)
                side = np.array([True] * len(parts[a]) + [False] * len(parts[b]))
                cut = style.generalisation(atoms, side, seed, 6)
                if cut is None or cut.mean < style.NOT_APART:
                    pairs.append((cut.mean if cut else 0.0, a, b))
        if not pairs:
            return parts
        _, a, b = min(pairs)
        parts[a] = sorted(parts[a] + parts[b])
        parts.pop(b)
    return parts
