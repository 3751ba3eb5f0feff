"""Training under Ray survives what clusters do to it: a killed worker, a replaced pod, a second start."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from heavy import environment, wait_until
from training import STEPS, run_module, training

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]


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
    assert {"Floor", "WorstSlice", "MemorisedSecrets"} <= {check["name"] for check in verdict["checks"]}
    assert verdict["memory_mib"] > 100 and verdict["latency_seconds"]["p95"] > 0


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_one_worker_and_two_packed_or_not_follow_the_same_curve(train_python, workplace):
    curves = []
    for workers, settings in ((1, {}), (2, {"gradient_accumulation_steps": 3}), (2, {"packing": True})):
        config = json.dumps({"max_steps": 6, "batch_size": 32, "dropout": 0, **settings})
        out = workplace / f"curve-{len(curves)}"
        done = run_module(train_python, "train", *training(workplace, out, "--workers", workers, "--config", config))
        assert done.returncode == 0, done.stderr[-3000:]
        curves.append(json.loads((out / "result.json").read_text(encoding="utf-8"))["curve"])
    assert [step for step, _ in curves[0]] == [1, 2, 3, 4, 5, 6]
    for curve in curves[1:]:
        assert [loss for _, loss in curve] == pytest.approx([loss for _, loss in curves[0]], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--config", '{"packing": 1}'], "BadConfig: --config: packing must be true or false"),
        (["--teacher", "/nowhere"], "BadInput: --teacher is for --method distill, not lora"),
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
