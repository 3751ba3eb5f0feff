"""How well found tasks fit sent ones. Shared by the benchmark, the end-to-end test and the demo.

`truth` maps a record to the task it was made for, or to None where no specialist should take it; `assigned` maps it
to the cluster it was given, or to None. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

Labels = Mapping[str, str | None]


@dataclass(frozen=True)
class Scores:
    """Shares are of 1. `splits`: how many clusters hold at least 2 % of a task's calls."""

    tasks_sent: int
    tasks_found: int
    clusters: int
    purity: float
    missed: float
    foreign: float
    foreign_calls: int
    splits: dict[str, int] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    missed_by_task: dict[str, float] = field(default_factory=dict)


def score(truth: Labels, assigned: Labels) -> Scores:
    """Purity: share of assigned calls whose cluster's commonest task is their own (a cluster of foreign calls has
    purity 0). Missed: share of a narrow task's calls outside the cluster that holds most of it, so that splitting a
    task counts as missing. Foreign: share of calls that no specialist should take and one was given."""
    sent = sorted({t for t in truth.values() if t is not None})
    in_cluster: dict[str, Counter[str | None]] = defaultdict(Counter)
    of_task: dict[str, Counter[str | None]] = defaultdict(Counter)
    for record, task in truth.items():
        cluster = assigned.get(record)
        if cluster is not None:
            in_cluster[cluster][task] += 1
        if task is not None:
            of_task[task][cluster] += 1
    taken = sum(sum(c.values()) for c in in_cluster.values())
    right = sum(max((n for t, n in c.items() if t is not None), default=0) for c in in_cluster.values())
    owner: dict[str, str] = {}
    missed: dict[str, float] = {}
    splits: dict[str, int] = {}
    for task in sent:
        counts = of_task[task]
        total = sum(counts.values())
        owned = [(n, c) for c, n in counts.items() if c is not None and in_cluster[c].most_common(1)[0][0] == task]
        best, name = max(owned, default=(0, None), key=lambda pair: (pair[0], str(pair[1])))
        if name is not None:
            owner[task] = name
        missed[task] = 1 - best / total
        splits[task] = sum(1 for c, n in counts.items() if c is not None and n >= 0.02 * total)
    narrow = sum(sum(of_task[t].values()) for t in sent)
    foreign = [r for r, t in truth.items() if t is None]
    caught = sum(1 for r in foreign if assigned.get(r) is not None)
    return Scores(
        tasks_sent=len(sent),
        tasks_found=len(owner),
        clusters=len(in_cluster),
        purity=right / taken if taken else 0.0,
        missed=sum(missed[t] * sum(of_task[t].values()) for t in sent) / narrow if narrow else 0.0,
        foreign=caught / len(foreign) if foreign else 0.0,
        foreign_calls=len(foreign),
        splits=splits,
        owner=owner,
        missed_by_task=missed,
    )


def upper_limit(hits: int, trials: int, confidence: float = 0.95) -> float:
    """Clopper-Pearson's one-sided upper limit of a rate (C. J. Clopper and E. S. Pearson, Biometrika 1934)."""
    if trials == 0 or hits >= trials:
        return 1.0
    from scipy.stats import beta  # type: ignore[import-untyped]

    return float(beta.ppf(confidence, hits + 1, trials - hits))
