"""What every training worker runs: load, encode, step, checkpoint; the first one also reports and saves.

The plan of batches is a pure function of lengths and seed, and the loss is divided by the whole step's answer tokens,
so one worker or eight, resumed or not, follow the same curve.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from slmtrain import data
from slmtrain.errors import Refused
from slmtrain.files import read_json, write_json
from slmtrain.frame import frame_length, rest_logits
from slmtrain.job import Config, Job

PROGRESS_SCHEMA = "slmtrain/progress/v1"
PROGRESS_SECONDS = 2.0


def work(sent: dict[str, Any]) -> None:
    """What every worker runs, from the last checkpoint if there is one."""
    job = Job(**{**sent, "config": Config(**sent["config"])})
    config, context = job.config, ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.manual_seed(job.seed)

    tokenizer, adapted = load(job)
    encoded, left_out = encode_dataset(job, tokenizer, adapted)
    steps = total_steps(config, len(encoded))
    plan = data.plan_steps([len(e.ids) for e in encoded], config.batch_size, steps, job.seed)
    model = ray.train.torch.prepare_model(AnswerLoss(adapted))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    peak = config.learning_rate or learning_rate_for(sum(p.numel() for p in model.parameters()))
    state = restore(adapted, optimizer)
    reporter = Reporter(job, steps, state) if rank == 0 else None

    model.train()
    for step in range(state["step"], steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * schedule(step, steps, config.warmup_share)
        torch.manual_seed(job.seed + 1_000_003 * step + rank)  # dropout: a resumed step is the step it would have been
        loss = one_step(model, encoded, plan[step], rank, workers, pad)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state = advance(state, step, loss, encoded, plan[step])
        if reporter:
            reporter.tell(state)
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < steps:
            save_checkpoint(adapted, optimizer, state, rank)
    if reporter:
        write_artifact(job, adapted, tokenizer)
        reporter.tell(state, force=True)
        state = {**state, "restarts": reporter.restarts}
        write_json(
            Path(job.notes) / "report.json", {**state, "steps": steps, "examples": len(encoded), "left_out": left_out}
        )
    ray.train.report({"step": steps})


def load(job: Job) -> tuple[Any, Any]:
    """Tokenizer and model, with the method's trainable parameters."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    options: dict[str, Any] = {"dtype": getattr(torch, job.config.dtype)}
    if job.method == "qlora":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(job.base, **options)
    model.config.use_cache = False
    if job.method == "full":
        return tokenizer, model

    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if job.method == "qlora":
        model = prepare_model_for_kbit_training(model)
    config = job.config
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        use_dora=job.method == "dora",
        task_type="CAUSAL_LM",
    )
    return tokenizer, get_peft_model(model, lora)


def encode_dataset(job: Job, tokenizer: Any, model: Any) -> tuple[list[data.Encoded], int]:
    """The training side as token ids, and how many were too long."""
    limit = job.config.max_length or getattr(model.config, "max_position_embeddings", 1 << 30)
    encoded = [data.encode(tokenizer, e) for e in data.read_examples(Path(job.dataset) / "train.jsonl")]
    kept = [e for e in encoded if len(e.ids) <= limit]
    if not kept:
        raise Refused("TooLong", f"no training example fits {limit} tokens; choose a base with a longer context")
    return kept, len(encoded) - len(kept)


def total_steps(config: Config, examples: int) -> int:
    """What the settings ask for; else as many epochs as make 600 steps, at least 3 and at most 10.

    Small data needs many epochs to be learned at all, large data is learned in few.
    """
    if config.max_steps:
        return config.max_steps
    an_epoch = -(-examples // config.batch_size)
    epochs = config.epochs or min(10, max(3, 600 / an_epoch))
    return max(1, round(epochs * an_epoch))


def learning_rate_for(parameters: int) -> float:
    """A rule of thumb: 2e-4 at half a billion parameters, by the square root of the size, within 1e-4 to 4e-3."""
    return min(4e-3, max(1e-4, 2e-4 * (5e8 / parameters) ** 0.5))


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up, then linear to a twentieth. Of the peak learning rate."""
    warm = max(1, round(steps * warmup_share))
    if step < warm:
        return (step + 1) / warm
    return 1 - 0.95 * (step - warm) / max(1, steps - warm)


class AnswerLoss(nn.Module):
    """The model with its loss inside, so that the frame's pass and the rows' pass are one forward to DDP."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any, labels: Any, frame: int, first: int) -> Any:
        """Summed loss on the answers; `first` is the first column that any answer begins in."""
        _, logits = rest_logits(self.model, ids, mask, frame, keep=ids.shape[1] - first + 1)
        return cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, first:].flatten(),
            ignore_index=data.IGNORED,
            reduction="sum",
        )


def one_step(model: Any, encoded: list[data.Encoded], chosen: list[int], rank: int, workers: int, pad: int) -> float:
    """Gradients of one step, and its loss.

    Each worker's sum is divided by the answer tokens of the *whole* step, then multiplied by the number of workers
    because DDP takes the mean: the same gradient, however many workers there are.
    """
    device = next(model.parameters()).device
    mine = [encoded[i] for i in data.share_of(chosen, rank, workers)]
    everyone = sum(len(encoded[i].ids) - encoded[i].answer_start for i in chosen)
    rows = mine or [encoded[chosen[0]]]  # a worker without work must still take part, with weight 0
    longest, first = max(len(e.ids) for e in rows), min(e.answer_start for e in rows)
    spare = [longest - len(e.ids) for e in rows]
    ids = torch.tensor([[*e.ids, *[pad] * s] for e, s in zip(rows, spare, strict=True)], device=device)
    mask = torch.tensor([[1] * len(e.ids) + [0] * s for e, s in zip(rows, spare, strict=True)], device=device)
    labels = torch.tensor(
        [[*data.labels_of(e), *[data.IGNORED] * s] for e, s in zip(rows, spare, strict=True)], device=device
    )
    frame = frame_length([e.ids for e in rows], limit=first - 1)
    loss = model(ids, mask, labels, frame, first) * (workers / everyone if mine else 0.0)
    loss.backward()
    total = loss.detach()
    if workers > 1:
        torch.distributed.all_reduce(total)
    return total.item() / workers


def advance(
    state: dict[str, Any], step: int, loss: float, encoded: list[data.Encoded], chosen: list[int]
) -> dict[str, Any]:
    """The counters after a step. `loss` is smoothed over about 20 steps."""
    smooth = loss if state["loss"] is None else 0.95 * state["loss"] + 0.05 * loss
    tokens = state["tokens"] + sum(len(encoded[i].ids) for i in chosen)
    now = time.monotonic()
    seconds = state["seconds"] + now - state["clock"]
    return {**state, "step": step + 1, "loss": smooth, "tokens": tokens, "seconds": seconds, "clock": now}


def restore(model: Any, optimizer: Any) -> dict[str, Any]:
    """Weights, optimizer and counters of the last checkpoint, or those of a beginning."""
    checkpoint = ray.train.get_checkpoint()
    fresh = {"step": 0, "loss": None, "tokens": 0, "seconds": 0.0, "resumed_from_step": None}
    if checkpoint is None:
        return {**fresh, "clock": time.monotonic()}
    with checkpoint.as_directory() as folder:
        saved = torch.load(Path(folder) / "state.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(saved["weights"], strict=False)
    optimizer.load_state_dict(saved["optimizer"])
    counters = saved["counters"]
    return {**fresh, **counters, "resumed_from_step": counters["step"], "clock": time.monotonic()}


def save_checkpoint(model: Any, optimizer: Any, state: dict[str, Any], rank: int) -> None:
    """Only what is trained: megabytes, whatever the base weighs. All workers report, the first one brings the files."""
    counters = {key: state[key] for key in ("step", "loss", "tokens", "seconds")}
    if rank != 0:
        ray.train.report(counters)
        return
    weights = {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(
            {"weights": weights, "optimizer": optimizer.state_dict(), "counters": counters}, Path(folder) / "state.pt"
        )
        ray.train.report(counters, checkpoint=ray.train.Checkpoint.from_directory(folder))


class Reporter:
    """The first worker's account: who started when, and how far it is."""

    def __init__(self, job: Job, steps: int, state: dict[str, Any]) -> None:
        self.job, self.steps, self.spoke = job, steps, 0.0
        self.began, self.first_step = time.monotonic(), state["step"]
        attempts = Path(job.notes) / "attempts.jsonl"
        with attempts.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"from_step": state["step"]}) + "\n")
        self.restarts = len(attempts.read_text(encoding="utf-8").splitlines()) - 1
        self.tell(state, force=True)

    def tell(self, state: dict[str, Any], *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self.spoke < PROGRESS_SECONDS:
            return
        self.spoke = now
        step, done = state["step"], state["step"] - self.first_step
        write_json(
            Path(self.job.progress),
            {
                "schema": PROGRESS_SCHEMA,
                "step": step,
                "total_steps": self.steps,
                "percent": round(100 * step / self.steps, 1),
                "loss": None if state["loss"] is None else round(state["loss"], 4),
                "seconds": round(state["seconds"], 1),
                "eta_seconds": round((now - self.began) / done * (self.steps - step), 1) if done else None,
                "ray_job_id": self.job.ray_job_id,
                "restarts": self.restarts,
                "resumed_from_step": state["resumed_from_step"],
                "worker_pids": [os.getpid()],
            },
        )


def write_artifact(job: Job, model: Any, tokenizer: Any) -> None:
    """Adapter (or model) in safetensors, into the staging folder."""
    staged = Path(job.staged)
    model.config.use_cache = True
    model.save_pretrained(staged, safe_serialization=True)
    (staged / "README.md").unlink(missing_ok=True)  # peft's own card; ours follows
    settings = staged / "adapter_config.json"
    if settings.is_file():  # peft writes sets in an order of the day; the same training must give the same digest
        config = read_json(settings)
        ordered = {key: sorted(v) if isinstance(v, list) else v for key, v in sorted(config.items())}
        write_json(settings, ordered)
    if job.method == "full":
        tokenizer.save_pretrained(staged, save_jinja_files=False)
