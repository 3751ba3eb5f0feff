"""DoRA: LoRA for the direction of every weight, and its length on its own (Liu et al. 2024, arXiv 2402.09353).

Its change depends on the base's weights, so it cannot ride in a mixed batch of adapters. It is merged into its base
and written as a whole model, or an adapter is extracted from the change of each merged layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, save_model

WRITES = "model"
RATE = 1.0


def prepare(job: Job) -> tuple[Any, str]:
    from slmtrain import extraction

    model, note = load_base(job, frozen=True)
    adapted = add_adapter(model, job.config, use_dora=True)
    if job.extract_adapter:
        extraction.targeted(adapted)
    return adapted, note


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    save_model(model.merge_and_unload(), tokenizer, folder)


def changes(job: Job, model: Any) -> tuple[Any, Iterator[tuple[str, Any]]]:
    """(peft's settings, the change of each layer): see extraction.py."""
    from slmtrain import extraction

    layers = extraction.targeted(model)
    return model.peft_config["default"], ((name, change_of(layer)) for name, layer in layers.items())


def change_of(layer: Any) -> Any:
    """[out, in]: merged weight less base weight, in float32 whatever the base is held in.

    Merged in bfloat16, the rounding would be of the change's own size. Only the length of the rows is computed as
    training does, in the base's precision: the magnitudes were learned beside that one.
    """
    weight = layer.get_base_layer().weight.detach()
    added = layer.get_delta_weight("default").detach()
    direction = layer.lora_magnitude_vector["default"]
    length = direction.get_weight_norm(weight, added.to(weight.dtype), scaling=1)
    factor = (direction.weight.detach() / length).float()[:, None]
    return factor * (weight.float() + added.float()) - weight.float()
