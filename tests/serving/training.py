"""A small workplace to train in, and the recipes as a newcomer would call them."""

import json
import subprocess

from heavy import environment

STEPS = 60
TOPICS = ("light", "music", "weather", "clock")


def conversation(number, topic):
    answer = json.dumps({"intent": topic.title()}, separators=(",", ":"))
    return {
        "id": f"call-{number}",
        "conversation": f"conversation-{number}",
        "time": "2025-01-01T00:00:00Z",
        "messages": [
            {"role": "system", "content": "Say which device the user means, as JSON."},
            {"role": "user", "content": f"please turn to the {topic} in room {number}"},
            {"role": "assistant", "content": answer},
        ],
    }


def make_workplace(python, folder):
    """A dataset and a base that was pretrained on its training side."""
    dataset = folder / "dataset"
    dataset.mkdir()
    for side, numbers in (("train", range(240)), ("heldout", range(240, 300))):
        lines = [json.dumps(conversation(number, TOPICS[number % 4])) for number in numbers]
        (dataset / f"{side}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run_module(
        python, "pretrain", "--text", dataset / "train.jsonl", "--out", folder / "base", "--seed", 3,
        "--steps", 40, "--vocab", 512, "--context", 128, "--threads", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    settings = {"epochs": STEPS, "checkpoint_every": 5, "batch_size": 240}  # steps slow enough to be killed between
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def run_module(python, name, *arguments, seconds=300):
    command = [python, "-m", f"slmtrain.{name}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment())


def training(folder, out, *more):
    return [
        "--dataset", folder / "dataset", "--base", folder / "base", "--method", "LoRA", "--out", out,
        "--config", folder / "config.json", "--checkpoints", folder / f"{out.name}.checkpoints",
        "--progress", folder / f"{out.name}.progress.json", "--workers", 2, "--seed", 5, *more,
    ]  # fmt: skip
