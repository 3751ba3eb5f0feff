"""Several examples in one row, none of which sees another. Pure; the mask is made from `segments` where torch is.

A row is [what all its examples begin with, once][rest of example 1][rest of example 2]… A token attends to the shared
beginning and to its own example, and has the position that it would have alone, so loss and gradient are those of the
examples computed one by one. Packing wants dense attention: a row of n tokens costs n² of it, hence `pack_tokens`.

Not covered: layers with a sliding window shorter than an example. Models that carry a state from token to token
instead of attending (Mamba and its kin) would leak; `steps.refuse_cross_talk` finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmtrain.data import Encoded

SHARED = 0  # the segment that every token may attend to
SHORTEST_ROW = 512  # tokens


@dataclass(frozen=True)
class PackedRow:
    """One row, all lists [tokens] long but the last three, which are [answer tokens]."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    predicting: list[int]  # columns whose next token is an answer's
    targets: list[int]  # those next tokens
    weights: list[float]


def bins_of(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices in bins of at most `limit` tokens (a longer one: alone): first fit, the longest first.

    >>> bins_of([5, 4, 3, 2], 7)
    [[0, 3], [1, 2]]
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = next((b for b, left in enumerate(room) if left >= lengths[index]), None)
        if fits is None:
            bins.append([index])
            room.append(limit - lengths[index])
            continue
        bins[fits].append(index)
        room[fits] -= lengths[index]
    return bins


def pack(examples: Sequence[Encoded], frame: int) -> PackedRow:
    """One row of examples that all begin with the same `frame` ids (0: they share nothing), before any answer."""
    shared = list(examples[0].ids[:frame])
    row = PackedRow(shared, list(range(frame)), [SHARED] * frame, [], [], [])
    for segment, example in enumerate(examples, SHARED + 1):
        rest = example.ids[frame:]
        offset = len(row.ids) - frame  # from a place in the example to a column of the row
        row.ids.extend(rest)
        row.positions.extend(range(frame, len(example.ids)))
        row.segments.extend([segment] * len(rest))
        row.predicting.extend(offset + place - 1 for place in range(example.answer_start, len(example.ids)))
        row.targets.extend(example.ids[example.answer_start :])
        row.weights.extend([example.weight] * example.answer_tokens)
    return row
