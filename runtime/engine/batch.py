"""The rows that share a forward pass: prompts join a running batch, finished rows leave it (continuous batching).

All rows share one key-value cache, padded on the left, so that every row's next token has the same column.
Covered: decoder-only models with transformers' DynamicCache of full attention. Not covered: sliding-window layers
longer than their window, recurrent state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad as pad_tensor
from transformers import DynamicCache

from .adapters import Chosen
from .sampling import Sampling


class Batch:
    """Cache, mask and last tokens of the running rows, in the order of the engine's list of them."""

    def __init__(self, model: Any, chosen: Chosen, pad_id: int, device: torch.device) -> None:
        self.model, self.chosen, self.pad_id, self.device = model, chosen, pad_id, device
        self.cache: DynamicCache | None = None
        self.mask: torch.Tensor | None = None  # [rows, columns], 1 where a row has a token

    def forget(self) -> None:
        self.cache = self.mask = None

    def join(self, prompts: Sequence[list[int]], slots: list[int]) -> torch.Tensor:
        """Run new prompts and append them as rows; returns the logits [new rows, vocabulary] after each."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (longest - len(p)) + p for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        cache = DynamicCache(config=self.model.config)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self.forward(ids, mask, positions, cache, slots)
        self.append(cache, mask)
        return logits

    def step(self, last: list[int], slots: list[int]) -> torch.Tensor:
        """One more token for every row; returns the logits [rows, vocabulary] after it."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(last), 1)], dim=1)
        positions = self.mask.sum(1, keepdim=True) - 1
        ids = torch.tensor(last, device=self.device)[:, None]
        return self.forward(ids, self.mask, positions, self.cache, slots)

    def forward(self, ids: Any, mask: Any, positions: Any, cache: DynamicCache, slots: list[int]) -> torch.Tensor:
        self.chosen.choose(slots, self.device)
        out = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    def append(self, cache: DynamicCache, mask: torch.Tensor) -> None:
        """Put new rows below the running ones; the shorter side is padded on the left."""
        if self.cache is None:
            self.cache, self.mask = cache, mask
            return
        columns = max(self.mask.shape[1], mask.shape[1])
        old, new = columns - self.mask.shape[1], columns - mask.shape[1]
        for ours, theirs in zip(self.cache.layers, cache.layers, strict=True):
            for part in ("keys", "values"):
                above = pad_tensor(getattr(ours, part), (0, 0, old, 0))
                setattr(ours, part, torch.cat([above, pad_tensor(getattr(theirs, part), (0, 0, new, 0))]))
        self.mask = torch.cat([pad_tensor(self.mask, (old, 0)), pad_tensor(mask, (new, 0))])

    def keep(self, rows: list[int]) -> None:
        """Only these rows stay; columns that none of them needs are cut off."""
        if not rows:
            self.forget()
            return
        index = torch.tensor(rows, device=self.device)
        self.mask = self.mask[index]
        unused = int((self.mask.sum(0) == 0).long().cumprod(0).sum())
        self.mask = self.mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[index][:, :, unused:]
            layer.values = layer.values[index][:, :, unused:]


def pick(
    logits: torch.Tensor, rows: Sequence[tuple[Sampling, Any, int]], eos: Sequence[int]
) -> tuple[list[int], list[float]]:
    """(token, log-probability) for every row. A row is (sampling, generator, tokens so far).

    The log-probability is the model's own, before temperature and cuts, so that it says the same for every caller.
    """
    for index, (sampling, _, done) in enumerate(rows):
        if done < sampling.min_tokens or sampling.ignore_eos:
            logits[index, list(eos)] = -torch.inf
    logprobs = torch.log_softmax(logits, dim=-1)
    best = logprobs.argmax(-1)
    tokens = best.tolist()
    for index, (sampling, generator, _) in enumerate(rows):
        if sampling.temperature > 0:
            tokens[index] = draw(logits[index], sampling, generator)
    chosen = logprobs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return tokens, chosen.tolist()


def draw(logits: torch.Tensor, sampling: Sampling, generator: Any) -> int:
    """One token by temperature, top-k and top-p (nucleus sampling, arXiv 1904.09751)."""
    values, order = (logits / sampling.temperature).sort(descending=True)
    if sampling.top_k:
        values, order = values[: sampling.top_k], order[: sampling.top_k]
    probabilities = torch.softmax(values, dim=-1)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = torch.where(before < sampling.top_p, probabilities, 0.0)
    probabilities[0] = max(float(probabilities[0]), 1e-9)
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])
