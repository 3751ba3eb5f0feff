"""The recipes by `--method`. Each says in one file what differs; what they share is in `worker.py` and `steps.py`.

A recipe has `WRITES` ("adapter" or "model"), `RATE` (its learning rate as a share of LoRA's), `prepare(job)`, which
returns the model with its trainable parameters and a note on its precision, and `save(model, tokenizer, folder)`. One
that writes a model also has `changes(job, model)`, from which `extraction.py` makes an adapter.
torch is imported inside the functions: the command reads `WRITES` without it.
"""

from __future__ import annotations

from types import ModuleType

from slmtrain.recipes import distill, dora, full, lora, qlora

RECIPES: dict[str, ModuleType] = {"lora": lora, "qlora": qlora, "dora": dora, "full": full, "distill": distill}


def writes(method: str, *, extract_adapter: bool) -> str:
    """What is in the artifact: `adapter` or `model`."""
    return "adapter" if extract_adapter else str(RECIPES[method].WRITES)
