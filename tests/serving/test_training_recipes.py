"""Every recipe trains on a tiny base, stops where it should, and `evaluate` reads what it wrote."""

import json
import shutil

import pytest
from heavy import run_script
from training import TOPICS, conversation, run_module, training

pytestmark = [pytest.mark.serving, pytest.mark.long, pytest.mark.timeout(600)]

SOURCE = """
import json, os, sys, shutil
from pathlib import Path
folder, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
os.environ["CUDA_VISIBLE_DEVICES"] = ""
from slmtrain import evaluate, train
from slmtrain.errors import Refused
from slmtrain.job import read_config
answers = {}
for name, run in runs.items():
    teacher = folder / run["teacher"] if "teacher" in run else None
    out = folder / name
    dataset = folder / run.get("dataset", "dataset")
    result = train.train(dataset, folder / "base", run["method"], out, read_config(json.dumps(run["config"])), 1,
                         folder / f"{name}.checkpoints", folder / f"{name}.progress.json", 5, teacher,
                         run.get("extract_adapter", False))
    asked = evaluate.parse_arguments(["--dataset", str(dataset), "--model", str(out), "--base", str(folder / "base"),
                                      "--out", str(folder / f"{name}.json"), "--limit", "16"])
    judged = evaluate.evaluate(asked.dataset, asked.model, asked.base, asked.metric, evaluate.gate_of(asked),
                               asked.limit, to=sys.stderr)
    answers[name] = {"result": result, "judged": judged, "files": sorted(p.name for p in out.iterdir()),
                     "modes": [oct(p.stat().st_mode & 0o777) for p in out.iterdir()],
                     "card": (out / "README.md").read_text(), "curve": (out / "curve.svg").read_text()}
print(json.dumps(answers))
"""
SHORT = {"max_steps": 12, "batch_size": 16, "dropout": 0}
RUNS = {
    "full": {"method": "full", "config": {**SHORT, "learning_rate": 3e-3}},
    "extracted": {"method": "full", "config": {**SHORT, "learning_rate": 3e-3, "rank": 8}, "extract_adapter": True},
    "lora": {"method": "lora", "config": {**SHORT, "packing": True}},
    "qlora": {"method": "qlora", "config": SHORT},
    "dora": {"method": "dora", "config": SHORT},
    "distill": {"method": "distill", "config": SHORT, "dataset": "sampled"},
    "taught": {"method": "distill", "config": SHORT, "teacher": "full"},
    "stopped": {
        "method": "lora",
        "config": {"max_steps": 40, "batch_size": 16, "dropout": 0, "learning_rate": 1e-12, "checkpoint_every": 2,
                   "patience": 3, "validation_share": 0.2, "warmup_share": 0},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(train_python, workplace):
    """All recipes, one after the other in one process and one Ray."""
    (workplace / "sampled").mkdir()
    lines = []
    for number in range(60):
        row = conversation(number, TOPICS[number % 4])
        answer = row["messages"].pop()["content"]
        wrong = '{"intent":"Nothing"}'
        row["samples"] = [answer, wrong] if number % 5 == 0 else [wrong, answer, f" {answer}"]
        lines.append(json.dumps(row))
    (workplace / "sampled" / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(workplace / "dataset" / "heldout.jsonl", workplace / "sampled")
    return run_script(train_python, SOURCE, workplace, json.dumps(RUNS), seconds=550)


@pytest.mark.parametrize("name", RUNS)
def test_a_recipe_trains_and_evaluate_reads_its_output(made, name):
    run, result, judged = RUNS[name], made[name]["result"], made[name]["judged"]
    assert result["method"] == run["method"]
    assert result["curve"][-1][0] == result["steps"]
    assert judged["n"] == 16
    assert judged["digests"]["model"] == result["artifact_digest"]
    assert set(made[name]["modes"]) == {"0o644"}
    assert "![Loss by step](curve.svg)" in made[name]["card"]
    assert made[name]["curve"].startswith("<svg")


@pytest.mark.parametrize("name", ["full", "extracted", "lora", "qlora", "dora", "distill", "taught"])
def test_the_loss_falls(made, name):
    losses = [loss for _, loss in made[name]["result"]["curve"]]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize(("name", "writes"), [("lora", "adapter"), ("qlora", "adapter"), ("distill", "adapter"),
                                              ("dora", "model"), ("full", "model"),
                                              ("extracted", "adapter")])  # fmt: skip
def test_what_cannot_ride_in_a_mixed_batch_is_written_whole(made, name, writes):
    assert made[name]["result"]["writes"] == writes
    file = "adapter_model.safetensors" if writes == "adapter" else "model.safetensors"
    assert {file, "README.md", "curve.svg", "slmtrain.json", "result.json"} <= set(made[name]["files"])
    assert ("adapter_config.json" in made[name]["files"]) == (writes == "adapter")


def test_an_extracted_adapter_says_what_it_keeps(made):
    kept = made["extracted"]["result"]["extraction"]
    assert kept["rank"] == 8
    assert 0.3 < kept["least_kept_share"] <= kept["kept_share"] < 1
    assert f"keeps {kept['kept_share']:.1%}" in made["extracted"]["card"]
    assert "extraction" not in made["full"]["result"]


def test_qlora_without_a_gpu_says_that_nothing_was_quantised(made):
    assert made["qlora"]["result"]["precision"] == "float32; not quantised: no CUDA device"
    assert "not quantised" in made["qlora"]["card"]


def test_rows_whose_samples_do_not_agree_are_left_out_and_counted(made):
    result = made["distill"]["result"]
    assert (result["no_majority"], result["examples"]) == (12, 48)


def test_a_teacher_is_part_of_the_lineage(made):
    assert made["taught"]["result"]["teacher_digest"].startswith("sha256:")
    assert "teacher, by its logits" in made["taught"]["card"]


def test_a_training_that_no_longer_improves_stops_and_its_best_weights_are_written(made):
    """At a rate of nothing every measurement is the same: the first one stays the best."""
    result = made["stopped"]["result"]
    assert (result["steps"], result["best_step"]) == (8, 2)
    assert [step for step, _ in result["validation_curve"]] == [2, 4, 6, 8]
    assert result["validation_examples"] + result["examples"] == 240
    assert "at step 2, whose weights these are" in made["stopped"]["card"]


def test_a_teacher_with_another_tokenizer_is_refused(train_python, workplace):
    done = run_module(
        train_python, "pretrain", "--text", workplace / "dataset" / "heldout.jsonl", "--out", workplace / "foreign",
        "--seed", 3, "--steps", 2, "--vocab", 400, "--context", 128, "--threads", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    change = ["--method", "DISTILL", "--teacher", workplace / "foreign"]
    done = run_module(train_python, "train", *training(workplace, workplace / "refused", *change))
    assert done.returncode == 1
    assert "OtherTokenizer" in done.stderr.splitlines()[-1]
