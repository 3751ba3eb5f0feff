"""What is to be trained, as values: settings, and the job that is sent to every worker. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slmtrain.errors import Refused
from slmtrain.files import read_json

METHODS = {"lora": "LoRA", "qlora": "QLoRA", "dora": "DoRA", "full": "Full", "distill": "Distill"}
DTYPES = ("auto", "float32", "bfloat16")
WHOLE = (
    "max_steps", "batch_size", "gradient_accumulation_steps", "rank", "max_length", "pack_tokens", "checkpoint_every",
)  # fmt: skip
POSITIVE = (*WHOLE, "epochs", "alpha", "learning_rate", "temperature")
SHARES = ("warmup_share", "dropout", "validation_share", "teacher_share", "agreement")  # 0 to 1, 1 left out
SWITCHES = ("packing", "gradient_checkpointing")


@dataclass(frozen=True)
class Config:
    """What --config may set. Unknown keys are refused by name."""

    epochs: float | None = None  # none: as many as make 600 steps, within 3 to 10
    max_steps: int | None = None  # at most so many steps, whatever `epochs` says
    batch_size: int = 32  # examples a step, of all workers together
    gradient_accumulation_steps: int = 1  # pieces in which a worker computes its part of a step
    packing: bool = False  # examples in one row instead of one a row; see packing.py
    pack_tokens: int | None = None  # of a packed row; none: the longest example, at least 512
    gradient_checkpointing: bool = False  # memory for time
    learning_rate: float | None = None  # none: by the base's size and the recipe
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    rank: int = 16
    alpha: float = 32
    dropout: float = 0.1  # tiny bases overfit thousands of calls: 1 point of accuracy measured
    target_modules: str | list[str] = "all-linear"
    max_length: int | None = None  # none: the base's context
    checkpoint_every: int = 25  # steps; held-out loss is measured as often
    validation_share: float = 0.05  # of the training conversations, for early stop
    patience: int | None = None  # measurements without a better one before it stops; 0: never; none: see stopping.py
    dtype: str = "auto"  # mixed bfloat16 where a GPU has it, else float32
    temperature: float = 2.0  # distill with a teacher: of both models
    teacher_share: float = 0.5  # distill with a teacher: of the loss; the rest is the recorded answer's
    agreement: float = 0.5  # distill: several answers to one prompt teach it where more than this share agree


@dataclass(frozen=True)
class Job:
    """One training, as it is sent to every worker."""

    dataset: str
    base: str
    method: str
    staged: str
    progress: str
    notes: str  # a folder beside the checkpoints: attempts.jsonl, report.json
    seed: int
    config: Config
    teacher: str | None = None
    ray_job_id: str = ""
    extract_adapter: bool = False  # of what a recipe would write as a whole model


def read_config(config: str | None) -> Config:
    """--config: a JSON object of Config's fields, in a file or as the argument itself."""
    if config is None:
        return Config()
    inline = config.lstrip().startswith("{")
    where = "--config" if inline else config
    try:
        given = json.loads(config) if inline else read_json(Path(config))
    except ValueError as error:
        raise Refused("BadConfig", f"--config is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused("BadConfig", f"{where} must hold a JSON object")
    unknown = sorted(set(given) - {field.name for field in fields(Config)})
    if unknown:
        known = ", ".join(field.name for field in fields(Config))
        raise Refused("BadConfig", f"{where}: unknown key {', '.join(unknown)}; known: {known}")
    settings = Config(**given)
    for name in POSITIVE:
        check(where, name, getattr(settings, name), is_positive, "a number above 0")
    for name in (*WHOLE, "patience"):
        check(where, name, getattr(settings, name), lambda v: isinstance(v, int) and v >= 0, "a whole number")
    check(where, "weight_decay", settings.weight_decay, lambda v: is_number(v) and v >= 0, "a number from 0 on")
    for name in SHARES:
        check(where, name, getattr(settings, name), lambda v: is_number(v) and 0 <= v < 1, "a share from 0 to below 1")
    for name in SWITCHES:
        check(where, name, getattr(settings, name), lambda v: isinstance(v, bool), "true or false")
    check(where, "dtype", settings.dtype, lambda v: v in DTYPES, f"one of {', '.join(DTYPES)}")
    return settings


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def check(where: str, name: str, value: Any, holds: Callable[[Any], bool], wanted: str) -> None:
    """An absent setting is always right."""
    if value is not None and not holds(value):
        raise Refused("BadConfig", f"{where}: {name} must be {wanted}, not {value!r}")
