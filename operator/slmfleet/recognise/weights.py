"""A classifier's weights, small enough for a thousand tasks and laid out for one call at a time.

Scores: one byte a bucket and task, with a scale a task (the third digit is all that is lost), so a call reads a few
hundred short rows. How familiar a text is is asked of one task only, so it is kept by task, and only the buckets that
the task has ever used. A thousand tasks take about 80 MB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CONVERTED = 65_536  # weights made floats at once: what fits the cache


@dataclass(frozen=True)
class Scores:
    """`bytes` is buckets x tasks, each column times its `scale`."""

    bytes: NDArray[np.int8]
    scale: Floats

    @classmethod
    def of(cls, weights: NDArray[np.floating]) -> Scores:
        """Round weights (buckets x tasks) to a byte each."""
        scale = np.abs(weights).max(axis=0, initial=0.0).astype(np.float32) / np.float32(127)
        scale[scale == 0] = 1.0
        return cls(np.rint(weights / scale).astype(np.int8), scale)

    def weighted(self, buckets: NDArray[np.int64], weight: Floats) -> Floats:
        """The sum of the buckets' rows, each times its weight: one number a task."""
        step = max(1, CONVERTED // max(1, len(self.scale)))
        total = weight[:step] @ self.bytes[buckets[:step]].astype(np.float32)
        for start in range(step, len(buckets), step):
            total += weight[start : start + step] @ self.bytes[buckets[start : start + step]].astype(np.float32)
        total *= self.scale
        return total


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
