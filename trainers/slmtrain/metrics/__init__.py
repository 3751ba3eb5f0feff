"""Metrics by task: how right one answer is against the recorded one, from 0 to 1. Pure, no torch, no files.

| metric | of | right is |
|---|---|---|
| `tool_call` | tool calls | the same calls, by syntax tree (`toolcall`) |
| `label` | labels | the same label; its mean is accuracy |
| `macro_f1` | labels | over all calls: the mean of each label's F1 |
| `fields` | JSON | F1 of the fields |
| `code` | code | the same syntax tree |
| `text` | free text | chrF |
| `rouge_l` | free text | ROUGE-L |
| `exact` | anything | the same characters |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

from slmtrain.metrics import code, fields, label, text, toolcall
from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Reference, as_json

Score = Callable[[str, Reference], float]
Valid = Callable[[str, Reference, Form], bool]


def exact(answer: str, reference: Reference) -> float:
    """1 for the recorded characters, or those of an accepted answer."""
    return float(answer in (reference.text, *reference.accepted))


def valid_label(answer: str, reference: Reference, form: Form) -> bool:
    """One of the task's labels, in its form."""
    return form.holds_label(answer, reference.text)


SCORES: Mapping[str, Score] = MappingProxyType(
    {
        "tool_call": toolcall.score,
        "label": label.score,
        "macro_f1": label.score,  # by call; over all calls `label.macro_f1` puts them together
        "fields": fields.score,
        "code": code.score,
        "text": text.score,
        "rouge_l": text.rouge,
        "exact": exact,
    }
)
_VALID: Mapping[str, Valid] = MappingProxyType(
    {
        "tool_call": toolcall.valid,
        "label": valid_label,
        "macro_f1": valid_label,
        "fields": fields.valid,
        "code": code.valid,
    }
)
SHOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tool_call": ("exact",),
        "label": ("macro_f1", "exact"),
        "macro_f1": ("label", "exact"),
        "fields": ("exact",),
        "code": ("text", "exact"),
        "text": ("rouge_l", "exact"),
        "rouge_l": ("text", "exact"),
        "exact": ("text",),
    }
)
METRICS = tuple(SCORES)


def choose(references: Sequence[Reference]) -> str:
    """The metric of a dataset, from the form of its recorded answers.

    Tool calls where at least one answer in ten has some; JSON by fields, a one-key object with few values as a label;
    few short texts as labels; code where it parses; else free text.
    """
    texts = [reference.text for reference in references]
    if references and sum(r.wants_calls for r in references) >= 0.1 * len(references):
        return "tool_call"
    values = [as_json(item) for item in texts]
    if values and all(isinstance(value, dict) for value in values):
        return "fields" if fmean(len(value) for value in values) > 1 else "label"
    if values and all(isinstance(value, list) for value in values):
        return "fields"
    if label.looks_like_labels(texts):
        return "label"
    return "code" if code.looks_like_code(texts) else "text"


def well_formed(metric: str, answer: str, reference: Reference, form: Form) -> bool:
    """Whether an answer has the form that its task asks for, right or wrong."""
    check = _VALID.get(metric)
    if check is None:
        check = fields.valid if isinstance(as_json(reference.text), dict) else text.valid
    return check(answer, reference, form)
