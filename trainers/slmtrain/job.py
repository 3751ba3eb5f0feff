"""What is to be trained, as values: settings, and the job that is sent to every worker. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from slmtrain.errors import Refused
from slmtrain.files import read_json

METHODS = ("lora", "dora", "qlora", "full")
POSITIVE = ("epochs", "max_steps", "batch_size", "rank", "alpha", "learning_rate", "max_length", "checkpoint_every")


@dataclass(frozen=True)
class Config:
    """What --config may set. Unknown keys are refused by name."""

    epochs: float | None = None  # none: as many as make 600 steps, within 3 to 10
    max_steps: int | None = None  # exactly so many steps, whatever `epochs` says
    batch_size: int = 32
    learning_rate: float | None = None  # none: by the base's size
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.1  # tiny bases overfit thousands of calls: 1 point of accuracy measured
    target_modules: str | list[str] = "all-linear"
    max_length: int | None = None  # none: the base's context
    checkpoint_every: int = 25
    dtype: str = "float32"


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
    ray_job_id: str = ""


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
        value = getattr(settings, name)
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or value <= 0):
            raise Refused("BadConfig", f"{where}: {name} must be a number above 0, not {value!r}")
    return settings
