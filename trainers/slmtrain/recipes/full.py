"""Full fine-tuning: every weight is trained, and a whole model is written."""

from __future__ import annotations

from typing import Any

from slmtrain.job import Job
from slmtrain.recipes.base import load_base, save_model

WRITES = "model"
RATE = 0.1  # LoRA's best rates are about ten times those of full fine-tuning
save = save_model


def prepare(job: Job) -> tuple[Any, str]:
    return load_base(job, frozen=False)
