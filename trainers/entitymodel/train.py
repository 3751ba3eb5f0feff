"""Trains the entity model of `slmfleet redact` on invented text, and writes its weights for numpy.

    PYTHONPATH=operator:trainers python -m entitymodel.train --out operator/slmfleet/curation/entities.npz

In the trainers' environment (torch); 5 to 8 minutes on one core. It is apart from `slmtrain` because it makes a part of
the package, not a user's model, and it reads tokens and features from the curation package, for the two must be the
same to the last hash. Same seed, same machine, same weights. Nothing is read but `words/`; see `generate.py`.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from entitymodel.generate import Generator, Text
from entitymodel.lists import Lists
from slmfleet.curation.entities import (
    DILATIONS,
    FIXED,
    GAP,
    KINDS,
    LABELS,
    ROWS,
    features_of,
    tokens_of,
)  # fmt: skip

EMBEDDED, WIDTH = 48, 64
# Of the texts, those that are not English.
OTHER_SHARE = 0.4
# Set on the halves `dev` of the benchmark, so that English loses nothing.
LEAN = 2.0
WORD_DROPOUT, ENTITY_WORD_DROPOUT, NGRAM_DROPOUT = 0.12, 0.5, 0.08


class Tagger(nn.Module):
    """What `slmfleet.curation.entities.EntityModel` computes, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(ROWS, EMBEDDED, mode="sum")
        nn.init.normal_(self.table.weight, std=0.1)
        self.enter = nn.Linear(EMBEDDED, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(3 * WIDTH, WIDTH) for _ in DILATIONS)
        self.leave = nn.Linear(WIDTH, LABELS)
        self.dropout = nn.Dropout(0.1)

    def forward(
        self, features: torch.Tensor, weights: torch.Tensor, offsets: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Flat features of all tokens, their weights, where each token's begin, and 0 for gaps: tokens x LABELS."""
        state = torch.relu(self.enter(self.dropout(self.table(features, offsets, per_sample_weights=weights))))
        for dilation, layer in zip(DILATIONS, self.layers, strict=True):
            state = state * mask
            empty = state.new_zeros(dilation, WIDTH)
            left = torch.cat([empty, state[:-dilation]])
            right = torch.cat([state[dilation:], empty])
            state = state + torch.relu(layer(torch.cat([left, state, right], dim=1)))
        return self.leave(self.dropout(state))


class Batches:
    """Texts of the generator as tensors."""

    def __init__(self, seed: int) -> None:
        self._generator = Generator(Lists.read(), seed, other_share=OTHER_SHARE)
        self._rng = random.Random(seed + 1)
        self._known: dict[str, list[int]] = {}

    def batch(self, texts: int) -> tuple[torch.Tensor, ...]:
        features: list[int] = []
        weights: list[float] = []
        offsets: list[int] = []
        mask: list[float] = []
        labels: list[int] = []

        def gap() -> None:
            for _ in range(GAP):
                offsets.append(len(features))
                mask.append(0.0)
                labels.append(-1)

        gap()
        for _ in range(texts):
            made = self._generator.text()
            tokens = tokens_of(made.text)
            for key, label in zip(tokens.keys, labelled(made), strict=True):
                offsets.append(len(features))
                self._put(key, label, features, weights)
                mask.append(1.0)
                labels.append(label)
            gap()
        return (
            torch.tensor(features), torch.tensor(weights), torch.tensor(offsets),
            torch.tensor(mask)[:, None], torch.tensor(labels),
        )  # fmt: skip

    def _put(self, key: str, label: int, features: list[int], weights: list[float]) -> None:
        rng = self._rng
        if key not in self._known:
            self._known[key] = features_of(key)
        found = self._known[key]
        drop = ENTITY_WORD_DROPOUT if 0 < label <= 6 else WORD_DROPOUT
        fixed = found[1:FIXED] if rng.random() < drop else found[:FIXED]
        features += fixed
        weights += [1.0] * len(fixed)
        grams = [g for g in found[FIXED:] if rng.random() >= NGRAM_DROPOUT]
        if grams:
            features += grams
            weights += [len(grams) ** -0.5] * len(grams)


def labelled(made: Text) -> list[int]:
    """A label for each token of `tokens_of`: 0, or the beginning or inside of a span's kind."""
    tokens = tokens_of(made.text)
    spans = list(made.spans)
    out, at = [], 0
    for start in tokens.starts:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if at == len(spans) or start < spans[at][0]:
            out.append(0)
            continue
        begins = start == spans[at][0]
        out.append(1 + 2 * KINDS.index(spans[at][2]) + (0 if begins else 1))
    return out


def train(steps: int, size: int, seed: int) -> Tagger:
    """Adam with a warm-up and a cosine to zero; missing an entity costs a little more than inventing one."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model, batches = Tagger(), Batches(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98))
    cost = torch.ones(LABELS)
    cost[1:] = 1.15
    began, mean = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        rate = 3e-3 * min(1.0, step / 200) * (0.5 + 0.5 * float(np.cos(np.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        *inputs, labels = batches.batch(size)
        loss = nn.functional.cross_entropy(model(*inputs), labels, cost, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        mean = 0.98 * mean + 0.02 * loss.item()
        if step % 200 == 0:
            print(f"step {step} of {steps}: loss {mean:.4f}, {time.monotonic() - began:.0f} s", flush=True)
    return model


def weights_of(model: Tagger, lean: float) -> dict[str, np.ndarray]:
    """For EntityModel: the table in 8 bits with a scale a row, the rest in 16. `lean`: how much less, in logits, it is
    worth to a token to be nothing than it was in training, for what is missed costs more than what is found in vain."""
    table = model.table.weight.detach().numpy()
    scale = np.maximum(np.abs(table).max(axis=1), 1e-6) / 127.0
    out = {"table": np.round(table / scale[:, None]).astype(np.int8), "scale": scale.astype(np.float16)}
    pairs = {"_in": model.enter, "_out": model.leave} | {str(i): layer for i, layer in enumerate(model.layers)}
    for name, layer in pairs.items():
        out[f"w{name}"] = layer.weight.detach().numpy().T.astype(np.float16)
        out[f"b{name}"] = layer.bias.detach().numpy().astype(np.float16)
    out["b_out"][0] -= lean
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4_200)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--lean", type=float, default=LEAN)
    given = parser.parse_args()
    np.savez_compressed(given.out, **weights_of(train(given.steps, given.batch, given.seed), given.lean))
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
