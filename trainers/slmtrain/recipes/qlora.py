"""QLoRA: LoRA over a frozen base in 4-bit NormalFloat (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes.

4-bit needs a CUDA device. Without one the same code runs over the base in float, and result and card say so: what it
trains is then a LoRA, and neither the memory nor the rounding of 4-bit is seen.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from slmtrain.errors import Refused
from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, mixed, save_adapter

WRITES = "adapter"
RATE = 1.0
save = save_adapter


def prepare(job: Job) -> tuple[Any, str]:
    import torch
    from peft import prepare_model_for_kbit_training

    four_bit = torch.cuda.is_available()
    options = {"quantization_config": four_bit_config(job)} if four_bit else {}
    model, note = load_base(job, frozen=True, **options)
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    note = f"base in 4-bit nf4, computed in {note}" if four_bit else f"{note}; not quantised: no CUDA device"
    return add_adapter(model, job.config), note


def four_bit_config(job: Job) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if mixed(job.config) else torch.float32,
    )


def refuse_what_cannot_run() -> None:
    """A CUDA device without bitsandbytes: training in float there would be a surprise."""
    import torch

    if torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes") is None:
        raise Refused("MissingLibrary", "qlora on a GPU needs bitsandbytes; pip install 'slmfleet[qlora]', or use lora")
