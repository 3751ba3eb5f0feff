"""LoRA: two narrow matrices beside every linear layer (Hu et al. 2021, arXiv 2106.09685). Rides in a mixed batch."""

from __future__ import annotations

from typing import Any

from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, save_adapter

WRITES = "adapter"
RATE = 1.0
save = save_adapter


def prepare(job: Job) -> tuple[Any, str]:
    model, note = load_base(job, frozen=True)
    return add_adapter(model, job.config), note
