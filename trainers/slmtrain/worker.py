"""What every training worker runs: load, encode, step, measure, checkpoint; the first one also reports and saves.

The plan of batches is a pure function of lengths and seed, so that any number of workers, resumed or not, follow it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from slmtrain import data, extraction, memory, stopping
from slmtrain.account import Account, Best, Reporter, restore, save_checkpoint
from slmtrain.data import Encoded, Example
from slmtrain.errors import Refused
from slmtrain.files import write_json
from slmtrain.job import Config, Job
from slmtrain.recipes import RECIPES, distill, full
from slmtrain.recipes.base import mixed
from slmtrain.steps import AnswerLoss, Layout, measured_loss, one_step, refuse_cross_talk


@dataclass(frozen=True)
class Examples:
    """The training side as token ids, its part for early stop, and what was left out."""

    train: list[Encoded]
    validation: list[Encoded]
    too_long: int
    no_majority: int
    patience: int


@dataclass(frozen=True)
class Training:
    """What one worker trains with."""

    job: Job
    rank: int
    workers: int
    tokenizer: Any
    model: Any  # with its adapter
    plain: AnswerLoss
    together: Any  # the same, with its gradients exchanged where there are several workers
    optimizer: Any
    examples: Examples
    layout: Layout
    plan: list[list[int]]
    peak: float  # learning rate
    precision: str


def work(sent: dict[str, Any]) -> None:
    """What every worker runs, from the last checkpoint if there is one."""
    context = ray.train.get_context()
    job = Job(**{**sent, "config": Config(**sent["config"])})
    if job.method == "full":
        refuse_what_cannot_fit(job, context.get_local_world_size())
    training = prepare(job, context.get_world_rank(), context.get_world_size(), ray.train.torch.prepare_model)
    account = restore(training.model, training.optimizer)
    best = Best(Path(job.notes))
    reporter = Reporter(job, len(training.plan), account) if training.rank == 0 else None
    account = run(training, account, best, reporter)
    if reporter:
        finish(training, account, best, reporter)
    ray.train.report({"step": account.step})


def refuse_what_cannot_fit(job: Job, workers: int) -> None:
    """Full fine-tuning that has no chance, before its weights are loaded. `workers` of this machine or container."""
    parameters, trained = full.sizes(job)
    if torch.cuda.is_available():
        memory.refuse_too_large(parameters, trained, 1, torch.cuda.get_device_properties(0).total_memory, "the GPU")
        return
    memory.refuse_too_large(parameters, trained, workers, memory.host_limit(), "this container or machine")


def prepare(job: Job, rank: int, workers: int, join: Callable[[Any], Any]) -> Training:
    """Everything that a step needs; the same on every worker. `join` moves a model to its device, and into DDP."""
    config = job.config
    torch.manual_seed(job.seed)
    tokenizer, model, precision = load(job)
    examples = encode_dataset(job, tokenizer, model)
    lengths = [len(e.ids) for e in examples.train]
    layout = Layout.of(config, tokenizer, max(lengths))
    plain = AnswerLoss(model, config, mixed(config))
    together = join(plain)
    if job.teacher:
        plain.learn_from(distill.load_teacher(job, next(plain.parameters()).device))
    if config.packing:
        refuse_cross_talk(plain, examples.train, layout)
    trained = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in model.parameters())
    return Training(
        job=job,
        rank=rank,
        workers=workers,
        tokenizer=tokenizer,
        model=model,
        plain=plain,
        together=together,
        optimizer=torch.optim.AdamW(trained, lr=1.0, betas=(0.9, 0.99), weight_decay=config.weight_decay),
        examples=examples,
        layout=layout,
        plan=data.plan_steps(lengths, config.batch_size, total_steps(config, len(lengths)), job.seed),
        peak=config.learning_rate or RECIPES[job.method].RATE * learning_rate_for(size),
        precision=precision,
    )


def run(training: Training, account: Account, best: Best, reporter: Reporter | None) -> Account:
    """All steps that are left, or as many as help."""
    config, steps = training.job.config, len(training.plan)
    training.together.train()
    clock = time.monotonic()
    while account.step < steps:
        loss = step(training, account.step)
        tokens = sum(len(training.examples.train[i].ids) for i in training.plan[account.step])
        now = time.monotonic()
        account, clock = account.after(loss, tokens, now - clock), now
        if reporter:
            reporter.tell(account)
        if account.step % config.checkpoint_every and account.step < steps:
            continue
        if training.examples.patience:
            account = measure(training, account, best)
            if stopping.is_over(account.measured, training.examples.patience):
                return account
        if account.step < steps:
            save_checkpoint(training.model, training.optimizer, account, training.rank)
            if reporter and account.measured:
                best.forget_others(stopping.best_of(account.measured))
    return account


def step(training: Training, number: int) -> float:
    """One step of the optimizer; returns its loss a token. Raises Refused where there is none any more."""
    job, optimizer = training.job, training.optimizer
    for group in optimizer.param_groups:
        group["lr"] = training.peak * schedule(number, len(training.plan), job.config.warmup_share)
    # dropout: a resumed step is the step it would have been
    torch.manual_seed(job.seed + 1_000_003 * number + training.rank)
    chosen = training.plan[number]
    loss = one_step(
        training.together, training.examples.train, chosen, training.layout, training.rank, training.workers
    )
    if not math.isfinite(loss):
        raise Refused("Diverged", f"the loss is {loss} at step {number + 1}; lower learning_rate")
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def measure(training: Training, account: Account, best: Best) -> Account:
    """The account with the loss on what is kept from training; weights that are the best so far are kept."""
    batch = training.job.config.batch_size
    kept = training.examples.validation
    loss = measured_loss(training.plain, kept, batch, training.layout, training.rank, training.workers)
    account = replace(account, measured=(*account.measured, (account.step, loss)))
    if training.rank == 0 and stopping.best_of(account.measured) == account.step:
        best.keep(training.model, account.step)
    return account


def finish(training: Training, account: Account, best: Best, reporter: Reporter) -> None:
    """The first worker writes the best weights, and what the command needs to know."""
    job = training.job
    kept = stopping.best_of(account.measured) if account.measured else account.step
    if kept != account.step:
        best.bring_back(training.model, kept)
    reporter.steps = account.step
    extracted = write_model(training, lambda note: reporter.tell(account, note))
    reporter.tell(account, force=True)
    told = report(account, training.examples, reporter.restarts, kept, training.precision)
    write_json(Path(job.notes) / "report.json", {**told, "extraction": extracted})


def write_model(training: Training, tell: Callable[[str], None]) -> dict[str, Any] | None:
    """What the method writes, into the job's folder; of an adapter that is extracted, what it keeps."""
    job, recipe = training.job, RECIPES[training.job.method]
    training.optimizer.state.clear()  # room for what writing needs
    if job.extract_adapter:
        return extraction.write(recipe, job, training.model, training.tokenizer, tell)
    recipe.save(training.model, training.tokenizer, Path(job.staged))
    return None


def report(account: Account, examples: Examples, restarts: int, kept: int, precision: str) -> dict[str, Any]:
    """What the command needs to know of a finished training."""
    return {
        "steps": account.step,
        "best_step": kept,
        "examples": len(examples.train),
        "validation_examples": len(examples.validation),
        "left_out": examples.too_long,
        "no_majority": examples.no_majority,
        "tokens": account.tokens,
        "loss": account.loss,
        "losses": account.losses,
        "measured": account.measured,
        "seconds": account.seconds,
        "restarts": restarts,
        "resumed_from_step": account.resumed_from_step,
        "precision": precision,
    }


def load(job: Job) -> tuple[Any, Any, str]:
    """Tokenizer, model with the recipe's trainable parameters, and a note on its precision."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    model, precision = RECIPES[job.method].prepare(job)
    model.config.use_cache = False
    if job.config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return tokenizer, model, precision


def read_training(job: Job) -> tuple[list[Example], int]:
    """The training side, and how many rows distillation left out because their answers do not agree."""
    path = Path(job.dataset) / "train.jsonl"
    if job.method == "distill":
        return distill.read_weighed(path, job.config.agreement)
    return data.read_examples(path), 0


def encode_dataset(job: Job, tokenizer: Any, model: Any) -> Examples:
    """The training side as token ids, without what is too long, and its part for early stop."""
    read, no_majority = read_training(job)
    patience = stopping.patience_of(job.config, len(read))
    train, validation = read, []
    if patience:
        train, validation = data.split_validation(read, job.config.validation_share, stopping.MOST_VALIDATED)
    limit = job.config.max_length or getattr(model.config, "max_position_embeddings", 1 << 30)
    sides = [[e for e in (data.encode(tokenizer, one) for one in side) if len(e.ids) <= limit]
             for side in (train, validation)]  # fmt: skip
    if not sides[0]:
        raise Refused("TooLong", f"no training example fits {limit} tokens; choose a base with a longer context")
    too_long = len(read) - sum(map(len, sides))
    return Examples(sides[0], sides[1], too_long, no_majority, patience if sides[1] else 0)


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
