"""The per-record stage on this process, or on Ray Data: the same function on blocks of records.

Ray is imported only where it was asked for; the package works without it. Blocks go out as the workers take them and
come back in the order of the log, so that memory is bounded by the blocks in flight, and the result is the same.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from slmfleet.curation.examine import Examined, Task, examine
from slmfleet.curation.failures import CurationError
from slmfleet.curation.sources import Read

BLOCK = 500
IN_FLIGHT = 64


@dataclass(frozen=True)
class Workers:
    """`count` processes of a Ray of our own, or of the cluster at `address`."""

    count: int
    address: str | None = None


def examined(reads: Iterable[Read], task: Task, workers: Workers | None) -> Iterator[Examined]:
    """Every call of the log, examined, in its order."""
    if workers is None:
        for read in reads:
            yield examine(read, task)
        return
    yield from _on_ray(reads, task, workers)


def blocks(reads: Iterable[Read], task: Task, size: int = BLOCK) -> Iterator[bytes]:
    """Records in blocks, as they travel: each with what discovery said of its own records and of no others."""
    iterator = iter(reads)
    while chunk := list(islice(iterator, size)):
        ids = [r.record.id for r in chunk]
        yield pickle.dumps((chunk, {i: task.assigned[i] for i in ids if i in task.assigned}), protocol=5)


def examine_block(block: bytes, task: Task) -> bytes:
    """The stage on one block."""
    chunk, assigned = pickle.loads(block)
    mine = replace(task, assigned=assigned)
    return pickle.dumps([examine(r, mine) for r in chunk], protocol=5)


def _on_ray(reads: Iterable[Read], task: Task, workers: Workers) -> Iterator[Examined]:
    try:
        import ray  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise CurationError("RayMissing", "--workers and --ray need Ray: pip install 'ray[data]'") from error
    if not ray.is_initialized():
        local: dict[str, Any] = {} if workers.address else {"num_cpus": workers.count, "include_dashboard": False}
        ray.init(address=workers.address, log_to_driver=False, logging_level="ERROR", **local)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    bare = replace(task, assigned={})
    iterator = blocks(reads, task)

    def stage(batch: dict[str, Any]) -> dict[str, Any]:
        return {"block": [examine_block(b, bare) for b in batch["block"]]}

    while window := list(islice(iterator, IN_FLIGHT)):
        data = ray.data.from_items([{"block": b} for b in window], override_num_blocks=max(1, len(window) // 4))
        for row in data.map_batches(stage, batch_size=1, concurrency=workers.count, num_cpus=1).iter_rows():
            yield from pickle.loads(row["block"])
