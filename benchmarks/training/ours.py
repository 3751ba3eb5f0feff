"""Trainings by our recipes, without Ray: the worker's own code, timed. Prints a JSON list, an object a job.

    python ours.py --dataset DIR --base PATH --seed 1 --jobs '[{"out": DIR, "method": "lora", "config": {}}]'

A job may name another `dataset`, and a `teacher`, and ask for `extract_adapter`.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any


def train(base: str, seed: int, wanted: dict[str, Any]) -> dict[str, Any]:
    """Tokens, CPU and wall seconds of the steps alone, and the process's peak memory so far."""
    from slmtrain import worker
    from slmtrain.files import base_digest, readable_by_all, write_json
    from slmtrain.job import Job, read_config

    config, out = read_config(json.dumps(wanted["config"])), Path(wanted["out"])
    out.mkdir(parents=True, exist_ok=True)
    job = Job(wanted["dataset"], base, wanted["method"], str(out), "", "", seed, config, wanted.get("teacher"),
              extract_adapter=wanted.get("extract_adapter", False))  # fmt: skip
    training = worker.prepare(job, 0, 1, lambda model: model)
    training.together.train()
    cpu, wall = time.process_time(), time.monotonic()
    losses = [worker.step(training, number) for number in range(len(training.plan))]
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    extraction = worker.write_model(training, lambda note: None)
    write_json(out / "slmtrain.json", {"base_digest": base_digest(Path(base))})
    readable_by_all(out)
    return {
        "out": wanted["out"],
        "tokens": sum(len(training.examples.train[i].ids) for step in training.plan for i in step),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": sum(losses[-10:]) / 10,
        "examples": len(training.examples.train),
        "no_majority": training.examples.no_majority,
        "precision": training.precision,
        "extraction": extraction,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dataset", "base", "jobs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    jobs = [{"dataset": options.dataset, **job} for job in json.loads(options.jobs)]
    print(json.dumps([train(options.base, options.seed, job) for job in jobs]))


if __name__ == "__main__":
    main()
