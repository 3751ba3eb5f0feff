"""Curation on Ray Data makes the dataset that it makes without: the same rows, counts and digests."""

import json
import subprocess
import sys

import pytest
from heavy import ROOT, environment

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
RECORDS = 3000


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log with the truth about its tasks beside it."""
    folder = tmp_path_factory.mktemp("log")
    source = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks/scale')!r}); import log; from pathlib import Path"
    subprocess.run([sys.executable, "-c", f"{source}; log.write(Path({str(folder)!r}), {RECORDS})"], check=True)
    return folder


def curated(python, log, name, *more):
    argv = [python, "-m", "slmfleet.cli", "curate", "--records", log / "log.jsonl", "--clusters", log / "found"]
    argv += ["--cluster", "help", "--out", log / name, "--json", *more]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=500,
        env=environment(PYTHONPATH=str(ROOT / "operator")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_two_workers_make_the_dataset_of_one_process(train_python, log):
    alone = curated(train_python, log, "alone")
    shared = curated(train_python, log, "shared", "--workers", "2")
    assert shared == alone
    assert alone["funnel"][0]["read"] == RECORDS
    assert alone["train"] > 100 and alone["dropped"]["a tool refused its call"] > 0
    assert (log / "alone/lineage.jsonl").read_bytes() == (log / "shared/lineage.jsonl").read_bytes()
