"""Clusters rows of a file as others do; runs in the environment `bench-discovery`, which our own code never imports.

    python benchmarks/discovery/peer.py bertopic|umap-hdbscan ROWS.npz LABELS.npz

ROWS.npz has `rows` and `texts`. LABELS.npz gets `labels` (-1 for noise), `seconds` and `cpu` of the clustering alone.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

SEED = 42


def bertopic(rows: Any, texts: list[str]) -> Any:
    """BERTopic as it comes, on our embeddings, with its UMAP's seed fixed."""
    from bertopic import BERTopic
    from umap import UMAP

    reduce = UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", low_memory=False, random_state=SEED)
    model = BERTopic(embedding_model=None, umap_model=reduce, calculate_probabilities=False)
    return np.array(model.fit_transform(texts, rows)[0])


def umap_hdbscan(rows: Any, texts: list[str]) -> Any:
    """The chain with the smallest cluster at 15, as tutorials have it."""
    from hdbscan import HDBSCAN
    from umap import UMAP

    reduce = UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=SEED)
    return HDBSCAN(min_cluster_size=15).fit_predict(reduce.fit_transform(rows))


def main() -> None:
    method, source, target = sys.argv[1:]
    run = {"bertopic": bertopic, "umap-hdbscan": umap_hdbscan}[method]
    with np.load(source) as data:
        rows, texts = data["rows"], data["texts"].tolist()
    run(rows[:200], texts[:200])  # numba compiles at the first call
    wall, cpu = time.perf_counter(), time.process_time()
    labels = run(rows, texts)
    np.savez(target, labels=labels, seconds=time.perf_counter() - wall, cpu=time.process_time() - cpu)


if __name__ == "__main__":
    main()
