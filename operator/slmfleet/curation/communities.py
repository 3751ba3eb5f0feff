"""Groups of points without a given number of them: communities of a neighbour graph, on a path from many to few.

The graph joins each point with its nearest by cosine, weighted by how near they are for that part of the space (local
scaling, Zelnik-Manor and Perona 2004), so that a dense task and a sparse one are seen alike. Communities are found by
modularity with a resolution (Reichardt and Bornholdt 2006; moves as in Blondel et al. 2008, a queue as in Traag et al.
2019, and every community connected). Which resolution is right is not decided here, see `meaning`.

Pure: rows of unit length in, labels out. The order of moves is the order of the rows: no randomness.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

BLOCK_ROWS = 512
ROUNDS = 12
Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]


def nearest(rows: Matrix, among: Matrix, count: int, *, skip_self: bool = False) -> tuple[Labels, Matrix]:
    """Indices and cosines, each (rows, count), nearest first. `skip_self`: row i of both is one point."""
    found = np.empty((len(rows), count), dtype=np.int64)
    near = np.empty((len(rows), count), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS] @ among.T
        at = np.arange(len(block))
        if skip_self:
            block[at, start + at] = -2.0
        best = np.argpartition(block, -count, axis=1)[:, -count:]
        value = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        found[start : start + len(block)] = np.take_along_axis(best, order, axis=1)
        near[start : start + len(block)] = np.take_along_axis(value, order, axis=1)
    return found, near


def neighbour_graphs(rows: Matrix, neighbours: Sequence[int]) -> Iterator[csr_array]:
    """A graph for each number of neighbours; they are looked for once."""
    found, near = nearest(rows, rows, max(1, min(max(neighbours), len(rows) - 1)), skip_self=True)
    for count in neighbours:
        yield _graph(found[:, :count], near[:, :count])


def _graph(found: Labels, near: Matrix) -> csr_array:
    """A symmetric graph of the points, without loops; weights 0 to 1."""
    count, k = found.shape
    distance = np.maximum(1.0 - near, 1e-6)
    scale = distance[:, max(0, k // 2 - 1)]
    weight = np.exp(-(distance**2) / (scale[:, None] * scale[found]))
    source = np.repeat(np.arange(count), k)
    half = coo_array((weight.ravel(), (source, found.ravel())), shape=(count, count)).tocsr()
    return csr_array(half.maximum(half.T))


def path(graph: csr_array, resolutions: Sequence[float]) -> Iterator[tuple[float, Labels]]:
    """Labels at each resolution, the finest first; each goes on from the one before."""
    labels = np.arange(graph.shape[0])
    for resolution in sorted(resolutions, reverse=True):
        labels = _connected(graph, communities(graph, resolution, labels))
        yield resolution, labels


def communities(graph: csr_array, resolution: float, start: Labels) -> Labels:
    """Labels from 0, from `start` on: points move, then whole communities do, until neither gains."""
    labels = _numbered(start)
    for _ in range(ROUNDS):
        before = labels
        labels = _moved(graph, labels, resolution)
        while True:
            whole = _joined(graph, labels)
            up = _moved(whole, np.arange(whole.shape[0]), resolution)
            if up.max() + 1 == whole.shape[0]:
                break
            labels = up[labels]
        if np.array_equal(before, labels):
            break
    return labels


def _joined(graph: csr_array, labels: Labels) -> csr_array:
    """The graph of the communities; a loop carries what lies within one."""
    count = int(labels.max()) + 1
    edges = graph.tocoo()
    return coo_array((edges.data, (labels[edges.row], labels[edges.col])), shape=(count, count)).tocsr()


def _moved(graph: csr_array, start: Labels, resolution: float) -> Labels:
    """Points move, one at a time, to the community of a neighbour where modularity gains most."""
    ends, near, weight = graph.indptr.tolist(), graph.indices.tolist(), graph.data.tolist()
    degree = np.asarray(graph.sum(axis=1)).ravel()
    total = float(degree.sum()) or 1.0
    sums = np.bincount(start, weights=degree).tolist()
    label, pull = start.tolist(), (degree * (resolution / total)).tolist()
    own_degree = degree.tolist()
    queue, waiting = deque(range(len(label))), [True] * len(label)
    while queue:
        i = queue.popleft()
        waiting[i] = False
        home = label[i]
        links: dict[int, float] = {home: 0.0}
        for at in range(ends[i], ends[i + 1]):
            j = near[at]
            if j != i:
                links[label[j]] = links.get(label[j], 0.0) + weight[at]
        sums[home] -= own_degree[i]
        best, most = home, links[home] - pull[i] * sums[home] + 1e-9
        for other, strength in links.items():
            gain = strength - pull[i] * sums[other]
            if gain > most:
                best, most = other, gain
        sums[best] += own_degree[i]
        if best == home:
            continue
        label[i] = best
        for at in range(ends[i], ends[i + 1]):
            j = near[at]
            if not waiting[j] and label[j] != best:
                waiting[j] = True
                queue.append(j)
    return _numbered(np.array(label, dtype=np.int64))


def _connected(graph: csr_array, labels: Labels) -> Labels:
    """Communities that hang together only by what left them are several."""
    edges = graph.tocoo()
    inside = labels[edges.row] == labels[edges.col]
    within = coo_array((edges.data[inside], (edges.row[inside], edges.col[inside])), shape=graph.shape)
    return _numbered(connected_components(within, directed=False)[1].astype(np.int64))


def _numbered(labels: Labels) -> Labels:
    """From 0, in the order in which they come."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    found: Labels = rank[inverse]
    return found
