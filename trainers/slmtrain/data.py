"""Conversations in, token ids with a loss mask out. The same code for pretraining, training and evaluation.

Covered: TRL's conversational form, text messages (a list of text parts is joined), an answer by tool calls (as one
strict text), any chat template that renders the conversation without its answer as a prefix of the whole. Not covered:
images and audio; tool calls before the answer; templates that rewrite earlier
turns when one is added (refused, with the example's id).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmtrain.errors import Refused
from slmtrain.files import text_digest

IGNORED = -100  # a label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Example:
    """One call: what was asked (`messages` but the last) and what was answered (the last)."""

    id: str
    conversation: str
    messages: tuple[dict[str, str], ...]
    weight: float = 1.0  # of its loss; only distillation sets it

    @property
    def prompt(self) -> list[dict[str, str]]:
        return list(self.messages[:-1])

    @property
    def answer(self) -> str:
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompt and answer together; `answer_start` is where the loss begins, `weight` its share in it."""

    ids: tuple[int, ...]
    answer_start: int
    weight: float = 1.0

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - self.answer_start


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of every line; `where` is for messages."""
    if not path.is_file():
        raise Refused("BadDataset", f"{path} does not exist; `slmfleet curate` writes it")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise Refused("BadDataset", f"{path} line {number} is not JSON: {error}") from None
            if not isinstance(value, dict):
                raise Refused("BadDataset", f"{path} line {number} is not an object")
            yield f"{path} line {number}", value


def parse_messages(where: str, value: dict[str, Any]) -> tuple[dict[str, str], ...]:
    """The conversation of one line, checked: roles, text, an answer at its end."""
    messages = value.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise Refused("BadDataset", f"{where}: `messages` must be a list of two or more")
    parsed = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Refused("BadDataset", f"{where}: every message needs `role` and `content`")
        parsed.append({"role": message["role"], "content": text_of(where, message.get("content"))})
    if messages[-1].get("tool_calls"):
        parsed[-1]["content"] = calls_text(where, messages[-1]["tool_calls"])
    if parsed[-1]["role"] != "assistant" or not parsed[-1]["content"]:
        raise Refused("BadDataset", f"{where}: the last message must be the assistant's answer, not empty")
    return tuple(parsed)


def calls_text(where: str, calls: Any) -> str:
    """An answer by tool calls, as its one strict text: `{"name": …, "arguments": {…}}`, several as a list of them.

    The gateway reads the same (`slmfleet.wire.toolcalls`).
    """
    told = []
    for call in calls if isinstance(calls, list) else [None]:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise Refused("BadDataset", f"{where}: every tool call needs `function` with a `name`")
        arguments = function.get("arguments") or {}
        try:
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refused("BadDataset", f"{where}: the arguments of a tool call must be a JSON object")
        told.append({"name": name, "arguments": arguments})
    return json.dumps(told[0] if len(told) == 1 else told, ensure_ascii=False)


def text_of(where: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise Refused("BadDataset", f"{where}: `content` must be text; other kinds are not covered")


def read_examples(path: Path) -> list[Example]:
    """Every example of a dataset's side. Without `conversation`, an example is its own conversation."""
    examples = []
    for where, value in read_lines(path):
        name = str(value.get("id") or len(examples))
        examples.append(Example(name, str(value.get("conversation") or name), parse_messages(where, value)))
    return examples


def encode(tokenizer: Any, example: Example) -> Encoded:
    """Prompt and answer are tokenised apart, because the server tokenises the prompt alone."""
    prompt = tokenizer.apply_chat_template(example.prompt, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(list(example.messages), tokenize=False)
    if not whole.startswith(prompt):
        raise Refused(
            "BadTemplate", f"example {example.id}: this base's chat template rewrites the prompt once it is answered"
        )
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    ids = (*prompt_ids, *end_at_eos(answer_ids, tokenizer.eos_token_id))
    return Encoded(ids, len(prompt_ids), example.weight)


def end_at_eos(ids: list[int], eos: int) -> list[int]:
    """The answer with exactly one end-of-text, which is where generation stops."""
    return [*ids[: ids.index(eos)], eos] if eos in ids else [*ids, eos]


def labels_of(encoded: Encoded) -> list[int]:
    """Loss on the answer only."""
    return [IGNORED] * encoded.answer_start + list(encoded.ids[encoded.answer_start :])


def plan_steps(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Which examples each step sees: every epoch a new order, neighbours in length together (little padding).

    A pure function of its arguments, so that any number of workers, and a resumed run, follow the same plan.
    """
    order = random.Random(seed)
    planned: list[list[int]] = []
    while len(planned) < steps:
        indices = list(range(len(lengths)))
        order.shuffle(indices)
        batches: list[list[int]] = []
        for start in range(0, len(indices), batch_size * 16):  # sort within a stretch, so that epochs differ
            stretch = sorted(indices[start : start + batch_size * 16], key=lengths.__getitem__)
            batches += [stretch[i : i + batch_size] for i in range(0, len(stretch), batch_size)]
        order.shuffle(batches)
        planned += batches
    return planned[:steps]


def share_of(step: Sequence[int], worker: int, workers: int) -> list[int]:
    """This worker's part of a step. Every second (third, …) of a batch sorted by length: equal work."""
    return list(step[worker::workers])


def pieces_of(share: Sequence[int], count: int) -> list[list[int]]:
    """A share in `count` pieces of nearly one size, neighbours together; the empty ones are left out.

    >>> pieces_of([1, 2, 3, 4, 5], 2)
    [[1, 2, 3], [4, 5]]
    """
    size = -(-len(share) // count)
    return [list(share[i : i + size]) for i in range(0, len(share), size)] if share else []


def split_validation(examples: Sequence[Example], share: float, most: int) -> tuple[list[Example], list[Example]]:
    """(training, validation): whole conversations, chosen by their names' digests, so that every run chooses the same.

    Taken from the training side: the held-out side is the gate's alone. At most about `most` examples.
    """
    share = min(share, most / max(1, len(examples)))
    limit = int(share * (1 << 32))
    taken = [int(text_digest(e.conversation)[7:15], 16) < limit for e in examples]
    return (
        [e for e, chosen in zip(examples, taken, strict=True) if not chosen],
        [e for e, chosen in zip(examples, taken, strict=True) if chosen],
    )
