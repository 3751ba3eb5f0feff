"""DoRA: LoRA for the direction of every weight, and its length on its own (Liu et al. 2024, arXiv 2402.09353).

Its change depends on the base's weights, so it cannot ride in a mixed batch of adapters. It is merged into its base
and written as a whole model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, save_model

WRITES = "model"
RATE = 1.0


def prepare(job: Job) -> tuple[Any, str]:
    model, note = load_base(job, frozen=True)
    return add_adapter(model, job.config, use_dora=True), note


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    save_model(model.merge_and_unload(), tokenizer, folder)
