"""One computation of what the rows of a batch share.

Calls of one task begin alike: the same system prompt, then a short input. The common beginning (the frame) is run once
a batch, with its gradient, and its keys and values serve every row; only the rest is run row by row. The gradient is
the one of the plain computation, for fewer tokens: a third of them on short intents, a tenth on long system prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SHORTEST_FRAME = 8  # below it, a second pass costs more than it saves


def frame_length(rows: Sequence[Sequence[int]], limit: int) -> int:
    """How many ids all rows begin with, at most `limit`; 0 where sharing does not pay.

    >>> frame_length([list(range(20)) + [1], list(range(20)) + [2]], limit=15)
    15
    """
    if len(rows) < 2:
        return 0
    first, last = min(rows), max(rows)  # what the smallest and the largest share, all share
    length = 0
    for a, b in zip(first[:limit], last[:limit], strict=False):
        if a != b:
            break
        length += 1
    return length if length >= SHORTEST_FRAME else 0


def rest_logits(model: Any, ids: Any, mask: Any, frame: int, keep: int) -> tuple[Any, Any]:
    """(logits of the frame [1, frame, vocabulary] or None, logits of the last `keep` columns of every row).

    `ids` and `mask` are [rows, columns], padded on the right; all rows agree in the first `frame` columns.
    """
    import torch
    from transformers import DynamicCache

    if not frame:
        return None, model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
    rows, columns = ids.shape
    cache = DynamicCache(config=model.config)
    head = model(input_ids=ids[:1, :frame], past_key_values=cache, use_cache=True).logits
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    positions = torch.arange(frame, columns, device=ids.device)[None]
    rest = model(
        input_ids=ids[:, frame:],
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return head, rest.logits
