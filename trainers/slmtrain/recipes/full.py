"""Full fine-tuning: every weight is trained, and a whole model is written.

Where an adapter is wanted of it, only the linear layers that one may target are trained: a change of embeddings, head,
norms or biases would be lost with the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, save_model

WRITES = "model"
RATE = 0.1  # LoRA's best rates are about ten times those of full fine-tuning
save = save_model


def prepare(job: Job) -> tuple[Any, str]:
    from slmtrain import extraction

    layers = extraction.targeted(outline(job)) if job.extract_adapter else None
    model, note = load_base(job, frozen=False)
    if layers is not None:
        model.requires_grad_(False)
        for name in layers:
            model.get_submodule(name).weight.requires_grad_(True)
    return model, note


def sizes(job: Job) -> tuple[int, int]:
    """(parameters of the base, those of them that are trained)."""
    from slmtrain import extraction

    adapted = outline(job)
    parameters = sum(p.numel() for name, p in adapted.named_parameters() if ".lora_" not in name)
    if not job.extract_adapter:
        return parameters, parameters
    return parameters, sum(layer.get_base_layer().weight.numel() for layer in extraction.targeted(adapted).values())


def outline(job: Job) -> Any:
    """The base with an adapter as peft would put it, without a byte of weights: which layers it targets."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return add_adapter(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(job.base)), job.config)


def changes(job: Job, model: Any) -> tuple[Any, Iterator[tuple[str, Any]]]:
    """(peft's settings, the change of each trained layer): see extraction.py. The base is read a second time."""
    from slmtrain import extraction

    adapted = outline(job)
    base, _ = load_base(job, frozen=False)

    def each() -> Iterator[tuple[str, Any]]:
        for name in extraction.targeted(adapted):
            trained = model.get_submodule(name).weight.detach()
            yield name, trained - base.get_submodule(name).weight.detach().to(trained.device)

    return adapted.peft_config["default"], each()
