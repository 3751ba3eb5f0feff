"""What deciding costs with many specialists: who owns a call, by its frame or else by the classifier.

    PYTHONPATH=operator python benchmarks/gateway/deciding.py [--specialists 1000] [--calls 4000]

A process of its own loads the table as the gateway does and decides parsed chat calls of all tasks in turn, one at a
time. By path: the frame is known (the prompt as the task was found with), it is known but differs in a variable, or it
is reworded and the classifier has to say. Microseconds are of CPU, so that other work on the machine does not count
(it still costs caches). Resident memory is that of this process: the gateway's modules and the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

TASKS_IN_USE = 100  # a fleet sends most of its calls from a part of its tasks


def measure(path: Path, folder: Path, calls: int) -> dict[str, Any]:
    """Decide the calls in `folder`, one at a time."""
    import orjson

    from slmfleet.gateway import server  # noqa: F401  (what a gateway has in memory)
    from slmfleet.gateway.decide import decide
    from slmfleet.gateway.table import compile_table, parse
    from slmfleet.recognise import Classifier, frame_fingerprint

    before = _rss_mib()
    table = compile_table(parse(path.read_bytes()), {}, path.parent, Classifier.load)
    if table.classifier is None:
        raise SystemExit(table.classifier_problem)
    microseconds: dict[str, list[float]] = {}
    right: dict[str, int] = {}
    for line in (folder / "calls.jsonl").read_bytes().splitlines()[:calls]:
        given = orjson.loads(line)
        begun = time.thread_time_ns()
        chosen = decide(table, given["request"], frame_fingerprint)
        microseconds.setdefault(given["kind"], []).append((time.thread_time_ns() - begun) / 1000)
        owner = None if chosen.route is None else chosen.route.spec.name
        right[given["kind"]] = right.get(given["kind"], 0) + (owner == given["task"])
    kinds = {
        kind: {**_percentiles(found), "calls": len(found), "right_percent": round(100 * right[kind] / len(found), 1)}
        for kind, found in sorted(microseconds.items())
    }
    every = [one for found in microseconds.values() for one in found]
    return {
        "all": {**_percentiles(every), "calls": len(every)},
        **kinds,
        "rss_mib": {"modules": round(before, 1), "with_table": round(_rss_mib(), 1)},
    }


def _percentiles(found: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(found, n=1000)
    return {"p50": round(cut[499], 1), "p90": round(cut[899], 1), "p99": round(cut[989], 1)}


def _rss_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def prepare(specialists: int, calls: int, folder: Path, cache: Path) -> Path:
    """Write table, classifier and calls; returns the table."""
    from fleet import draw, store, table, write_table

    made = store(cache, specialists)
    shutil.copy(made / "classifier", folder / "classifier")
    tasks = draw(specialists)
    rng = random.Random(4)
    busy = rng.sample(tasks, min(TASKS_IN_USE, len(tasks)))
    with (folder / "calls.jsonl").open("w", encoding="utf-8") as out:
        for number in range(calls):
            task = rng.choice(busy)
            reworded = number % 4 == 0
            kind = "classifier" if reworded else "frame, variable" if "{session}" in task.prompt else "frame"
            request = task.call(rng, known_prompt=not reworded)
            out.write(json.dumps({"kind": kind, "task": task.name, "request": request}) + "\n")
    return write_table(folder / "table.json", table(tasks, folder / "classifier", "http://127.0.0.1:1/v1"))


def run(specialists: int, calls: int, cache: Path) -> dict[str, Any]:
    """One measurement in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = prepare(specialists, calls, folder, cache)
        argv = [sys.executable, __file__, "--measure", str(path), "--calls", str(calls)]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {"specialists": specialists, "python": platform.python_version(), **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specialists", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/slmfleet/bench").expanduser())
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(chosen.measure, chosen.measure.parent, chosen.calls)))
        return
    load = os.getloadavg()[0]
    result = run(chosen.specialists, chosen.calls, chosen.cache)
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "load": round(load, 1), **result}, indent=2))


if __name__ == "__main__":
    main()
