"""Our trainer beside trl's SFTTrainer with peft, and our recipes beside each other, on one tiny base, on the CPU.

    python benchmarks/training/run.py --train-python P --peer-python P [--quick] [--out results.md]

The task: seven intents of SNIPS under other names than the base has seen, so that the base alone answers none right.
Half of the utterances pretrain the base (under the old names), the other half is trained on and held out, apart by
text. The recipes' settings are the defaults but for the steps; nothing was tuned on the held-out side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "trainers"), str(ROOT / "benchmarks" / "discovery"), str(ROOT / "operator")]

import traffic  # noqa: E402

from slmtrain.stats import interval  # noqa: E402

SYSTEM = 'You route a voice assistant. Name the intent. Answer with JSON: {"intent": "..."}.'
WRONG_SHARE = 0.25  # of the recorded answers of the two noisy rows
SAMPLES = 5
CONFIG = {"batch_size": 32, "rank": 16, "alpha": 32, "dropout": 0.1, "learning_rate": 4e-3, "patience": 0}
FULL = {**CONFIG, "learning_rate": 4e-4}  # the recipe's own rule: a tenth
COMMANDS = ("slmfleet train, Ray and all", "trl + peft, the script")
BESIDE = ("slmfleet", "slmfleet, packed", "trl + peft")


@dataclass(frozen=True)
class Plan:
    """How much of it."""

    seeds: tuple[int, ...] = (1, 2, 3)
    steps: int = 60
    pretrain_steps: int = 160
    train: int = 960
    heldout: int = 160


@dataclass
class Seen:
    """What was measured so far: by name, a training a seed; judgements by folder."""

    base: str
    beside: dict[str, list[dict[str, Any]]]
    recipes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    judged: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a run's files and interpreters are."""

    folder: Path
    train_python: str
    peer_python: str

    @property
    def base(self) -> Path:
        return self.folder / "base"


def main() -> None:
    options = parse_arguments()
    shared = traffic.data_dir()
    if shared is None:
        sys.exit("benchmarks/training: no shared data; set SLMFLEET_DATA")
    plan = Plan(seeds=(1,), steps=8, pretrain_steps=10, train=128, heldout=32) if options.quick else Plan()
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-training-") as temporary:
        place = Place(options.folder or Path(temporary), options.train_python, options.peer_python)
        make_data(shared / "intents" / "snips.jsonl", place, plan)
        if not place.base.exists():
            pretrain(place, plan)
        seen = Seen(str(place.base), {name: [] for name in BESIDE})

        def tell(seeds: int) -> None:  # often: a run that is cut short leaves what it saw, and says how much that is
            facts = conditions(plan, plan.seeds[:seeds], load, time.monotonic() - began)
            text = page(facts, seen)
            print(text, flush=True)
            if options.out and not options.quick:
                options.out.write_text(text, "utf-8")

        for number, seed in enumerate(plan.seeds, 1):
            made = {name: run_one(name, place, plan, seed) for name in BESIDE}  # interleaved: a busy minute touches all
            for name, one in made.items():
                seen.beside[name].append(one)
            seen.judged |= judge(
                place, [*([] if seen.judged else [place.base]), *(Path(m["out"]) for m in made.values())]
            )
            tell(number)
            others = run_recipes(place, plan, seed)
            for name, one in others.items():
                seen.recipes.setdefault(name, []).append(one)
            seen.judged |= judge(place, [Path(one["out"]) for one in others.values()])
            tell(number)
        seen.whole += [whole_command(name, place, plan) for name in COMMANDS]
        tell(len(plan.seeds))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-python", required=True, help="of the environment `train`")
    parser.add_argument("--peer-python", required=True, help="of the environment `bench-training`")
    parser.add_argument("--quick", action="store_true", help="does everything run? No result")
    parser.add_argument("--folder", type=Path, help="kept, and the base in it used again; default: a temporary one")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def make_data(snips: Path, place: Place, plan: Plan) -> None:
    """The base's text, a clean dataset, and one whose recorded answers are partly wrong, with samples beside them."""
    rows = {row["text"].strip(): row["intent"] for row in map(json.loads, snips.read_text("utf-8").splitlines())}
    halves: tuple[list[str], list[str]] = ([], [])
    for text in sorted(rows):
        halves[hashlib.sha256(text.encode()).digest()[0] % 2].append(text)
    draw = random.Random(20)
    for half in halves:
        draw.shuffle(half)
    names = sorted(set(rows.values()))
    renamed = dict(zip(names, names[1:] + names[:1], strict=True))
    write(place.folder / "text.jsonl", (row(i, text, rows[text]) for i, text in enumerate(halves[0][: 4 * plan.train])))
    train, rest = halves[1][: plan.train], halves[1][plan.train :]
    clean = [row(i, text, renamed[rows[text]]) for i, text in enumerate(train)]
    heldout = [row(i, text, renamed[rows[text]]) for i, text in enumerate(rest[: plan.heldout], 100_000)]
    noisy = []
    for example in clean:
        right = example["messages"][-1]["content"]
        samples = [draw.choice([answer(n) for n in names]) if draw.random() < WRONG_SHARE else right
                   for _ in range(SAMPLES)]  # fmt: skip
        said = {"role": "assistant", "content": samples[0]}
        noisy.append({**example, "messages": [*example["messages"][:-1], said], "samples": samples})
    for folder, lines in (("clean", clean), ("noisy", noisy)):
        write(place.folder / folder / "train.jsonl", lines)
        write(place.folder / folder / "heldout.jsonl", heldout)


def answer(intent: str) -> str:
    return json.dumps({"intent": intent}, separators=(",", ":"))


def row(number: int, text: str, intent: str) -> dict[str, Any]:
    messages = [("system", SYSTEM), ("user", text), ("assistant", answer(intent))]
    return {
        "id": f"call-{number}",
        "conversation": f"conversation-{number}",
        "messages": [{"role": role, "content": content} for role, content in messages],
    }


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def pretrain(place: Place, plan: Plan) -> None:
    call(place.train_python, ["-m", "slmtrain.pretrain", "--text", str(place.folder / "text.jsonl"), "--out",
                              str(place.base), "--seed", "7", "--steps", str(plan.pretrain_steps), "--vocab", "2048",
                              "--context", "256", "--window", "128", "--threads", "1"])  # fmt: skip


def call(python: str, words: list[str]) -> str:
    """Run a script in its environment, on one thread; its last line."""
    done = subprocess.run([python, *words], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks/training: {' '.join(words[:3])} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "PYTHONPATH": f"{ROOT / 'trainers'}:{ROOT / 'operator'}", "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip


def run_one(name: str, place: Place, plan: Plan, seed: int) -> dict[str, Any]:
    """One system, one seed, in a process of its own."""
    out = place.folder / f"{BESIDE.index(name)}-{seed}"
    config = {**CONFIG, "max_steps": plan.steps}
    if name == "trl + peft":
        words = [*inputs(place), "--out", str(out), "--seed", str(seed), "--config", json.dumps(config)]
        made = json.loads(call(place.peer_python, [str(HERE / "peer.py"), *words]))
        return {**made, "out": str(out)}
    settings = {**config, "packing": True} if "packed" in name else config
    return ours(place, seed, [{"out": str(out), "method": "lora", "config": settings}])[0]


def inputs(place: Place) -> list[str]:
    return ["--dataset", str(place.folder / "clean"), "--base", str(place.base)]


def run_recipes(place: Place, plan: Plan, seed: int) -> dict[str, dict[str, Any]]:
    """The other recipes of one seed, in one process; the fully tuned model is the teacher of the last."""
    config = {**CONFIG, "max_steps": plan.steps}
    noisy = str(place.folder / "noisy")
    full = str(place.folder / f"full-{seed}")
    runs: dict[str, dict[str, Any]] = {
        "DoRA (merged)": {"method": "dora"},
        "QLoRA (in float: no GPU here)": {"method": "qlora"},
        "Full": {"method": "full", "out": full, "config": {**FULL, "max_steps": plan.steps}},
        "Distill, logits of Full": {"method": "distill", "teacher": full},
        f"LoRA, {WRONG_SHARE:.0%} of its answers drawn at random": {"method": "lora", "dataset": noisy},
        f"Distill, majority of {SAMPLES} such answers": {"method": "distill", "dataset": noisy},
    }
    jobs = [{"out": str(place.folder / f"recipe-{n}-{seed}"), "config": config, **run}
            for n, run in enumerate(runs.values())]  # fmt: skip
    return dict(zip(runs, ours(place, seed, jobs), strict=True))


def ours(place: Place, seed: int, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    words = [str(HERE / "ours.py"), *inputs(place), "--seed", str(seed), "--jobs", json.dumps(jobs)]
    return list(json.loads(call(place.train_python, words)))


def whole_command(name: str, place: Place, plan: Plan) -> dict[str, Any]:
    """CPU seconds and peak memory (proportional set size) of the whole process tree, start to end."""
    out, config = place.folder / f"whole-{len(name)}", {**CONFIG, "max_steps": plan.steps}
    common = [*inputs(place), "--out", str(out), "--seed", "1", "--config", json.dumps(config)]
    words = [place.peer_python, str(HERE / "peer.py"), *common]
    if name.startswith("slmfleet"):
        words = [place.train_python, "-m", "slmtrain.train", *common, "--method", "lora", "--workers", "1"]
    log = place.folder / "whole.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(words, env=environment(), stdout=file, stderr=file)
    cpu: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        pids = family(process.pid)
        cpu |= {pid: seconds for pid in pids if (seconds := cpu_seconds(pid))}
        peak = max(peak, sum(map(proportional_mib, pids)))
        time.sleep(0.5)
    if process.returncode:
        print(f"{name} failed: {log.read_text('utf-8').strip().splitlines()[-1]}", file=sys.stderr)
        return {"name": f"{name} (failed)", "cpu_seconds": 0.0, "peak_mib": 0.0}
    return {"name": name, "cpu_seconds": sum(cpu.values()), "peak_mib": peak}


def family(root: int) -> list[int]:
    """A process and all its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def cpu_seconds(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def proportional_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def judge(place: Place, models: list[Path]) -> dict[str, dict[str, Any]]:
    words = [str(HERE / "judge.py"), *inputs(place), *map(str, models)]
    return dict(json.loads(call(place.train_python, words)))


def conditions(plan: Plan, seeds: tuple[int, ...], load: float, seconds: float) -> str:
    names = ("torch", "transformers", "peft", "trl", "ray")
    found = {name: version(name) for name in names}
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model}, {os.cpu_count()} cores, one thread a process, load {load:.1f} before "
        f"and {os.getloadavg()[0]:.1f} after (other work on the machine: CPU seconds count, not wall time), Python "
        f"{platform.python_version()}, {', '.join(f'{name} {number}' for name, number in found.items())}; seeds "
        f"{', '.join(map(str, seeds))}, {plan.steps} steps of {CONFIG['batch_size']}, {plan.train} training and "
        f"{plan.heldout} held-out calls; {seconds / 60:.0f} minutes in all."
    )


def version(name: str) -> str:
    """From the locks: this process has none of them."""
    locks = (ROOT / "locks" / f"{lock}.txt" for lock in ("bench-training", "train"))
    lines = (line for lock in locks for line in lock.read_text("utf-8").splitlines())
    return next(line.partition("==")[2].split()[0] for line in lines if line.startswith((f"{name}==", f"{name}[")))


def page(facts: str, seen: Seen) -> str:
    """results.md."""
    beside, judged = seen.beside, seen.judged
    recipes = {"LoRA": beside["slmfleet"], **seen.recipes}
    rates = {name: [m["tokens"] / m["cpu_seconds"] for m in made] for name, made in beside.items()}
    peer = median(rates["trl + peft"])
    speed = [
        f"| {name} | {median(rates[name]):,.0f} | {median(rates[name]) / peer:.2f} | {min(rates[name]):,.0f} to "
        f"{max(rates[name]):,.0f} | {max(m['peak_mib'] for m in made):,.0f} | {quality(made, judged)} |"
        for name, made in beside.items()
    ]
    kinds = [
        f"| {name} | {median([m['tokens'] / m['cpu_seconds'] for m in made]):,.0f} | {quality(made, judged)} |"
        for name, made in recipes.items()
    ]
    commands = [f"| {w['name']} | {w['cpu_seconds']:.0f} | {w['peak_mib']:,.0f} |" for w in seen.whole] or [
        "| - | - | - |"
    ]
    alone = judged[seen.base]
    return f"""{(HERE / "preface.md").read_text("utf-8")}
{facts}

The base alone: held-out loss {alone["loss"]:.3f}, exact {fmean(alone["right"]):.3f}.

## Beside trl

| trainer | tokens a CPU second | by trl's | over the seeds | peak MiB | held-out loss by seed | exact by seed | 95 % |
|---|---|---|---|---|---|---|---|
{chr(10).join(speed)}

The whole command, process start to end, once (seed 1):

| command | CPU seconds | peak memory of the process tree, MiB |
|---|---|---|
{chr(10).join(commands)}

## The recipes beside each other

| recipe | tokens a CPU second | held-out loss by seed | exact by seed | exact, 95 % |
|---|---|---|---|---|
{chr(10).join(kinds)}
"""


def quality(made: list[dict[str, Any]], judged: dict[str, dict[str, Any]]) -> str:
    """Three cells. The interval is over held-out calls, each with its mean over the seeds."""
    results = [judged[m["out"]] for m in made]
    each = [fmean(rights) for rights in zip(*(r["right"] for r in results), strict=True)]
    low, high = interval(each, [str(i) for i in range(len(each))], 0.95)
    losses = " ".join(f"{r['loss']:.3f}" for r in results)
    shares = " ".join(f"{fmean(r['right']):.3f}" for r in results)
    return f"{losses} | {shares} | {fmean(each):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
