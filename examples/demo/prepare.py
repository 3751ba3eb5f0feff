"""Before there is a cluster: images and environments, the agent's traffic, a tiny base."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from demo import traffic
from demo.cluster import ROOT, Failed, run, stop, until
from demo.steps import Run

BASE_CONTEXT_TOKENS = 512
MARK = ".slmfleet-demo"


def clean(run_: Run) -> None:
    """Start from nothing: the store and the results of an earlier run would be counted as this one's."""
    work = run_.options.work
    if work.exists() and any(work.iterdir()) and not (work / MARK).exists():
        raise Failed(f"{work} has files that are not this demo's; name an empty or a new folder with --work")
    shutil.rmtree(work, ignore_errors=True)
    run_.results.mkdir(parents=True)
    (work / MARK).touch()


def build_images(run_: Run) -> None:
    """Images and environments, each once."""
    python = sys.executable
    if run_.options.images:
        run_.images = run_.options.images
        return
    for name in ("slmfleet", "trainer", "pool"):
        said = run([python, "images/build.py", name, "--json"], what=f"image {name}", timeout=3600, echo=True)
        built = json.loads(said)[name]
        run_.images[name] = built["image"]
        run_.archives.append(Path(built["archive"]))
    ensure_environment(run_, "serve")


def ensure_environment(run_: Run, name: str) -> Path:
    """Folder of a heavy environment; made when the cache lacks it."""
    if name not in run_.environments:
        said = run(
            [sys.executable, "images/environments.py", name], what=f"environment {name}", timeout=3600, echo=True
        )
        run_.environments[name] = Path(said.strip().splitlines()[-1])
    return run_.environments[name]


def make_traffic(run_: Run) -> None:
    """The agent's calls, and the code that the replayed LLM runs."""
    options = run_.options
    facts = traffic.write(run_.traffic, options.size, options.system_prompt, options.seed, options.pretrain_task_share)
    copy_code(run_)
    calls = sum(row["calls"] for row in facts["calls"])
    run_.say(
        f"{calls:,} calls, {facts['conversations']:,} conversations, wrong answers of the LLM {facts['wrong_share']}"
    )


def copy_code(run_: Run) -> None:
    """What the replayed LLM runs."""
    code = run_.traffic.parent / "code" / "demo"
    shutil.copytree(Path(__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "data", "manifests"))


def begin_base(run_: Run) -> None:
    """Begin to train a tiny base from the training side's text; the steps that need no base go on beside it."""
    environment = ensure_environment(run_, "train")
    folder = base_folder(run_)
    if (folder / "pretrain.json").exists():
        run_.say("kept from an earlier run with the same text and recipe")
        return
    command = [environment / "bin" / "python", "-m", "slmtrain.pretrain", *pretrain_arguments(run_), "--out", folder]
    with base_log(run_).open("w", encoding="utf-8") as log:
        run_.pretraining = subprocess.Popen(
            list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'trainers'}:{ROOT / 'operator'}"})  # fmt: skip
    run_.say(f"its progress: {base_log(run_)}")


def finish_base(run_: Run) -> None:
    """Wait for the base, and put it into the store; nothing where that was done."""
    if run_.base:
        return
    if run_.pretraining is not None:
        until("the tiny base", 3600, lambda: run_.pretraining is None or run_.pretraining.poll() is not None, every=1)
        if run_.pretraining.returncode != 0:
            said = base_log(run_).read_text("utf-8").strip()[-2000:]
            raise Failed(f"pretraining the base: exit {run_.pretraining.returncode}\n{said}")
    folder = base_folder(run_)
    run_.base = json.loads((folder / "pretrain.json").read_text("utf-8"))
    shutil.copytree(folder, run_.store / "bases" / "tiny")
    open_up(run_.store)
    run_.say(
        f"base: {run_.base['parameters']:,} parameters, {run_.base['base_digest'][:19]}…, it saw training text only"
    )


def give_up_base(run_: Run) -> None:
    """End a training that nobody waits for any more; what it had made is not kept."""
    if run_.pretraining is not None:
        stop(run_.pretraining)


def base_log(run_: Run) -> Path:
    return run_.options.work / "pretrain.log"


def base_folder(run_: Run) -> Path:
    """Kept by the digest of everything that made it."""
    return cache_root() / "bases" / base_key(run_)


def pretrain_arguments(run_: Run) -> list[str]:
    text, seed = str(run_.traffic / "pretrain.jsonl"), str(run_.options.seed)
    return ["--text", text, "--seed", seed, "--steps", str(run_.options.pretrain_steps),
            "--context", str(BASE_CONTEXT_TOKENS)]  # fmt: skip


def base_key(run_: Run) -> str:
    """Digest of the text, the recipe's settings and its code."""
    digest = hashlib.sha256((run_.traffic / "pretrain.jsonl").read_bytes())
    digest.update(repr(pretrain_arguments(run_)[2:]).encode())
    for path in sorted((ROOT / "trainers" / "slmtrain").glob("*.py")):
        if path.name in ("pretrain.py", "data.py", "files.py"):
            digest.update(path.read_bytes())
    return f"tiny-{digest.hexdigest()[:12]}"


def cache_root() -> Path:
    return Path(os.environ.get("SLMFLEET_CACHE") or "~/.cache/slmfleet").expanduser()


def open_up(folder: Path) -> None:
    """Pods run as another user: they read what is there and write beside it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
