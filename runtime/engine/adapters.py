"""Many adapters on one model: every linear layer holds all adapters' matrices, stacked by slot.

A row of a batch names its slot; two batched multiplications then serve any mix of adapters (the idea of S-LoRA,
arXiv 2311.03285, and Punica, arXiv 2310.18547, in plain torch). Slot 0 is the base alone: zeros.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import nn

from .artifact import AdapterFiles, read_adapter
from .errors import EngineError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TENSOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<part>[AB])\.weight")


class Chosen:
    """Which slot each row of the current forward pass uses: none at all, one for all, or one a row."""

    def __init__(self) -> None:
        self.one: int | None = 0
        self.rows: torch.Tensor | None = None

    def choose(self, slots: list[int], device: torch.device) -> None:
        self.one = slots[0] if len(set(slots)) == 1 else None
        self.rows = torch.tensor(slots, device=device) if self.one is None else None


class StackedLinear(nn.Module):
    """y = W x + B[slot] A[slot] x. `down` is [slots, rank, in], `up` [slots, out, rank] with the scaling folded in."""

    def __init__(self, inner: nn.Linear, chosen: Chosen, slots: int, rank: int) -> None:
        super().__init__()
        self.inner, self.chosen = inner, chosen
        like = inner.weight
        self.down = torch.zeros(slots, rank, inner.in_features, dtype=like.dtype, device=like.device)
        self.up = torch.zeros(slots, inner.out_features, rank, dtype=like.dtype, device=like.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        if self.chosen.one == 0:
            return y
        if self.chosen.one is not None:
            return y + (x @ self.down[self.chosen.one].T) @ self.up[self.chosen.one].T
        rows = self.chosen.rows
        return torch.baddbmm(y, torch.bmm(x, self.down[rows].transpose(1, 2)), self.up[rows].transpose(1, 2))

    def put(self, slot: int, down: torch.Tensor, up: torch.Tensor) -> None:
        rank = down.shape[0]
        self.clear(slot)
        self.down[slot, :rank] = down.to(self.down)
        self.up[slot, :, :rank] = up.to(self.up)

    def clear(self, slot: int) -> None:
        self.down[slot].zero_()
        self.up[slot].zero_()


@dataclass
class Adapter:
    """One loaded adapter. Retired: its name is gone, its slot is freed once the last row has left."""

    name: str
    slot: int
    path: str
    digest: str
    rank: int
    retired: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def described(self) -> dict[str, Any]:
        shown = {key: self.counts[key] for key in ("in_flight", "requests", "generated_tokens")}
        return {"name": self.name, "path": self.path, "digest": self.digest, "rank": self.rank, **shown}


@dataclass(frozen=True)
class Prepared:
    """An adapter that was read and fits: (A, scaled B) by layer."""

    name: str
    files: AdapterFiles
    matrices: dict[str, tuple[torch.Tensor, torch.Tensor]]


class AdapterBank:
    """The adapters of a model. What changes it is called under the engine's lock, between forward passes."""

    def __init__(self, model: nn.Module, slots: int, max_rank: int, base_digest: str | None) -> None:
        self.total, self.max_rank, self.base_digest = slots, max_rank, base_digest
        self.chosen = Chosen()
        self.layers = wrap_linear_layers(model, self.chosen, slots + 1, max_rank)
        self.free = list(range(slots, 0, -1))
        self.named: dict[str, Adapter] = {}
        self.base = Adapter("", 0, "", "", 0)

    def find(self, name: str | None) -> Adapter:
        """The adapter of a request; the base where no name is given."""
        if not name:
            return self.base
        if name not in self.named:
            loaded = ", ".join(sorted(self.named)[:16]) or "(none)"
            raise EngineError("AdapterNotLoaded", f"adapter {name} is not loaded here; loaded: {loaded}")
        return self.named[name]

    def prepare(self, name: Any, path: Any, digest: Any) -> Prepared | None:
        """Read and check an adapter; None where it is loaded already. Slow, and touches nothing: needs no lock."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise EngineError("BadRequest", "lora_name must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}")
        if not isinstance(path, str) or not path:
            raise EngineError("BadRequest", "load needs path, a folder that this server can read")
        held = self.named.get(name)
        if held and digest == held.digest:
            return None
        files = read_adapter(path, digest)
        if held and files.digest == held.digest:
            return None
        if held:
            raise EngineError("NameTaken", f"{name} is {held.digest} from {held.path}; unload it first")
        return Prepared(name, files, self.fitted(name, files))

    def place(self, prepared: Prepared) -> None:
        """Put a prepared adapter into a free slot."""
        if not self.free:
            raise EngineError("NoFreeSlot", f"all {self.total} slots are in use; unload an adapter or raise SLM_SLOTS")
        slot = self.free.pop()
        for layer, (down, up) in prepared.matrices.items():
            self.layers[layer].put(slot, down, up)
        name, files = prepared.name, prepared.files
        self.named[name] = Adapter(name, slot, files.path, files.digest, files.rank)

    def fitted(self, name: str, files: AdapterFiles) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """(A, scaled B) by layer, every tensor checked against the layer that it is for."""
        if files.base_digest and self.base_digest and files.base_digest != self.base_digest:
            theirs, ours = files.base_digest, self.base_digest
            raise EngineError("AdapterDoesNotFit", f"{name} was trained on base {theirs}, this is {ours}")
        if files.rank > self.max_rank:
            raise EngineError("RankTooHigh", f"{name} has rank {files.rank}; SLM_MAX_RANK is {self.max_rank} here")
        parts = sort_tensors(name, files.weights)
        for layer, pair in parts.items():
            if layer not in self.layers:
                raise EngineError("AdapterDoesNotFit", f"{name} has tensors for {layer}, which this base has not")
            inner = self.layers[layer].inner
            wanted = {"A": (files.rank, inner.in_features), "B": (inner.out_features, files.rank)}
            shapes = {part: tuple(tensor.shape) for part, tensor in pair.items()}
            if shapes != wanted:
                raise EngineError("AdapterDoesNotFit", f"{name}: {layer} needs shapes {wanted}, has {shapes}")
        return {layer: (pair["A"], pair["B"].float() * files.scaling) for layer, pair in parts.items()}

    def unload(self, name: str) -> bool:
        """Take the name away at once, the slot when nobody uses it any more."""
        adapter = self.named.pop(name, None)
        if adapter is None:
            return False
        adapter.retired = True
        self.free_if_idle(adapter)
        return True

    def acquire(self, adapter: Adapter) -> None:
        adapter.counts["in_flight"] += 1
        adapter.counts["requests"] += 1

    def release(self, adapter: Adapter) -> None:
        adapter.counts["in_flight"] -= 1
        self.free_if_idle(adapter)

    def free_if_idle(self, adapter: Adapter) -> None:
        if not adapter.retired or adapter.counts["in_flight"]:
            return
        for layer in self.layers.values():
            layer.clear(adapter.slot)
        self.free.append(adapter.slot)

    def described(self) -> dict[str, Any]:
        free = len(self.free)
        slots = {"total": self.total, "used": self.total - free, "free": free, "max_rank": self.max_rank}
        return {"slots": slots, "adapters": [self.named[name].described() for name in sorted(self.named)]}


def wrap_linear_layers(model: nn.Module, chosen: Chosen, slots: int, rank: int) -> dict[str, StackedLinear]:
    """Every linear layer of the model but its head, replaced in place; by name."""
    head = model.get_output_embeddings()
    layers: dict[str, StackedLinear] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not head:
            parent, _, leaf = name.rpartition(".")
            layers[name] = StackedLinear(module, chosen, slots, rank)
            setattr(model.get_submodule(parent), leaf, layers[name])
    return layers


def sort_tensors(name: str, raw: bytes) -> dict[str, dict[str, torch.Tensor]]:
    """An adapter's tensors by layer and part, as peft names them."""
    try:
        tensors = safetensors.torch.load(raw)
    except Exception as error:  # safetensors has no public error type for a damaged file
        raise EngineError("AdapterUnreadable", f"{name}: the weights are damaged ({error})") from None
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = TENSOR.fullmatch(key)
        if match is None:
            raise EngineError("AdapterDoesNotFit", f"{name} has a tensor {key}, which is no LoRA of a linear layer")
        parts.setdefault(match["layer"], {})[match["part"]] = tensor
    if not parts:
        raise EngineError("AdapterDoesNotFit", f"{name} has no tensors")
    return parts
