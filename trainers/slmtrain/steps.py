"""One step: examples laid out as rows, the loss on their answers, gradients that do not depend on how they were laid.

The sum over answer tokens is divided by the answer tokens of the whole step, on all workers and in all pieces. So one
worker or eight, one piece or eight, one example a row or many, follow the same curve.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.functional import cross_entropy

from slmtrain import data
from slmtrain.data import Encoded
from slmtrain.errors import Refused
from slmtrain.frame import frame_length, rest_logits
from slmtrain.job import Config
from slmtrain.packing import SHARED, SHORTEST_ROW, bins_of, pack
from slmtrain.recipes.distill import divergence

LEAK = 1e-3  # how much of a logit's spread an example may change by what is packed beside it


@dataclass(frozen=True)
class Padded:
    """One example a row: ids, mask and labels [rows, columns]; `first`: the first column that any answer begins in."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor  # [rows]
    frame: int
    first: int

    def answer_logits(self, model: Any) -> torch.Tensor:
        """[answer tokens, vocabulary], in the order of `targets`."""
        _, logits = rest_logits(model, self.ids, self.mask, self.frame, keep=self.ids.shape[1] - self.first + 1)
        return logits[:, :-1][self.labels[:, self.first :] != data.IGNORED]

    def targets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and weights of the answers' tokens."""
        wanted = self.labels != data.IGNORED
        return self.labels[wanted], self.weights[:, None].expand_as(self.labels)[wanted]


@dataclass(frozen=True)
class Packed:
    """Many examples in one row: ids, positions and segments [1, tokens]; see packing.py."""

    ids: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    predicting: torch.Tensor
    wanted: torch.Tensor
    weights: torch.Tensor

    def answer_logits(self, model: Any) -> torch.Tensor:
        """[answer tokens, vocabulary], in the order of `targets`."""
        out = model(
            input_ids=self.ids,
            position_ids=self.positions,
            attention_mask=self.mask_for(model),
            use_cache=False,
            logits_to_keep=self.predicting,
        )
        return out.logits[0]

    def mask_for(self, model: Any) -> torch.Tensor:
        """[1, 1, tokens, tokens]: backwards, to the own segment and the shared one. Added to scores by eager code."""
        of_query, of_key = self.segments[0, :, None], self.segments[0, None, :]
        seen = ((of_query == of_key) | (of_key == SHARED)).tril()[None, None]
        if model.config._attn_implementation != "eager":
            return seen
        dtype = next(model.parameters()).dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)

    def targets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and weights of the answers' tokens."""
        return self.wanted, self.weights


@dataclass(frozen=True)
class Layout:
    """How a worker's examples become rows."""

    pad: int
    pieces: int = 1
    pack_tokens: int | None = None  # none: one example a row
    share_frame: bool = True  # compute what all rows begin with once; not with gradient checkpointing, unless packed

    @classmethod
    def of(cls, config: Config, tokenizer: Any, longest: int) -> Layout:
        """From the settings and the longest example's tokens."""
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        tokens = (config.pack_tokens or max(longest, SHORTEST_ROW)) if config.packing else None
        return cls(pad, config.gradient_accumulation_steps, tokens, config.packing or not config.gradient_checkpointing)

    def rows(self, examples: Sequence[Encoded], device: Any) -> list[Padded | Packed]:
        """What is run at once, one after the other."""
        pieces = [[examples[i] for i in piece] for piece in data.pieces_of(range(len(examples)), self.pieces)]
        if self.pack_tokens is None:
            return [self.padded(piece, device) for piece in pieces]
        return [row for piece in pieces for row in self.packed(piece, self.pack_tokens, device)]

    def frame_of(self, examples: Sequence[Encoded]) -> int:
        """The first token of the rest must predict, so the frame ends before any answer's predecessor."""
        limit = min(e.answer_start for e in examples) - 1
        return frame_length([e.ids for e in examples], limit) if self.share_frame else 0

    def padded(self, examples: Sequence[Encoded], device: Any) -> Padded:
        columns = max(len(e.ids) for e in examples)
        spare = [columns - len(e.ids) for e in examples]
        pairs = list(zip(examples, spare, strict=True))
        return Padded(
            ids=torch.tensor([[*e.ids, *[self.pad] * s] for e, s in pairs], device=device),
            mask=torch.tensor([[1] * len(e.ids) + [0] * s for e, s in pairs], device=device),
            labels=torch.tensor([[*data.labels_of(e), *[data.IGNORED] * s] for e, s in pairs], device=device),
            weights=torch.tensor([e.weight for e in examples], device=device),
            frame=self.frame_of(examples),
            first=min(e.answer_start for e in examples),
        )

    def packed(self, examples: Sequence[Encoded], limit: int, device: Any) -> list[Packed]:
        frame = self.frame_of(examples)
        bins = bins_of([len(e.ids) - frame for e in examples], limit - frame)
        rows = [pack([examples[i] for i in sorted(chosen)], frame) for chosen in bins]
        return [
            Packed(
                ids=torch.tensor([row.ids], device=device),
                positions=torch.tensor([row.positions], device=device),
                segments=torch.tensor([row.segments], device=device),
                predicting=torch.tensor(row.predicting, device=device),
                wanted=torch.tensor(row.targets, device=device),
                weights=torch.tensor(row.weights, device=device),
            )
            for row in rows
        ]


class AnswerLoss(nn.Module):
    """The model with its loss inside, so that a step is one forward to DDP."""

    def __init__(self, model: Any, config: Config, half: bool = False) -> None:
        super().__init__()
        self.model, self.config, self.half = model, config, half
        self.teachers: tuple[Any, ...] = ()

    def learn_from(self, teacher: Any) -> None:
        """In a tuple, or its weights would be saved, moved and synchronised with the student's."""
        self.teachers = (teacher,)

    def forward(self, rows: Padded | Packed) -> torch.Tensor:
        """Summed, weighed loss on the answers' tokens."""
        targets, weights = rows.targets()
        with torch.autocast(rows.ids.device.type, torch.bfloat16, enabled=self.half):
            logits = rows.answer_logits(self.model)
        loss = cross_entropy(logits.float(), targets, reduction="none")
        for teacher in self.teachers if self.training else ():
            with torch.no_grad():
                taught = rows.answer_logits(teacher)
            share = self.config.teacher_share
            loss = (1 - share) * loss + share * divergence(logits, taught, self.config.temperature)
        return (loss * weights).sum()


def one_step(
    model: Any, encoded: Sequence[Encoded], chosen: Sequence[int], layout: Layout, rank: int, workers: int
) -> float:
    """Gradients of one step, and its loss a token.

    Multiplied by the number of workers because DDP takes the mean; a worker without work still takes part, with
    weight 0. Gradients are exchanged once, with the last piece.
    """
    device = next(model.parameters()).device
    mine = [encoded[i] for i in data.share_of(chosen, rank, workers)]
    everyone = sum(encoded[i].answer_tokens * encoded[i].weight for i in chosen)
    rows = layout.rows(mine or [encoded[chosen[0]]], device)
    total = torch.zeros((), device=device)
    for row in rows:
        last = row is rows[-1]
        with contextlib.nullcontext() if last or workers == 1 else model.no_sync():
            loss = model(row) * (workers / everyone if mine else 0.0)
            loss.backward()
        total += loss.detach()
    if workers > 1:
        torch.distributed.all_reduce(total)
    return total.item() / workers


@torch.no_grad()
def measured_loss(
    model: AnswerLoss, encoded: Sequence[Encoded], batch: int, layout: Layout, rank: int, workers: int
) -> float:
    """Loss a token of the recorded answers (no teacher, no dropout) on examples that nothing is trained on."""
    model.eval()
    device = next(model.parameters()).device
    total = torch.zeros(2, dtype=torch.float64, device=device)
    mine = [
        encoded[i] for i in data.share_of(sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids)), rank, workers)
    ]
    for start in range(0, len(mine), batch):
        part = mine[start : start + batch]
        for row in layout.rows(part, device):
            total[0] += model(row).double()
        total[1] += sum(e.answer_tokens * e.weight for e in part)
    if workers > 1:
        torch.distributed.all_reduce(total)
    model.train()
    return round(float(total[0] / total[1]), 6)  # a smaller difference may be that of the number of workers


@torch.no_grad()
def refuse_cross_talk(model: AnswerLoss, encoded: Sequence[Encoded], layout: Layout) -> None:
    """Packs one example behind two different ones; a model that answers it differently cannot be packed."""
    device = next(model.parameters()).device
    example = encoded[0]
    apart = [Encoded(tuple(reversed(example.ids)), 1), Encoded(tuple(example.ids[1:]) + example.ids[:1], 1)]
    model.eval()
    seen = []
    for other in apart:
        row = layout.packed([other, example], 2 * len(example.ids), device)
        seen.append(row[0].answer_logits(model.model)[-example.answer_tokens :].float())
    model.train()
    difference = ((seen[0] - seen[1]).abs().max() / seen[0].std()).item()
    if difference > LEAK:
        raise Refused(
            "CannotPack", f"in this base, packed examples see each other (by {difference:.2g}); set packing to false"
        )
