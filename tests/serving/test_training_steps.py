"""However a step is laid out, it is the same step: loss, logits and gradient on a tiny random model."""

import pytest
from heavy import run_script

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]

SOURCE = """
import json, shutil, sys, torch
from dataclasses import replace
from pathlib import Path
from ray.train import Checkpoint
from slmtrain import account, data, extraction, steps, worker
from slmtrain.errors import Refused
from slmtrain.files import artifact_digest
from slmtrain.job import Config, Job
from slmtrain.steps import AnswerLoss, Layout, one_step

folder = Path(sys.argv[1])
config = Config(rank=4, dropout=0.0)
job = Job(str(folder / "dataset"), str(folder / "base"), "lora", "", "", "", 0, config)
torch.manual_seed(0)
tokenizer, model, _ = worker.load(job)
torch.manual_seed(1)
[torch.nn.init.normal_(p, std=0.1) for n, p in model.named_parameters() if "lora_B" in n]
encoded = worker.encode_dataset(job, tokenizer, model).train[:16]
weighed = [replace(e, weight=0.25 + i / 32) for i, e in enumerate(encoded)]
pad = tokenizer.pad_token_id
LAYOUTS = {
    "one a row": Layout(pad, share_frame=False),
    "shared frame": Layout(pad),
    "1 x 16": Layout(pad, pieces=16, share_frame=False),
    "4 x 4, shared frame": Layout(pad, pieces=4),
    "packed": Layout(pad, pack_tokens=256, share_frame=False),
    "packed, shared frame": Layout(pad, pack_tokens=128),
    "packed in pieces": Layout(pad, pieces=3, pack_tokens=100),
}

def step(layout, examples=weighed, loss=None):
    model.zero_grad()
    value = one_step(loss or AnswerLoss(model, config), examples, list(range(16)), layout, 0, 1)
    return value, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

def compare(made, plain):
    return {"loss": made[0], "gradient": float((made[1] - plain[1]).norm() / plain[1].norm())}

plain = step(LAYOUTS["one a row"])
answer = {"plain": plain[0], "layouts": {name: compare(step(layout), plain) for name, layout in LAYOUTS.items()}}

model.config._attn_implementation = "eager"
answer["layouts"]["packed, eager"] = compare(step(LAYOUTS["packed, shared frame"]), plain)
model.config._attn_implementation = "sdpa"

model.train()
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
answer["layouts"]["checkpointed"] = compare(step(LAYOUTS["one a row"]), plain)
answer["layouts"]["checkpointed, packed"] = compare(step(LAYOUTS["packed, shared frame"]), plain)
model.gradient_checkpointing_disable()

with torch.no_grad():
    apart = torch.cat([LAYOUTS["one a row"].rows([e], "cpu")[0].answer_logits(model) for e in encoded])
    (row,) = Layout(pad, pack_tokens=4096).rows(encoded, "cpu")
    answer["logits"] = float((row.answer_logits(model) - apart).abs().max())
    answer["spread"] = float(apart.std())
answer["mixed"] = step(LAYOUTS["packed"], loss=AnswerLoss(model, config, half=True))[0]
answer["weightless"] = step(LAYOUTS["packed"], examples=encoded)[0]

loss = AnswerLoss(model, config)
steps.refuse_cross_talk(loss, encoded, LAYOUTS["packed"])
steps.Packed.mask_for = lambda self, model: torch.ones(1, 1, *[self.ids.shape[1]] * 2, dtype=torch.bool).tril()
try:
    steps.refuse_cross_talk(loss, encoded, LAYOUTS["packed"])
except Refused as error:
    answer["leak"] = [error.reason, error.message]

def whole(kept):  # with dropout and early stop, from the checkpoint `kept`; without one, from the beginning
    def report(told, checkpoint=None):
        if checkpoint and not kept.exists():
            shutil.copytree(checkpoint.path, kept)
    account.ray.train.report = report
    account.ray.train.get_checkpoint = lambda: Checkpoint.from_directory(kept) if kept.exists() else None
    settings = replace(config, dropout=0.1, max_steps=8, batch_size=8, checkpoint_every=3, patience=9,
                       validation_share=0.1)
    training = worker.prepare(replace(job, config=settings), 0, 1, lambda model: model)
    before = account.restore(training.model, training.optimizer)
    after = worker.run(training, before, account.Best(kept.parent), None)
    return training, before.resumed_from_step, after

(folder / "resumed").mkdir()
_, began, first = whole(folder / "resumed" / "kept")
training, resumed, second = whole(folder / "resumed" / "kept")
answer["resumed"] = [began, resumed, first.losses, second.losses, first.measured, second.measured]

def extracted(name, dies):  # full fine-tuning for an adapter; `dies` while it writes it
    place = folder / name
    (place / "staged").mkdir(parents=True, exist_ok=True)
    kept = place / "kept"
    def report(told, checkpoint=None):
        if checkpoint and not kept.exists():
            shutil.copytree(checkpoint.path, kept)
    account.ray.train.report = report
    account.ray.train.get_checkpoint = lambda: Checkpoint.from_directory(kept) if kept.exists() else None
    settings = replace(config, max_steps=6, batch_size=8, checkpoint_every=2, patience=9, validation_share=0.1)
    wanted = replace(job, method="full", config=settings, extract_adapter=True, staged=str(place / "staged"),
                     notes=str(place), progress=str(place / "progress.json"))
    training = worker.prepare(wanted, 0, 1, lambda model: model)
    before, best = account.restore(training.model, training.optimizer), account.Best(place)
    reporter = account.Reporter(wanted, len(training.plan), before)
    after = worker.run(training, before, best, reporter)
    finish_adapter = extraction.finish_adapter
    if dies:
        extraction.finish_adapter = lambda *files: (_ for _ in ()).throw(KeyboardInterrupt)
    try:
        worker.finish(training, after, best, reporter)
    except KeyboardInterrupt:
        return [before.step, (place / "report.json").exists(), sorted(p.name for p in (place / "staged").iterdir())]
    finally:
        extraction.finish_adapter = finish_adapter
    return [before.step, json.loads((place / "report.json").read_text()), artifact_digest(place / "staged")]

answer["extracted"] = [extracted("whole", False), extracted("killed", True), extracted("killed", False)]
next(p for p in training.model.parameters() if p.requires_grad).data.fill_(float("nan"))
try:
    worker.step(training, 0)
except Refused as error:
    answer["diverged"] = [error.reason, error.message]
print(json.dumps(answer))
"""
NAMES = (
    "one a row", "shared frame", "1 x 16", "4 x 4, shared frame", "packed", "packed, shared frame", "packed in pieces",
    "packed, eager", "checkpointed", "checkpointed, packed",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(train_python, workplace):
    return run_script(train_python, SOURCE, workplace, seconds=500)


@pytest.mark.parametrize("layout", NAMES)
def test_the_layout_changes_neither_loss_nor_gradient(made, layout):
    assert made["layouts"][layout]["loss"] == pytest.approx(made["plain"], rel=1e-4)
    assert made["layouts"][layout]["gradient"] < 1e-4


def test_packed_examples_have_the_logits_that_they_have_alone(made):
    assert made["logits"] < 1e-4 < made["spread"]


def test_weights_count(made):
    assert made["weightless"] != pytest.approx(made["plain"], rel=1e-4)


def test_mixed_precision_computes_nearly_the_same(made):
    assert made["mixed"] == pytest.approx(made["plain"], rel=0.02)
    assert made["mixed"] != made["plain"]


def test_a_base_whose_packed_examples_see_each_other_is_refused(made):
    reason, message = made["leak"]
    assert reason == "CannotPack"
    assert "set packing to false" in message


def test_a_resumed_training_takes_the_very_steps_that_it_would_have_taken(made):
    """With dropout and early stop. That Ray brings a checkpoint back after a kill is tested in test_ray_training."""
    began, resumed, first, second, measured_first, measured_second = made["resumed"]
    assert (began, resumed, len(second)) == (None, 3, 8)
    assert second == pytest.approx(first, rel=1e-6)
    assert measured_second == [[step, pytest.approx(loss, rel=1e-5)] for step, loss in measured_first]
    assert [step for step, _ in measured_first] == [3, 6, 8]


def test_a_kill_while_an_adapter_is_extracted_costs_nothing_but_steps_since_the_checkpoint(made):
    whole, killed, again = made["extracted"]
    assert killed[:2] == [0, False]
    assert "adapter_model.safetensors" in killed[2], "it died half way"
    assert again[0] == 2, "it went on from the checkpoint"
    assert again[2] == whole[2], "the same adapter"
    assert again[1]["extraction"] == whole[1]["extraction"]
    assert (again[1]["extraction"]["rank"], again[1]["steps"], again[1]["restarts"]) == (4, 6, 1)


def test_a_loss_that_is_no_number_ends_the_training(made):
    assert made["diverged"] == ["Diverged", "the loss is nan at step 1; lower learning_rate"]
