"""Self-consistency: of k sampled answers, the one that most of them agree on; without a majority, the next tier's.

From Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), for answers that can
be compared: JSON objects, labels, texts without regard to white space and case. It costs k calls on the pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import orjson

from slmfleet.gateway.answers import Answer
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.checks import canonical
from slmfleet.wire.routes import OutputFormat


def majority(attempts: Sequence[Attempt], output: OutputFormat) -> Attempt:
    """One attempt for all: the first of those that more than half agree with, with the tokens of all."""
    seconds = max(attempt.latency_seconds for attempt in attempts)
    served = [attempt for attempt in attempts if attempt.result == "served" and attempt.answer is not None]
    if not served:
        return replace(attempts[0], latency_seconds=seconds)
    votes = [_vote(attempt.answer, output) for attempt in served if attempt.answer is not None]
    vote, count = Counter(votes).most_common(1)[0]
    winner = served[votes.index(vote)].answer
    assert winner is not None
    spoken = [attempt.answer for attempt in attempts if attempt.answer is not None]
    answer = replace(
        winner,
        input_tokens=sum(answer.input_tokens for answer in spoken),
        output_tokens=sum(answer.output_tokens for answer in spoken),
    )
    if 2 * count > len(attempts):
        return Attempt("served", "", answer, seconds)
    return Attempt("low_confidence", f"{count} of {len(attempts)} samples agree", answer, seconds)


def _vote(answer: Answer, output: OutputFormat) -> bytes:
    return orjson.dumps(canonical(output, answer.text), option=orjson.OPT_SORT_KEYS)
