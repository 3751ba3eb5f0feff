"""One specialist: LoRA, QLoRA, DoRA, full fine-tuning or distillation, under Ray Train on one or more workers.

    python -m slmtrain.train --dataset DIR --base PATH --method lora --out DIR [--checkpoints DIR] [--workers 2]

Covered: loss on the answer only; batches of like length from a plan that every worker computes for itself, so that the
number of workers changes the speed, never the curve; checkpoints through Ray Train; a worker that dies is replaced and
goes on from the last checkpoint, and so does a whole new process with the same --checkpoints; early stop on
conversations kept from training, with the best weights written; an artifact that appears whole or not at all; a second
run of finished work ends at once.
Not covered: models that do not fit one worker (no sharding); prompts longer than the context (left out, and counted).

Ray is started in this process unless RAY_ADDRESS names a cluster; then --dataset, --base, --teacher, --out and
--checkpoints must be on storage that all its nodes share.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from slmtrain import data
from slmtrain.card import write_card
from slmtrain.curve import thinned
from slmtrain.dataset import refuse_unfit
from slmtrain.errors import OneLine, Refused, run_command
from slmtrain.files import (
    RESULT,
    artifact_digest,
    base_digest,
    dataset_digest,
    publish,
    read_json,
    resolve_base,
    staging_folder,
    text_digest,
    write_json,
)
from slmtrain.job import METHODS, Config, Job, read_config
from slmtrain.launch import ProgressLines, run_workers, start_ray
from slmtrain.places import DATASET, Place, clash
from slmtrain.recipes import RECIPES, distill, qlora

SCHEMA = "slmtrain/training/v1"
FACTS = "slmtrain.json"  # travels with the adapter and is part of its digest: what it was made of
REPORTED = (
    "steps", "best_step", "examples", "validation_examples", "left_out", "no_majority", "tokens", "precision",
    "restarts", "resumed_from_step",
)  # fmt: skip


def refuse_what_cannot_run(method: str, dataset: Path, base: Path, teacher: Path | None) -> None:
    """Everything that can be known before Ray starts."""
    if method == "qlora":
        qlora.refuse_what_cannot_run()
    refuse_unfit(dataset)
    if next(data.read_lines(dataset / "train.jsonl"), None) is None:
        raise Refused("TooFewExamples", f"{dataset / 'train.jsonl'} is empty")
    for folder in filter(None, (base, teacher)):
        if not any(folder.glob("*.safetensors")):
            raise Refused("BadBase", f"{folder} has no *.safetensors; other weight formats are not loaded")
    if teacher:
        distill.refuse_teacher(str(base), str(teacher))


def finished(out: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The result of an earlier run of exactly this work, whose files are still what it wrote; else None."""
    path = out / RESULT
    if not path.is_file():
        return None
    result = read_json(path)
    same = isinstance(result, dict) and all(result.get(key) == value for key, value in inputs.items())
    return result if same and result.get("artifact_digest") == artifact_digest(out) else None


def train(
    dataset: Path,
    base: Path,
    method: str,
    out: Path,
    config: Config,
    workers: int,
    checkpoints: Path,
    progress: Path,
    seed: int,
    teacher: Path | None = None,
) -> dict[str, Any]:
    """The whole recipe; returns what `result.json` says."""
    inputs = {
        "method": method,
        "seed": seed,
        "config": asdict(config),
        "base_digest": base_digest(base),
        "dataset_digest": dataset_digest(dataset),
        **({"teacher_digest": base_digest(teacher)} if teacher else {}),
    }
    if (earlier := finished(out, inputs)) is not None:
        print(f"{out} already holds this result: {earlier['artifact_digest']}", flush=True)
        return earlier
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refused("OutputTaken", f"{out} holds something else; choose another --out or empty it")
    refuse_what_cannot_run(method, dataset, base, teacher)

    began = time.monotonic()
    name = "run-" + text_digest(json.dumps(inputs, sort_keys=True))[7:19]  # other inputs never meet this checkpoint
    notes = checkpoints / f"{name}.notes"
    notes.mkdir(parents=True, exist_ok=True)
    staged = staging_folder(out)
    progress.unlink(missing_ok=True)
    job_id = start_ray(workers)
    job = Job(
        dataset=str(dataset.resolve()),
        base=str(base.resolve()),
        method=method,
        staged=str(staged.resolve()),
        progress=str(progress.resolve()),
        notes=str(notes.resolve()),
        seed=seed,
        config=config,
        teacher=str(teacher.resolve()) if teacher else None,
        ray_job_id=job_id,
    )
    print(f"ray job {job_id}, {workers} workers, {method} on {base}, checkpoints {checkpoints / name}", flush=True)
    lines = ProgressLines(progress)
    lines.start()
    try:
        report = run_workers(job, workers, checkpoints.resolve(), name)
    finally:
        lines.stop()

    writes = RECIPES[method].WRITES
    write_json(staged / FACTS, {"schema": "slmtrain/facts/v1", **inputs})
    write_card(staged, base, inputs, report, writes)
    result = {
        "schema": SCHEMA,
        **inputs,
        "writes": writes,
        **{key: report[key] for key in REPORTED},
        "loss": round(report["loss"], 6),
        "seconds": round(report["seconds"], 1),
        "wall_seconds": round(time.monotonic() - began, 1),
        "workers": workers,
        "artifact_digest": artifact_digest(staged),
        "ray_job_id": job_id,
        "curve": [[step, round(loss, 6)] for step, loss in thinned(report["losses"])],
        "validation_curve": [[step, round(loss, 6)] for step, loss in report["measured"]],
    }
    write_json(staged / RESULT, result)
    publish(staged, out)
    return result


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLine(prog="slmtrain.train", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder with train.jsonl")
    parser.add_argument("--base", required=True, help="Hugging Face model folder or id")
    parser.add_argument("--method", type=str.lower, choices=METHODS, default="lora", help="how it is trained (lora)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, its card and result.json")
    parser.add_argument(
        "--config",
        metavar="JSON",
        help="settings as an object or a file with one, e.g. '{\"max_steps\": 50, \"rank\": 8}'; keys: "
        + ", ".join(field.name for field in fields(Config)),
    )
    parser.add_argument("--workers", type=int, default=2, help="processes of Ray (2)")
    parser.add_argument("--checkpoints", type=Path, help="default: OUT.checkpoints")
    parser.add_argument("--progress", type=Path, help="JSON file, replaced every 2 s")
    parser.add_argument("--seed", type=int, default=0, help="same seed and inputs, same curve (0)")
    parser.add_argument("--teacher", help="distill: model folder or id whose logits teach; the base's tokenizer")
    given = parser.parse_args(arguments)
    given.checkpoints = given.checkpoints or given.out.parent / f"{given.out.name}.checkpoints"
    if told := clash(
        [Place("--dataset", given.dataset, DATASET), Place("--base", Path(given.base)),
         Place("--teacher", Path(given.teacher) if given.teacher else None),
         Place("--config", Path(given.config) if given.config and len(given.config) < 256 else None)],
        [Place("--out", given.out, (), whole=True), Place("--checkpoints", given.checkpoints, ()),
         Place("--progress", given.progress)],
    ):  # fmt: skip
        parser.error(told)
    return given


def main() -> None:
    given = parse_arguments()
    checkpoints = given.checkpoints
    progress = given.progress or checkpoints / "progress.json"
    if given.workers < 1:
        raise Refused("BadInput", "--workers must be 1 or more")
    if given.teacher and given.method != "distill":
        raise Refused("BadInput", f"--teacher is for --method distill, not {given.method}")
    result = train(
        given.dataset,
        resolve_base(given.base),
        given.method,
        given.out,
        read_config(given.config),
        given.workers,
        checkpoints,
        progress,
        given.seed,
        resolve_base(given.teacher) if given.teacher else None,
    )
    print(f"wrote {given.out}: {result['artifact_digest']}, loss {result['loss']}, {result['seconds']} s", flush=True)


if __name__ == "__main__":
    run_command("train", main)
