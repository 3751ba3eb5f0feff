"""What an adapter keeps of DoRA and full fine-tuning, by rank, and what that is worth, on the task of `run.py`.

    python benchmarks/training/extraction.py --train-python P [--quick] [--out extraction.md]

Base, calls and settings are those of `run.py`; each row is trained anew for each seed. Nothing was tuned on the
held-out side.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from run import CONFIG, FULL, Place, Plan, conditions, judge, make_data, ours, pretrain, quality, traffic

NOTE = """# What an extracted adapter keeps, and what that is worth

`make bench-extraction` trains on the task of [results.md](results.md) and writes this page. "Whole" is a whole model,
as `slmfleet train` writes it; "extracted" the adapter that `--extract-adapter` makes, which is what a pool serves. Full
fine-tuning for an adapter trains linear layers only, a whole model all weights. "Kept" is the share of the change's
squared Frobenius norm, of all layers together and in the layer that keeps least. The base is tiny (hidden size 128), so
a rank is a much larger part of its layers than of a real model's: compare rows, do not carry figures over.
"""


def rows(steps: int) -> dict[str, dict[str, Any]]:
    """Jobs of one seed by the row that they fill."""

    def job(method: str, rank: int, **more: Any) -> dict[str, Any]:
        settings = FULL if method == "full" else CONFIG
        return {"method": method, "config": {**settings, "rank": rank, "max_steps": steps}, **more}

    whole = {"LoRA, rank 4": job("lora", 4), "LoRA, rank 16": job("lora", 16), "DoRA, rank 16, whole": job("dora", 16),
             "Full, whole": job("full", 16)}  # fmt: skip
    extracted = {f"{name}, extracted at rank {rank}": job(name.lower(), rank, extract_adapter=True)
                 for name, ranks in (("DoRA", (4, 16)), ("Full", (4, 16, 64))) for rank in ranks}  # fmt: skip
    return whole | extracted


def page(facts: str, made: dict[str, list[dict[str, Any]]], judged: dict[str, dict[str, Any]]) -> str:
    """extraction.md."""
    table = [f"| {name} | {kept(runs)} | {quality(runs, judged)} |" for name, runs in made.items()]
    return f"""{NOTE}
{facts}

| training | kept by seed | least kept | held-out loss by seed | exact by seed | exact, 95 % |
|---|---|---|---|---|---|
{chr(10).join(table)}
"""


def kept(runs: list[dict[str, Any]]) -> str:
    """Two cells."""
    found = [run["extraction"] for run in runs if run["extraction"]]
    if not found:
        return "all | all"
    shares = " ".join(f"{each['kept_share']:.3f}" for each in found)
    return f"{shares} | {min(each['least_kept_share'] for each in found):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-python", required=True, help="of the environment `train`")
    parser.add_argument("--quick", action="store_true", help="does everything run? No result")
    parser.add_argument("--folder", type=Path, help="kept, and the base in it used again; default: a temporary one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    shared = traffic.data_dir()
    if shared is None:
        sys.exit("benchmarks/training: no shared data; set SLMFLEET_DATA")
    plan = Plan(seeds=(1,), steps=8, pretrain_steps=10, train=128, heldout=32) if options.quick else Plan()
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-extraction-") as temporary:
        place = Place(options.folder or Path(temporary), options.train_python, "")
        make_data(shared / "intents" / "snips.jsonl", place, plan)
        if not place.base.exists():
            pretrain(place, plan)
        made: dict[str, list[dict[str, Any]]] = {}
        judged: dict[str, dict[str, Any]] = {}
        for number, seed in enumerate(plan.seeds, 1):
            wanted = rows(plan.steps)
            folders = [place.folder / f"extraction-{n}-{seed}" for n in range(len(wanted))]
            jobs = [{**job, "out": str(out)} for job, out in zip(wanted.values(), folders, strict=True)]
            for name, run in zip(wanted, ours(place, seed, jobs), strict=True):
                made.setdefault(name, []).append(run)
            judged |= judge(place, folders)
            text = page(conditions(plan, plan.seeds[:number], load, time.monotonic() - began), made, judged)
            print(text, flush=True)
            if options.out and not options.quick:
                options.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
