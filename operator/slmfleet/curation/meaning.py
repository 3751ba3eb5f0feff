"""Which texts mean the same, where nobody says how many meanings there are.

The communities of a neighbour graph (`communities`) are looked at on a path from many to few, and one step of it is
chosen by its silhouette (Rousseeuw 1987, of mean cosine distances), which is flat around its top. Of a few texts, a
step a third of the way along the flat part is taken. Of many, several graphs are made, each with another number of
neighbours, and the step is the one at which they agree most: a granularity that changes with the number asked is the
graph's, not the log's. What most graphs join at that step is one meaning (`consensus`). A path without any clear
silhouette has no structure, and says so. Noise stays noise: a text that is near to no other, and a community too small
to be a task, belong to nothing.

Large logs are learned from a sample; the rest goes to where its neighbours in the sample are.
Pure; the sample's seed is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.communities import Labels, Matrix, nearest, neighbour_graphs, path
from slmfleet.curation.consensus import agreement, majority

NEIGHBOURS, MANY_NEIGHBOURS = 15, (8, 11, 15, 20, 28)
# From so many texts on, several graphs are asked. Fewer say too little of where graphs agree (docs/curation.md).
AGREED_ROWS = 2_000
SAMPLE_ROWS = 12_000
RESOLUTIONS = tuple(0.1 * 1.3**step for step in range(22))
NEARLY_BEST = 0.94
AGREED_NEARLY_BEST = 0.9
STRUCTURE = 0.12
VOTES = 7
FAR, LEAST_SPREAD = 8.0, 0.03
BACKGROUND_PAIRS = 20_000
BACKGROUND_SHARE = 0.75


@dataclass(frozen=True)
class Meanings:
    """`labels`: of every row, -1 for noise, 0 the largest. `silhouette`: -1 to 1; below STRUCTURE all rows are one."""

    labels: Labels
    silhouette: float

    @property
    def structured(self) -> bool:
        return self.silhouette >= STRUCTURE


def meanings(rows: Matrix, weight: Sequence[int], *, min_size: int, seed: int) -> Meanings:
    """Labels of distinct texts' rows (unit length); `weight`: how often each text stands in the log."""
    count = np.asarray(weight, dtype=np.int64)
    if len(rows) < 2 * VOTES:
        return Meanings(np.zeros(len(rows), dtype=np.int64), 0.0)
    rng = np.random.default_rng(seed)
    learned = np.sort(rng.permutation(len(rows))[:SAMPLE_ROWS])
    sample = rows[learned]
    best, found = _chosen(sample)
    if best < STRUCTURE:
        return Meanings(np.zeros(len(rows), dtype=np.int64), best)
    floor = background(sample, seed)
    labels = np.full(len(rows), -1, dtype=np.int64)
    labels[learned] = _without_strays(sample, found, floor)
    rest = np.setdiff1d(np.arange(len(rows)), learned, assume_unique=True)
    if len(rest):
        labels[rest] = _voted(rows[rest], sample, labels[learned], floor)
    return Meanings(_without_small(labels, count, min_size), best)


def background(rows: Matrix, seed: int) -> float:
    """A cosine that pairs of texts of this log have by chance: what is not above it is not near."""
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, len(rows), (2, BACKGROUND_PAIRS))
    different = one != two
    return float(np.quantile(np.einsum("ij,ij->i", rows[one[different]], rows[two[different]]), BACKGROUND_SHARE))


def silhouette(rows: Matrix, labels: Labels) -> float:
    """Mean over the rows of (nearest other community - own) / larger of both, as mean cosine distances."""
    count = np.bincount(labels).astype(np.float64)
    if len(count) < 2:
        return 0.0
    sums = np.zeros((len(count), rows.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, rows)
    at = np.arange(len(rows))
    toward = rows @ sums.T
    own = 1 - (toward[at, labels] - 1) / np.maximum(count[labels] - 1, 1)
    other = 1 - toward / count
    other[at, labels] = np.inf
    nearest_other = other.min(axis=1)
    score = (nearest_other - own) / np.maximum(np.maximum(nearest_other, own), 1e-9)
    score[count[labels] < 2] = 0.0
    return float(score.mean())


def _chosen(rows: Matrix) -> tuple[float, Labels]:
    """The best silhouette of a step, and the step chosen among those nearly as good."""
    return _agreed(rows) if len(rows) >= AGREED_ROWS else _between(rows)


def _agreed(rows: Matrix) -> tuple[float, Labels]:
    """Of many graphs: what they have in common at the step where they agree most."""
    paths = [[labels for _, labels in path(g, RESOLUTIONS)] for g in neighbour_graphs(rows, MANY_NEIGHBOURS)]
    steps = list(zip(*paths, strict=True))
    score = [float(np.mean([silhouette(rows, labels) for labels in step])) for step in steps]
    best = max(score)
    if best < STRUCTURE:
        return best, steps[0][0]
    good = [step for step, each in zip(steps, score, strict=True) if each >= AGREED_NEARLY_BEST * best]
    return best, majority(max(good, key=agreement))


def _between(rows: Matrix) -> tuple[float, Labels]:
    """Of one graph: a third of the way from the fewest to the most, for very small communities flatter a silhouette."""
    (graph,) = neighbour_graphs(rows, (NEIGHBOURS,))
    steps = [(silhouette(rows, labels), labels) for _, labels in path(graph, RESOLUTIONS)]
    best = max(score for score, _ in steps)
    good = [labels for score, labels in steps if score >= NEARLY_BEST * best]
    size = np.log([labels.max() + 1 for labels in good])
    wanted = size.min() + (size.max() - size.min()) / 3
    return best, good[int(np.abs(size - wanted).argmin())]


def _without_strays(rows: Matrix, labels: Labels, floor: float) -> Labels:
    """Without what no two others are near to, and what lies far outside of its community (by the median and the median
    deviation of the cosines with its centre)."""
    _, near = nearest(rows, rows, min(2, len(rows) - 1), skip_self=True)
    kept: Labels = np.where(near[:, -1] >= floor, labels, -1)
    for community in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == community)
        centre = rows[members].mean(axis=0)
        toward = rows[members] @ (centre / max(float(np.linalg.norm(centre)), 1e-12))
        middle = np.median(toward)
        spread = max(float(np.median(np.abs(toward - middle))), LEAST_SPREAD)
        kept[members[toward < middle - FAR * spread]] = -1
    return kept


def _voted(rows: Matrix, sample: Matrix, labels: Labels, floor: float) -> Labels:
    """The label that most nearness of a row's neighbours speaks for."""
    found, near = nearest(rows, sample, VOTES)
    votes = labels[found]
    strength = np.where(near >= floor, near, 0.0)
    best, most = np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows))
    for column in range(VOTES):
        mine = np.where(votes == votes[:, [column]], strength, 0.0).sum(axis=1)
        better = mine > most
        best[better], most[better] = votes[better, column], mine[better]
    return best


def _without_small(labels: Labels, weight: NDArray[np.int64], min_size: int) -> Labels:
    """Numbered from the largest; communities of fewer than `min_size` calls are noise."""
    kept = labels >= 0
    size = np.bincount(labels[kept], weights=weight[kept])
    order = np.argsort(-size, kind="stable")
    rank = np.full(len(size) + 1, -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rank[:-1][size < min_size] = -1
    found: Labels = rank[labels]
    return found
