"""Are two sets of labels one application's, or two? Told from how the inputs are worded, not from what they say.

One application's traffic has a register (who speaks, imperative or question, punctuation, case, length, function
words) that runs through all of its labels, while topics do not: weather and restaurants share little vocabulary and
may still be one task. So two sets are two tasks only where the difference *generalises*: a classifier of the common
words that learned some labels of each side also recognises the sides of labels it has never seen. On mixtures of
SNIPS, BANKING77 and DSTC11 cuts between applications reached 0.96 to 0.99, the best cuts through one 0.70 to 0.95: the
gap is real and narrow, and narrowest where one side has few labels, hence CLEAR_UNDER.

Not covered: two tasks of one application on the same kind of text, behind one prompt, in one format, are one task here;
a side that has a single label is never cut off.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COMMON_WORDS = 200
RIDGE = 4.0
CLEAR = 0.95
# A smaller side of fewer labels than the first must reach the second.
CLEAR_UNDER = ((4, 0.98), (6, 0.965), (10, 0.96))
NOT_APART = 0.92
FEW_SHARE = 0.08
TOPIC_WORDS = 8
AS_GOOD = 0.015
_TOKEN = re.compile(r"\w+|[^\w\s]")
Matrix = NDArray[np.float64]
Side = NDArray[np.bool_]


def style_matrix(texts: Sequence[str]) -> Matrix:
    """One standardised row a text: the log's commonest tokens, and the form of the text."""
    tokens = [_TOKEN.findall(t.lower()[:2_000]) for t in texts]
    frequency = Counter(w for row in tokens for w in set(row))
    common = sorted(frequency, key=lambda w: (-frequency[w], w))[:COMMON_WORDS]
    column = {w: i for i, w in enumerate(common)}
    matrix = np.zeros((len(texts), len(common) + 9))
    for i, (text, row) in enumerate(zip(texts, tokens, strict=True)):
        for word in row:
            j = column.get(word)
            if j is not None:
                matrix[i, j] = 1.0
        matrix[i, len(common) :] = _form(text, row)
    deviation = matrix.std(axis=0)
    return np.asarray((matrix - matrix.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))


def _form(text: str, tokens: Sequence[str]) -> list[float]:
    last = text.rstrip()[-1:]
    return [
        np.log1p(len(tokens)),
        np.log1p(len(text)),
        float(text[:1].isupper()),
        float(last == "?"),
        float(last == "."),
        float(last.isalnum()),
        5 * sum(c.isupper() for c in text) / max(1, len(text)),
        float(any(c.isdigit() for c in text)),
        np.log1p(text.count("\n")),
    ]


@dataclass(frozen=True)
class Cut:
    """A division of atoms in two, and how well it generalises to atoms not learned from (area under the curve)."""

    side: Side
    mean: float
    worst: float


class Atoms:
    """The texts of a group by atom (label), with the sums that least squares needs, so that a cut costs one solve."""

    def __init__(self, matrix: Matrix, atom: NDArray[np.int64], atoms: int) -> None:
        self.matrix, self.atom, self.atoms = matrix, atom, atoms
        self.count = np.maximum(np.bincount(atom, minlength=atoms), 1).astype(float)
        self.total = np.zeros((atoms, matrix.shape[1]))
        np.add.at(self.total, atom, matrix)
        self.centroid = self.total / self.count[:, None]
        self.gram = np.stack([matrix[atom == a].T @ matrix[atom == a] for a in range(atoms)])

    def direction(self, side: Side, learned: Side) -> Matrix | None:
        """Balanced ridge regression of the side on the common words, from the learned atoms only."""
        width = self.matrix.shape[1]
        gram, target = RIDGE * np.eye(width), np.zeros(width)
        for sign, chosen in ((1.0, side & learned), (-1.0, ~side & learned)):
            count = self.count[chosen].sum()
            if not count:
                return None
            gram += self.gram[chosen].sum(axis=0) / (2 * count)
            target += sign * self.total[chosen].sum(axis=0) / (2 * count)
        return np.asarray(np.linalg.solve(gram, target))


def best_cut(atoms: Atoms, seed: int, min_calls: int = 1) -> Cut | None:
    """The best division of the atoms in two tasks, or None where no division is one."""
    if atoms.atoms < 4:
        return None
    cuts: dict[bytes, Cut] = {}
    for side in _candidates(atoms, seed):
        for candidate in (side, refined(atoms, side, seed)):
            key = (candidate if candidate[0] else ~candidate).tobytes()
            if key in cuts or not _large_enough(atoms, candidate, min_calls):
                continue
            cut = generalisation(atoms, candidate, seed)
            if cut is not None and is_two_tasks(atoms, cut, seed):
                cuts[key] = cut
    if not cuts:
        return None
    top = max(c.worst for c in cuts.values())
    return max(
        (c for _, c in sorted(cuts.items()) if c.worst >= top - AS_GOOD), key=lambda c: (smaller(c.side), c.worst)
    )


def smaller(side: Side) -> int:
    """Labels on the smaller side: of two cuts about as good, the one with more of them is less likely luck."""
    return min(int(side.sum()), int((~side).sum()))


def _large_enough(atoms: Atoms, side: Side, min_calls: int) -> bool:
    """Two or three labels among many are cut off only where they carry a good part of the calls: of so many pairs, one
    will generalise by chance."""
    for part in (side, ~side):
        calls = atoms.count[part].sum()
        if part.sum() < 2 or calls < min_calls:
            return False
        if part.sum() < 4 and calls < FEW_SHARE * atoms.count.sum():
            return False
    return True


def is_two_tasks(atoms: Atoms, cut: Cut, seed: int) -> bool:
    """Whether a cut is one between applications. A side of few labels must be much clearer, and clear without the
    words that tell it best: `light_on` and `light_off` share a topic, and a topic is no application."""
    few = smaller(cut.side)
    needed = next((limit for labels, limit in CLEAR_UNDER if few < labels), CLEAR)
    if cut.mean < needed or cut.worst < needed - 0.03:
        return False
    if few >= 6:
        return True
    again = generalisation(without_topic(atoms, cut.side), cut.side, seed)
    return again is not None and again.mean >= needed


def without_topic(atoms: Atoms, side: Side) -> Atoms:
    """The atoms without the TOPIC_WORDS columns in which the sides differ most."""
    mean = [atoms.total[s].sum(axis=0) / atoms.count[s].sum() for s in (side, ~side)]
    kept = np.sort(np.argsort(np.abs(mean[0] - mean[1]), kind="stable")[:-TOPIC_WORDS])
    return Atoms(atoms.matrix[:, kept], atoms.atom, atoms.atoms)


def _candidates(atoms: Atoms, seed: int) -> list[Side]:
    from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
    from sklearn.cluster import KMeans

    found: dict[bytes, Side] = {}
    for points in (atoms.centroid, atoms.centroid * np.sqrt(atoms.count / (atoms.count + 8.0))[:, None]):
        cuts = []
        for weight in (np.ones(atoms.atoms), np.sqrt(atoms.count)):
            for clusters in (2, 3, 5):
                if clusters < atoms.atoms:
                    label = KMeans(clusters, n_init=4, random_state=seed).fit(points, sample_weight=weight).labels_
                    cuts += [label == c for c in range(clusters)]
        tree = linkage(points, "ward")
        for clusters in (2, 4, 8):
            label = fcluster(tree, clusters, "maxclust")
            cuts += [label == c for c in sorted(set(label.tolist()))]
        cuts += _axis_cuts(points, atoms.count)
        for cut in cuts:
            side = np.asarray(cut if cut[0] else ~cut, dtype=np.bool_)
            if 0 < side.sum() < len(side):
                found.setdefault(side.tobytes(), side)
    return [found[k] for k in sorted(found)]


def _axis_cuts(points: Matrix, count: Matrix) -> list[Side]:
    """The widest gap between ordered atoms along each of the first principal axes, with the calls as weights: small
    groups of large labels are on an end of one."""
    weight = count / count.sum()
    centred = points - weight @ points
    _, _, axes = np.linalg.svd(centred * np.sqrt(weight)[:, None], full_matrices=False)
    cuts = []
    for axis in axes[:6]:
        place = centred @ axis
        order = np.argsort(place, kind="stable")
        gaps = np.diff(place[order])
        inner = np.arange(len(gaps))
        balance = np.minimum(inner + 1, len(place) - 1 - inner) >= 2
        for gap in np.argsort(-gaps * balance, kind="stable")[:2]:
            side = np.zeros(len(place), dtype=np.bool_)
            side[order[: gap + 1]] = True
            cuts.append(side)
        cuts.append(place > 0)
    return cuts


def refined(atoms: Atoms, side: Side, seed: int, rounds: int = 3) -> Side:
    """Move every atom to the side that a classifier of the *other* atoms gives its texts to, a few times over."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        fold = rng.permutation(len(side)) % 5
        moved = side.copy()
        for part in range(5):
            beta = atoms.direction(side, fold != part)
            if beta is None:
                return side
            moved[fold == part] = atoms.centroid[fold == part] @ beta > 0
        if (moved == side).all():
            break
        if min(int(moved.sum()), int((~moved).sum())) < 2:
            return side
        side = moved
    return side


def generalisation(atoms: Atoms, side: Side, seed: int, repeats: int = 4) -> Cut | None:
    """Train on half of each side's atoms, judge on the other half, a few times over."""
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(repeats):
        learned = np.zeros(len(side), dtype=np.bool_)
        for half in (np.flatnonzero(side), np.flatnonzero(~side)):
            learned[rng.permutation(half)[: (len(half) + 1) // 2]] = True
        beta = atoms.direction(side, learned)
        judged = ~learned[atoms.atom]
        truth = side[atoms.atom[judged]]
        if beta is None or truth.all() or not truth.any():
            continue
        areas.append(_area(truth, atoms.matrix[judged] @ beta))
    if not areas:
        return None
    return Cut(side, float(np.mean(areas)), float(np.min(areas)))


def _area(truth: NDArray[np.bool_], score: Matrix) -> float:
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    positive = int(truth.sum())
    ranks = rankdata(score)
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))
