"""Tasks among bare messages, number of tasks unknown: ours beside BERTopic's default chain and UMAP + HDBSCAN.

    python benchmarks/discovery/meaning.py --peer-python PYTHON [--out benchmarks/discovery/meaning.md] [--quick]

All get the same embeddings. Intents are divided in two by the alphabet: what was chosen was chosen on the first, third,
… (`tune`); figures are of the others. Labels are read by the scores alone. k-means is told the true number.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "operator"), str(HERE)]

from traffic import data_dir  # noqa: E402

from slmfleet.curation import embed  # noqa: E402
from slmfleet.curation.meaning import meanings  # noqa: E402

RESAMPLES = 200
PEERS = ("bertopic", "umap-hdbscan")
GOALS = {"dialogue turns": ("accuracy", 0.65), "banking": ("NMI", 0.80), "mixed": ("NMI", 0.85)}
Rows = Any


def intents(name: str, folder: Path) -> list[tuple[str, str]]:
    """(text, intent) of one of the shared files."""
    if name == "banking":
        with (folder / "banking77_train.csv").open(encoding="utf-8") as f:
            return [(r["text"], f"banking/{r['category']}") for r in csv.DictReader(f)]
    file, key = {"dstc": ("dstc11_development.jsonl", "utterance"), "snips": ("snips.jsonl", "text")}[name]
    lines = (folder / file).read_text("utf-8").splitlines()
    return [(r[key], f"{name}/{r['intent']}") for r in map(json.loads, lines)]


def half(rows: list[tuple[str, str]], which: int, most: int) -> list[tuple[str, str]]:
    """The rows of every second intent, at most so many, by a seed."""
    chosen = set(sorted({y for _, y in rows})[which::2])
    kept = [r for r in rows if r[1] in chosen]
    order = np.random.default_rng(1).permutation(len(kept))[:most]
    return [kept[i] for i in sorted(order.tolist())]


def accuracy(truth: Rows, labels: Rows) -> float:
    """Share of rows in the right cluster under the best one-to-one naming (Hungarian); noise is wrong."""
    _, y = np.unique(truth, return_inverse=True)
    clear = labels >= 0
    if not clear.any():
        return 0.0
    _, p = np.unique(labels[clear], return_inverse=True)
    table = np.zeros((p.max() + 1, y.max() + 1), dtype=np.int64)
    np.add.at(table, (p, y[clear]), 1)
    one, other = linear_sum_assignment(-table)
    return float(table[one, other].sum() / len(y))


SCORES: dict[str, Callable[[Rows, Rows], float]] = {
    "accuracy": accuracy, "NMI": normalized_mutual_info_score, "ARI": adjusted_rand_score,
}  # fmt: skip


def interval(score: Callable[[Rows, Rows], float], truth: Rows, labels: Rows) -> tuple[float, float, float]:
    """The score, and the middle 95 % of it over resampled rows."""
    rng = np.random.default_rng(0)
    picks = [rng.integers(0, len(truth), len(truth)) for _ in range(RESAMPLES)]
    low, high = np.quantile([score(truth[i], labels[i]) for i in picks], [0.025, 0.975])
    return score(truth, labels), float(low), float(high)


def peer(python: str, method: str, rows: Rows, texts: list[str]) -> tuple[Rows, float, float]:
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "rows.npz", Path(name) / "labels.npz"
        np.savez(source, rows=rows, texts=np.array(texts))
        subprocess.run([python, str(HERE / "peer.py"), method, str(source), str(target)], check=True,
                       capture_output=True, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"})  # fmt: skip
        with np.load(target) as found:
            return found["labels"], float(found["seconds"]), float(found["cpu"])


def ours(rows: Rows) -> tuple[Rows, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    labels = meanings(rows, [1] * len(rows), min_size=5, seed=0).labels
    return labels, time.perf_counter() - wall, time.process_time() - cpu


def row(data: str, method: str, truth: Rows, found: tuple[Rows, float, float]) -> str:
    labels, _, cpu = found
    cells = []
    for name, score in SCORES.items():
        value, low, high = interval(score, truth, labels)
        goal = GOALS.get(data)
        missed = method == "ours" and goal is not None and goal[0] == name and value < goal[1]
        cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})" + (" **missed**" if missed else ""))
    clusters = len(set(labels[labels >= 0].tolist()))
    line = f"| {data} | {method} | {clusters} | {np.mean(labels < 0):.1%} | {' | '.join(cells)} | {cpu:.1f} |"
    print(line, flush=True)
    return line


def sets(folder: Path, quick: bool) -> dict[str, list[tuple[str, str]]]:
    most = 600 if quick else 3_000
    dstc, banking, snips = (intents(n, folder) for n in ("dstc", "banking", "snips"))
    return {
        "dialogue turns": half(dstc, 1, most),
        "dialogue turns, all": half(dstc, 0, most) + half(dstc, 1, most),
        "banking": half(banking, 1, most),
        "mixed": half(dstc, 1, most) + half(banking, 1, most // 2) + half(snips, 1, most // 10),
    }


def scale(rows: Rows, count: int) -> str:
    """Real rows again and again, each moved a little, so that none stands there twice."""
    rng = np.random.default_rng(0)
    many = rows[rng.integers(0, len(rows), count)]
    many = many + rng.normal(0, 0.02, many.shape).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    labels, seconds, cpu = ours(many)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = len(set(labels[labels >= 0].tolist()))
    told = f"{seconds:.0f} s, {cpu:.0f} CPU seconds, {peak:.0f} MB at most (all of this process)"
    return f"{count:,} rows: {told}, {found} clusters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="the Python of the environment bench-discovery")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = data_dir()
    if folder is None:
        sys.exit("benchmarks/discovery: no shared data; set SLMFLEET_DATA")
    embedder = embed.Remembering(embed.chosen(None))
    lines, last, rate = [], None, ""
    for name, data in sets(folder / "intents", options.quick).items():
        texts, truth = [t for t, _ in data], np.array([y for _, y in data])
        known, cpu = len(embedder.known), time.process_time()
        last = embedder.embed(texts)
        rate = rate or f"{(len(embedder.known) - known) / (time.process_time() - cpu):.0f} texts a CPU second"
        lines.append(row(name, "ours", truth, ours(last)))
        lines += [row(name, p, truth, peer(options.peer_python, p, last, texts)) for p in PEERS]
        k = len(set(truth.tolist()))
        means = KMeans(k, n_init=4, random_state=0).fit_predict(last)
        lines.append(row(name, f"k-means, told {k}", truth, (means, 0.0, float("nan"))))
    assert last is not None
    large = scale(last, 10_000 if options.quick else 100_000)
    page = _page(lines, embedder.name, rate, large)
    print(large)
    if options.out is not None:
        options.out.write_text(page, "utf-8")


def _page(lines: list[str], embedder: str, rate: str, large: str) -> str:
    goals = "; ".join(f"{name}: {score} at least {value}" for name, (score, value) in GOALS.items())
    return "\n".join([
        "# Discovery by meaning, beside others", "",
        f"`make bench-discovery` on {datetime.now(UTC):%Y-%m-%d}; {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}.", "",
        f"Goals: {goals}. Intents of the shared data, every second one (what was chosen was chosen on the others; "
        "`all` has both). Embeddings by " f"{embedder} for every method ({rate}); middle 95 % of {RESAMPLES} "
        "resamples of the rows in brackets. Noise counts as wrong in accuracy, as one cluster in NMI and ARI. "
        "CPU seconds of the clustering alone.", "",
        "| data | method | clusters | noise | accuracy | NMI | ARI | CPU seconds |",
        "|---|---|---|---|---|---|---|---|",
        *lines, "", f"Scale, ours, from embeddings to clusters: {large}.", ""])  # fmt: skip


if __name__ == "__main__":
    main()
