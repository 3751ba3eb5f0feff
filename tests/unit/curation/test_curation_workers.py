"""The per-record stage in blocks, as workers get it, and what is said where there is no Ray."""

from __future__ import annotations

import pickle
import sys

import pytest
from curation_samples import log_of
from test_curation_curate import clusters, lines

from slmfleet.curation import curate as stage
from slmfleet.curation.examine import Task, examine
from slmfleet.curation.failures import CurationError
from slmfleet.curation.sources import Read
from slmfleet.curation.workers import Workers, blocks, examine_block, examined


def test_a_block_is_examined_as_its_records_are() -> None:
    rows = lines(23)
    known = clusters(rows[:20])
    task = Task(known.file.clusters[0], known.assigned, None)
    reads = [Read(r, "records", f"a:{n}") for n, r in enumerate(log_of(rows).records)]
    made = list(blocks(reads, task, 10))
    assert len(made) == 3
    assert all(len(pickle.loads(b)[1]) <= 10 for b in made)
    found = [call for b in made for call in pickle.loads(examine_block(b, Task(task.cluster, {}, None)))]
    assert found == [examine(r, task) for r in reads] == list(examined(reads, task, None))


def test_workers_without_ray_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    rows = lines()
    with pytest.raises(CurationError, match="RayMissing: --workers and --ray need Ray: pip install"):
        stage.curate(log_of(rows), clusters(rows), stage.Settings("ask"), workers=Workers(2))
