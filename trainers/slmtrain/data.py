"""Conversations in, token ids with a loss mask out. The same code for pretraining, training and evaluation.

Covered: TRL's conversational form, text messages (a list of text parts is joined), tool calls as their one strict text,
any chat template that renders the conversation without its answer as a prefix of the whole. Not covered: images and
audio; the list of tools in the prompt (the gateway does not show it to a specialist either: its calls are learned from
examples); templates that rewrite earlier turns when one is added (refused, with the example's id).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmfleet.wire.toolcalls import ToolCall
from slmfleet.wire.toolcalls import text_of as strict_text
from slmtrain.errors import Refused
from slmtrain.files import text_digest
from slmtrain.metrics.toolparse import calls_of_json

SAMPLES = ("samples", "completions")  # a row's several answers to its one prompt
IGNORED = -100  # a label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Example:
    """One call: what was asked (`messages` but the last) and what was answered (the last)."""

    id: str
    conversation: str
    messages: tuple[dict[str, str], ...]
    weight: float = 1.0  # of its loss; only distillation sets it
    tools: tuple[dict[str, Any], ...] = ()  # JSON schemas of what could be called; not in the prompt

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
    with path.open("rb") as file:  # json tells the encoding, and what is none is refused with its line
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
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
        said = [text_of(where, message.get("content")), calls_text(where, message.get("tool_calls"))]
        parsed.append({"role": message["role"], "content": "\n".join(filter(None, said))})
    if messages[-1].get("tool_calls"):  # an answer is one strict text: nothing stands beside the calls
        parsed[-1]["content"] = calls_text(where, messages[-1]["tool_calls"])
    if parsed[-1]["role"] != "assistant" or not parsed[-1]["content"]:
        raise Refused("BadDataset", f"{where}: the last message must be the assistant's answer, not empty")
    return tuple(parsed)


def text_of(where: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise Refused("BadDataset", f"{where}: `content` must be text; other kinds are not covered")


def calls_text(where: str, tool_calls: Any) -> str:
    """Recorded tool calls as the text that is learned, which is the one that the gateway reads."""
    if not tool_calls:
        return ""
    calls = calls_of_json({"tool_calls": tool_calls})
    if calls is None:
        told = "every tool call of `tool_calls` must be a function with a name and a JSON object of arguments"
        raise Refused("BadDataset", f"{where}: {told}")
    return strict_text([ToolCall(call.name, call.arguments) for call in calls])


def tools_of(where: str, value: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    tools = value.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Refused("BadDataset", f"{where}: `tools` must be a list of objects")
    return tuple(tools)


def samples_of(where: str, value: dict[str, Any]) -> list[str]:
    """The texts of a row's `samples` (or `completions`): strings, messages, or lists of one message; [] without."""
    key = next((key for key in SAMPLES if key in value), None)
    if key is None:
        return []
    answers = value[key]
    if not isinstance(answers, list) or not answers:
        raise Refused("BadDataset", f"{where}: `{key}` must be a list of one or more answers")
    texts = []
    for answer in answers:
        inner = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
        said = inner if isinstance(inner, dict) else {"content": inner}
        here = f"{where}: `{key}`"
        texts.append(calls_text(here, said.get("tool_calls")) or text_of(here, said.get("content")).strip())
    return texts


def recorded(where: str, value: dict[str, Any]) -> dict[str, Any]:
    """The row with an answer at its end: where it has samples only, the first of them counts as the recorded one."""
    messages = value.get("messages")
    if not isinstance(messages, list) or (messages and is_answer(messages[-1])):
        return value
    samples = samples_of(where, value)
    return {**value, "messages": [*messages, {"role": "assistant", "content": samples[0]}]} if samples else value


def is_answer(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") == "assistant"


def read_examples(path: Path) -> list[Example]:
    """Every example of a dataset's side. Without `conversation`, an example is its own conversation."""
    examples = []
    for where, value in read_lines(path):
        name = str(value.get("id") or len(examples))
        messages = parse_messages(where, recorded(where, value))
        examples.append(Example(name, str(value.get("conversation") or name), messages, tools=tools_of(where, value)))
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
