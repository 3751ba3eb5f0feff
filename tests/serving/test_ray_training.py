"""Training under Ray survives what clusters do to it: a killed worker, a replaced pod, a second start."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from heavy import environment, run_script, wait_until

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
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


@pytest.fixture(scope="module")
def workplace(train_python, tmp_path_factory):
    """A dataset and a base that was pretrained on its training side."""
    folder = tmp_path_factory.mktemp("training")
    dataset = folder / "dataset"
    dataset.mkdir()
    for side, numbers in (("train", range(240)), ("heldout", range(240, 300))):
        lines = [json.dumps(conversation(number, TOPICS[number % 4])) for number in numbers]
        (dataset / f"{side}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run_module(
        train_python, "pretrain", "--text", dataset / "train.jsonl", "--out", folder / "base", "--seed", 3,
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


def progress_of(folder, out):
    path = folder / f"{out.name}.progress.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"step": -1, "restarts": 0}


def start(python, folder, out):
    command = [python, "-m", "slmtrain.train", *map(str, training(folder, out))]
    log = (folder / f"{out.name}.log").open("a", encoding="utf-8")
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment())


def test_a_killed_worker_and_a_replaced_pod_resume_and_finished_work_is_not_repeated(train_python, workplace):
    out = workplace / "specialist"

    first = start(train_python, workplace, out)
    try:
        at = wait_until(lambda: (p := progress_of(workplace, out))["step"] >= 8 and p, 200, "step 8")
        os.kill(at["worker_pids"][0], signal.SIGKILL)
        again = wait_until(lambda: (p := progress_of(workplace, out))["restarts"] == 1 and p, 120, "a new worker")
        assert 5 <= again["resumed_from_step"] <= again["step"]
        wait_until(lambda: progress_of(workplace, out)["step"] >= again["resumed_from_step"] + 7, 120, "7 more steps")
    finally:
        first.kill()  # as a pod is: driver, workers and Ray end together
        first.wait()
    assert not out.exists(), "a killed run left an artifact"
    wait_until(lambda: not alive(at["worker_pids"] + again["worker_pids"]), 60, "the workers are gone")
    killed_at = progress_of(workplace, out)["step"]

    done = run_module(train_python, "train", *training(workplace, out))
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["restarts"] == 2
    assert result["resumed_from_step"] >= again["resumed_from_step"] + 5
    assert result["resumed_from_step"] <= killed_at + 5, "the progress file may lag its newest checkpoint, no further"
    assert result["steps"] == STEPS
    assert result["ray_job_id"]
    assert f"step {STEPS}/{STEPS}" in done.stdout

    files = {path.name for path in out.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "slmtrain.json", "result.json"} <= files
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in out.iterdir())

    began = time.monotonic()
    repeated = run_module(train_python, "train", *training(workplace, out))
    assert repeated.returncode == 0
    assert result["artifact_digest"] in repeated.stdout
    assert json.loads((out / "result.json").read_text(encoding="utf-8")) == result
    assert time.monotonic() - began < 60

    judged = workplace / "evaluation.json"
    done = run_module(
        train_python, "evaluate", "--dataset", workplace / "dataset", "--model", out, "--out", judged, "--floor", 0.9
    )
    assert done.returncode == 0, done.stderr[-3000:]
    verdict = json.loads(judged.read_text(encoding="utf-8"))
    assert verdict["metric"] == "label"
    assert verdict["n"] == 60
    assert verdict["digests"]["model"] == result["artifact_digest"]
    assert verdict["verdict"] in ("passed", "refused")
    assert bool(verdict["reasons"]) == (verdict["verdict"] == "refused")


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_one_worker_and_two_follow_the_same_curve(train_python, workplace):
    config = workplace / "short.json"
    config.write_text(json.dumps({"max_steps": 6, "dropout": 0}), encoding="utf-8")
    losses = []
    for workers in (1, 2):
        out = workplace / f"curve-{workers}"
        arguments = training(workplace, out, "--workers", workers, "--config", config)
        done = run_module(train_python, "train", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append(json.loads((out / "result.json").read_text(encoding="utf-8"))["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_shared_frame_changes_neither_loss_nor_gradient(train_python, workplace):
    source = """
import json, sys, torch
from pathlib import Path
from slmtrain import data, worker
from slmtrain.job import Config, Job
folder = Path(sys.argv[1])
job = Job(str(folder / "dataset"), str(folder / "base"), "lora", "", "", "", 0, Config(rank=4, dropout=0.0))
torch.manual_seed(0)
tokenizer, model = worker.load(job)
torch.manual_seed(1)
[torch.nn.init.normal_(p, std=0.1) for n, p in model.named_parameters() if "lora_B" in n]
encoded, _ = worker.encode_dataset(job, tokenizer, model)
losses, gradients = [], []
for shortest in (8, 10**6):
    worker.frame_length = lambda rows, limit, s=shortest: min(limit, 12) if s == 8 else 0
    model.zero_grad()
    losses.append(worker.one_step(worker.AnswerLoss(model), encoded, list(range(16)), 0, 1, 0))
    gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
print(json.dumps([losses, float((gradients[0] - gradients[1]).norm() / gradients[1].norm())]))
"""
    losses, difference = run_script(train_python, source, workplace)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert difference < 1e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--method", "qlora"], "NoAccelerator: qlora needs a CUDA device"),
        (["--base", "/nowhere"], "BadBase: /nowhere does not exist"),
        (["--dataset", "/nowhere"], "BadDataset"),
        (["--workers", "0"], "--workers must be 1 or more"),
    ],
)
def test_bad_input_ends_in_one_line(train_python, workplace, change, said):
    command = [*training(workplace, workplace / "refused"), *change]
    done = subprocess.run(
        [train_python, "-m", "slmtrain.train", *map(str, command)],
        capture_output=True, text=True, timeout=120, env=environment(CUDA_VISIBLE_DEVICES=""),
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
