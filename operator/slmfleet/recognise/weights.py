"""A classifier's weights, small enough for a thousand tasks and laid out for one call at a time.

Scores: a byte a weight, with a scale a task (the third digit is all that is lost), by bucket, since a call reads a few
hundred rows. Nearly all weights of a linear model are next to nothing and are not kept, but in rows that many tasks
have a weight in. How familiar a text is is asked of one task only, so it is kept by task, and only the buckets that the
task has ever used. A thousand tasks take about 30 MB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CONVERTED = 65_536  # weights made floats at once: what fits the cache
STEPS = 127
WHOLE_SHARE = 0.2
"""Of the tasks: a row that more of them have a weight in is whole; wide registers add it up faster than its parts."""
LEAST_STEPS = 2
"""Weights under 1.2 % of a task's largest are nothing. Thresholds are calibrated on what is left. At twice as much,
70 % of the weights of tasks made of BANKING77 and SNIPS went, and what was missed or taken changed by less than chance
does; at six times it began to change."""
MAX_TASKS = 1 << 16


@dataclass(frozen=True)
class Scores:
    """Weights in steps of each task's `scale`. Those of bucket b stand as a row in `whole` where `place[b]` is not -1;
    else only those that are not nothing are kept: `steps[starts[b]:starts[b + 1]]`, each for the task in `tasks`."""

    tasks: NDArray[np.uint16]
    steps: NDArray[np.int8]
    starts: NDArray[np.int64]
    whole: NDArray[np.int8]
    place: NDArray[np.int32]
    scale: Floats

    @classmethod
    def of(cls, weights: NDArray[np.floating], least: int = LEAST_STEPS) -> Scores:
        """Round weights (buckets x tasks) to a byte each, and those of less than `least` steps to nothing."""
        scale = np.abs(weights).max(axis=0, initial=0.0).astype(np.float32) / np.float32(STEPS)
        scale[scale == 0] = 1.0
        steps = np.rint(weights / scale).astype(np.int8)
        steps[np.abs(steps) < least] = 0
        return cls.of_steps(steps, scale)

    @classmethod
    def of_steps(cls, steps: NDArray[np.int8], scale: Floats) -> Scores:
        """From all steps (buckets x tasks); nothing is lost. ValueError for more than MAX_TASKS tasks."""
        if len(scale) > MAX_TASKS:
            raise ValueError(f"{len(scale):,} tasks, at most {MAX_TASKS:,}")
        sizes = np.count_nonzero(steps, axis=1)
        full = sizes > len(scale) * WHOLE_SHARE
        place = np.where(full, full.cumsum() - 1, -1).astype(np.int32)
        sizes[full] = 0
        starts = np.concatenate([[0], sizes.cumsum()]).astype(np.int64)
        thin = np.flatnonzero(~full)
        buckets, tasks = np.nonzero(steps[thin])
        return cls(tasks.astype(np.uint16), steps[thin[buckets], tasks], starts, steps[full], place, scale)

    def fits(self, buckets: int, tasks: int) -> bool:
        """Whether the arrays belong together, for so many buckets and tasks."""
        placed = self.place.shape == (buckets,) and int(self.place.max(initial=-1)) < len(self.whole)
        named = int(self.tasks.max(initial=0)) < max(1, tasks) and self.whole.shape[1:] == self.scale.shape == (tasks,)
        return placed and named and _delimits(self.starts, buckets, len(self.tasks), len(self.steps))

    def weighted(self, buckets: NDArray[np.int64], weight: Floats) -> Floats:
        """The sum of the buckets' rows, each times its weight: one number a task."""
        place = self.place[buckets]
        full = place >= 0
        total = self._weighted_thin(buckets[~full], weight[~full])
        rows, factor = place[full], weight[full]
        step = max(1, CONVERTED // max(1, len(self.scale)))
        for start in range(0, len(rows), step):
            total += factor[start : start + step] @ self.whole[rows[start : start + step]].astype(np.float32)
        total *= self.scale
        return total

    def _weighted_thin(self, buckets: NDArray[np.int64], weight: Floats) -> Floats:
        begins = self.starts[buckets]
        sizes = self.starts[buckets + 1] - begins
        ends = sizes.cumsum()
        places = np.arange(sizes.sum()) + np.repeat(begins - ends + sizes, sizes)
        parts = np.repeat(weight, sizes) * self.steps[places]
        return np.bincount(self.tasks[places], weights=parts, minlength=len(self.scale)).astype(np.float32)


@dataclass(frozen=True)
class Familiar:
    """Log of how often each bucket is in a task's calls. Task k's buckets, in order, are those from `starts[k]` to
    `starts[k + 1]`; one that it never used counts as `absent[k]`, one that it did as that and `steps` of `step[k]`."""

    buckets: NDArray[np.uint16]
    steps: NDArray[np.uint8]
    starts: NDArray[np.int64]
    absent: Floats
    step: Floats

    @classmethod
    def of(cls, dense: NDArray[np.floating]) -> Familiar:
        """From a dense table (buckets x tasks); a task's smallest value is that of the buckets it never used."""
        absent = dense.min(axis=0, initial=math.inf).astype(np.float32)
        step = (dense.max(axis=0, initial=-math.inf) - absent).astype(np.float32) / np.float32(255)
        step[step <= 0] = 1.0
        used = [np.flatnonzero(dense[:, k] > absent[k]) for k in range(dense.shape[1])]
        steps = [np.rint((dense[found, k] - absent[k]) / step[k]) for k, found in enumerate(used)]
        starts = np.cumsum([0, *map(len, used)], dtype=np.int64)
        nothing = np.empty(0)
        return cls(
            np.concatenate([nothing, *used]).astype(np.uint16),
            np.concatenate([nothing, *steps]).astype(np.uint8),
            starts,
            absent,
            step,
        )

    def fits(self, tasks: int) -> bool:
        """Whether the arrays belong together, for so many tasks."""
        shapes = self.absent.shape == self.step.shape == (tasks,)
        return shapes and _delimits(self.starts, tasks, len(self.buckets), len(self.steps))

    def mean(self, buckets: NDArray[np.int64], task: int) -> float:
        """How usual a text's pieces are for a task."""
        start, end = self.starts[task], self.starts[task + 1]
        absent = float(self.absent[task])
        known = self.buckets[start:end]
        if not len(known) or not len(buckets):
            return absent
        wanted = buckets.astype(np.uint16)
        place = np.minimum(known.searchsorted(wanted), len(known) - 1)
        hit = known[place] == wanted
        steps = int(self.steps[start:end][place[hit]].sum(dtype=np.int64))
        return absent + steps * float(self.step[task]) / len(buckets)


def _delimits(starts: NDArray[np.int64], rows: int, *sizes: int) -> bool:
    """Whether `starts` divides arrays of these sizes into rows: the library reads where they say."""
    if starts.shape != (rows + 1,) or starts[0] != 0 or any(starts[-1] != size for size in sizes):
        return False
    return bool((np.diff(starts) >= 0).all())
