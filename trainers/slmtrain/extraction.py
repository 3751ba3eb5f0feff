"""An adapter out of a training that changed whole layers (DoRA, full fine-tuning): what a pool can serve of it.

Each layer's change (trained weight less base weight) is cut to the adapter's rank by a singular value decomposition,
which of all matrices of that rank is the nearest (Eckart and Young 1936), and written as peft writes a LoRA of scale 1.
Layers of more than EXACT rows and columns are decomposed by a randomised method with a fixed seed (Halko et al. 2011,
arXiv 0909.4061). One layer at a time, in float32.
Not covered: what no adapter of linear layers can hold (embeddings, head, norms, biases); full fine-tuning leaves those
as they are when an adapter is wanted (`recipes/full.py`), so nothing that is trained is lost but what the rank cuts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from slmtrain.errors import Refused
from slmtrain.recipes.base import finish_adapter

EXACT = 512
SPARE = 16  # directions that the randomised method follows beyond the rank, at least; and its rounds
ROUNDS = 4
SEED = 0

Change = tuple[str, torch.Tensor]
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Kept:
    """How much of a training the adapter holds. Shares are of the squared Frobenius norm of the change."""

    rank: int
    layers: int
    kept_share: float  # of all layers together
    least_kept_share: float
    least_kept_layer: str | None  # none where nothing changed


def truncated(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(A [rank, in], B [out, rank]) with B A nearest to `change` [out, in]; what the rank has too much of is zero."""
    up, values, down = decomposed(change, rank)
    held, root = min(rank, len(values)), values.clamp_min(0).sqrt()
    a, b = change.new_zeros(rank, change.shape[1]), change.new_zeros(change.shape[0], rank)
    a[:held] = root[:held, None] * down[:, :held].T
    b[:, :held] = up[:, :held] * root[:held]
    return a, b


def decomposed(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(U, S, V) of the leading directions, at least `rank` of them if there are as many."""
    directions = rank + max(rank, SPARE)
    if min(change.shape) <= max(EXACT, directions):
        up, values, down = torch.linalg.svd(change, full_matrices=False)
        return up, values, down.T
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.svd_lowrank(change, directions, ROUNDS)
        return found


@torch.no_grad()
def extract(changes: Iterable[Change], rank: int, tell: Callable[[str], None]) -> tuple[Factors, Kept]:
    """(A, B) of each layer on the CPU, and what they keep. Raises Refused where a weight is no number any more."""
    factors: Factors = {}
    energies: dict[str, tuple[float, float]] = {}  # of the change, and what is lost of it
    for number, (layer, change) in enumerate(changes, 1):
        tell(f"extracting layer {number}")
        whole = energy(change)
        if not math.isfinite(whole):
            raise Refused("Diverged", f"{layer} has weights that are no numbers after training; lower learning_rate")
        a, b = truncated(change, rank)
        energies[layer] = (whole, energy(change - b @ a))
        factors[layer] = (a.cpu().contiguous(), b.cpu().contiguous())
    return factors, kept(energies, rank)


def energy(matrix: torch.Tensor) -> float:
    """Squared Frobenius norm."""
    return float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) ** 2


def kept(energies: Mapping[str, tuple[float, float]], rank: int) -> Kept:
    """From (change, lost) by layer. Where nothing changed nothing is lost."""
    shares = {layer: 1 - min(lost / whole, 1) for layer, (whole, lost) in energies.items() if whole}
    whole, lost = (sum(column) for column in zip(*energies.values(), strict=True))
    least = min(shares, key=lambda layer: shares[layer], default=None)
    return Kept(
        rank=rank,
        layers=len(energies),
        kept_share=round(1 - min(lost / whole, 1) if whole else 1.0, 6),
        least_kept_share=round(shares[least] if least else 1.0, 6),
        least_kept_layer=least,
    )


def targeted(model: Any) -> dict[str, Any]:
    """peft's layers of an adapted model by the names that the base has for them.

    Raises Refused for what an adapter could hold and no pool could serve: embeddings, convolutions, the head.
    """
    base = model.get_base_model()
    layers = {name: base.get_submodule(name) for name in model.targeted_module_names}
    for name, layer in layers.items():
        if not isinstance(layer.get_base_layer(), nn.Linear) or layer is base.get_output_embeddings():
            raise Refused(
                "CannotExtract",
                f"target_modules has {name}, a {type(layer.get_base_layer()).__name__}: an adapter is extracted from "
                "linear layers other than the head; set target_modules to all-linear",
            )
    return layers


def save(factors: Factors, settings: Any, tokenizer: Any, folder: Path) -> None:
    """peft's files, as its LoRA of scale 1 has them. `settings`: peft's own of the adapter whose layers these are."""
    rank = next(iter(factors.values()))[0].shape[0]
    settings.r, settings.lora_alpha, settings.lora_dropout = rank, rank, 0.0
    settings.use_dora, settings.inference_mode = False, True
    tensors = {
        f"base_model.model.{layer}.lora_{part}.weight": matrix
        for layer, pair in factors.items()
        for part, matrix in zip("AB", pair, strict=True)
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings.save_pretrained(folder)
    finish_adapter(tokenizer, folder)


def write(recipe: Any, job: Any, model: Any, tokenizer: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Extract an adapter from what `recipe` trained, into the job's folder; what it keeps, as an object."""
    settings, changes = recipe.changes(job, model)
    factors, found = extract(changes, job.config.rank, tell)
    save(factors, settings, tokenizer, Path(job.staged))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {**asdict(found), "trained_parameters": trained}
