"""One partition from several of the same points: how well they agree, and what most of them say.

Pure; ties go to the points that come first. Not covered: partitions with noise in them, each point has a label in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from slmfleet.curation.communities import Labels


def agreement(partitions: Sequence[Labels]) -> float:
    """Mean adjusted mutual information of all pairs (Vinh et al. 2010): 1 where all are the same, about 0 by chance. It
    heeds small groups as it does large ones, where pairs of points (Rand) are nearly all of the large ones."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(np.mean([adjusted_mutual_info_score(a, b) for a, b in combinations(partitions, 2)]))


def majority(partitions: Sequence[Labels]) -> Labels:
    """Labels from 0: the pair of groups that the most partitions join, on average over their points, becomes one, as
    long as that is more than half of them (Gionis, Mannila and Tsaparas 2007, "agglomerative")."""
    atoms, atom, count = np.unique(np.stack(partitions, axis=1), axis=0, return_inverse=True, return_counts=True)
    near = np.zeros((len(atoms), len(atoms)), dtype=np.float32)
    for column in atoms.T:
        near += (column[:, None] == column[None, :]) / np.float32(len(partitions))
    np.fill_diagonal(near, -1.0)
    size, home, best = count.astype(np.float32), np.arange(len(atoms)), near.max(axis=1)
    while len(atoms) > 1 and best.max() > 0.5:
        one = int(best.argmax())
        other = int(near[one].argmax())
        row = (size[one] * near[one] + size[other] * near[other]) / (size[one] + size[other])
        row[(near[one] < 0) | (near[other] < 0)] = -1.0
        stale = np.flatnonzero((near[:, one] == best) | (near[:, other] == best))
        near[one] = near[:, one] = row
        near[other] = near[:, other] = -1.0
        size[one] += size[other]
        home[home == other] = one
        best = np.maximum(best, row)
        best[stale] = near[stale].max(axis=1)
        best[one] = row.max()
    found: Labels = np.unique(home[atom.ravel()], return_inverse=True)[1].astype(np.int64)
    return found
