"""Distillation into a LoRA, from whatever the teacher left behind.

- Recorded answers: where one prompt was answered several times, each answer weighs as much as the share that agree
  with it, and `weight` of a row (above 0, at most 1) counts too.
- Sampled answers: a row's `samples` (or `completions`: texts, messages, or lists of one message) teach the answer that
  more than `agreement` of them give, weighed by that share; a row without such a majority is left out, and counted.
  Agreement is equality of the JSON value, or of the text where it is none.
- Logits: with `--teacher`, whose tokenizer must be the base's, the loss is (1 - s) of the above plus s T² KL(teacher ‖
  student) on the answers' tokens, both at temperature T (Hinton et al. 2015, arXiv 1503.02531).

Not covered: a teacher with another tokenizer; a teacher spread over several devices; agreement of free text by meaning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slmtrain.data import Example, is_answer, parse_messages, read_lines, samples_of
from slmtrain.errors import Refused
from slmtrain.job import Job
from slmtrain.recipes.base import add_adapter, load_base, save_adapter

WRITES = "adapter"
RATE = 1.0
save = save_adapter


def prepare(job: Job) -> tuple[Any, str]:
    model, note = load_base(job, frozen=True)
    return add_adapter(model, job.config), note


def read_weighed(path: Path, agreement: float) -> tuple[list[Example], int]:
    """(examples with their weights, rows left out for want of a majority) of a dataset's training side."""
    examples, left_out = [], 0
    for where, value in read_lines(path):
        example = parse_row(where, value, agreement, len(examples) + left_out)
        if example is None:
            left_out += 1
            continue
        examples.append(example)
    return weigh_recorded(examples), left_out


def parse_row(where: str, value: dict[str, Any], agreement: float, number: int) -> Example | None:
    """One row; None where its sampled answers do not agree."""
    name = str(value.get("id") or number)
    conversation = str(value.get("conversation") or name)
    weight = value.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight <= 1:
        raise Refused("BadDataset", f"{where}: `weight` must be a number above 0 and at most 1")
    samples = samples_of(where, value)
    if not samples:
        return Example(name, conversation, parse_messages(where, value), float(weight))
    chosen = majority(samples, agreement)
    if chosen is None:
        return None
    answer, share = chosen
    asked = value["messages"] if isinstance(value.get("messages"), list) else []
    asked = asked[:-1] if asked and is_answer(asked[-1]) else asked
    messages = [*asked, {"role": "assistant", "content": answer}]
    return Example(name, conversation, parse_messages(where, {"messages": messages}), weight * share)


def same(answer: str) -> str:
    """What two answers have in common that say the same: the JSON value in one spelling, or the trimmed text.

    >>> same('{"b": 1, "a": 2}') == same('{"a":2,"b":1}')
    True
    """
    try:
        return json.dumps(json.loads(answer), sort_keys=True)
    except ValueError:
        return answer.strip()


def majority(answers: Sequence[str], agreement: float) -> tuple[str, float] | None:
    """(the commonest answer as it was first spelled, its share) where the share is above `agreement`; empty ones lose.

    >>> majority(["yes", "yes ", "no"], 0.5)
    ('yes', 0.6666666666666666)
    """
    commonest, count = Counter(map(same, answers)).most_common(1)[0]
    share = count / len(answers)
    if share <= agreement or not commonest:
        return None
    return next(answer for answer in answers if same(answer) == commonest), share


def weigh_recorded(examples: Sequence[Example]) -> list[Example]:
    """Each example's weight times the share of the answers to its very prompt that agree with it."""
    prompts = [json.dumps(e.prompt, sort_keys=True) for e in examples]
    asked = Counter(prompts)
    agreed = Counter(zip(prompts, (same(e.answer) for e in examples), strict=True))
    return [
        replace(e, weight=e.weight * agreed[prompt, same(e.answer)] / asked[prompt])
        for e, prompt in zip(examples, prompts, strict=True)
    ]


def refuse_teacher(base: str, teacher: str) -> None:
    """Logits compare token by token, so both must cut text into the same ids."""
    from transformers import AutoTokenizer

    own, other = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(teacher)
    if own.get_vocab() == other.get_vocab() and own.eos_token_id == other.eos_token_id:
        return
    raise Refused(
        "OtherTokenizer",
        f"--teacher {teacher} has another tokenizer than the base ({len(other)} and {len(own)} tokens): logits of "
        "different tokens cannot be compared; choose a teacher of the base's family, or distill from its answers",
    )


def load_teacher(job: Job, device: Any) -> Any:
    """The teacher, frozen, on the student's device."""
    import torch
    from transformers import AutoModelForCausalLM

    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    teacher = AutoModelForCausalLM.from_pretrained(job.teacher, dtype=torch.bfloat16 if half else torch.float32)
    return teacher.to(device).eval().requires_grad_(False)


def divergence(student: Any, teacher: Any, temperature: float) -> Any:
    """T² KL(teacher ‖ student) of every row of logits [tokens, vocabulary]: [tokens], in nats.

    Padded vocabularies of different sizes are compared on the ids that both have.
    """
    from torch.nn.functional import kl_div, log_softmax

    known = min(student.shape[-1], teacher.shape[-1])
    own = log_softmax(student[:, :known].float() / temperature, dim=-1)
    other = log_softmax(teacher[:, :known].float() / temperature, dim=-1)
    return temperature**2 * kl_div(own, other, reduction="none", log_target=True).sum(-1)
