"""S4: which base model for which task. A chain of checks, each with a reason; then a score of those that pass."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import median

from slmfleet.api.basemodel import BaseModelSpec
from slmfleet.api.specialist import Base, BaseLimits, Training
from slmfleet.api.taskcluster import TaskClusterSpec, TaskClusterStatus

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "M": 10**6, "G": 10**9}
DEFAULT_MEMORY = "16Gi"
FLOAT_BYTES = 4  # of a weight in full fine-tuning
CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class Need:
    """What the task asks of a base. `tasks`: the types of published results that speak of it."""

    context_tokens: int = 0
    training: Training | None = None
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """One part of a score, in points, with what it is made of."""

    name: str
    points: float
    detail: str


@dataclass(frozen=True)
class Ranked:
    """One candidate with the reason for its place; score and terms only where it is suitable."""

    name: str
    suitable: bool
    reason: str
    score: float | None = None
    terms: tuple[Term, ...] = ()


Check = Callable[[BaseModelSpec, BaseLimits, Need], str | None]


def need_of(spec: TaskClusterSpec, status: TaskClusterStatus) -> Need:
    """What one task asks for: the 99th percentile of its prompts (the 95th where discovery measured no other), and an
    eighth more for the answer. A prompt longer than the base's context cannot be learned. Before any was measured, room
    for the system prompt that is stated."""
    measured = status.input_tokens_p99 or status.input_tokens_p95
    return declared_need(spec.output_format.type, spec.signature.tools, spec.signature.system_prompt, measured)


def declared_need(output_type: str, tools: Collection[str], system_prompt: str | None, measured: int | None) -> Need:
    """The same of a task's parts. `measured`: tokens of its longest prompts."""
    prompt = measured or len(system_prompt or "") // CHARACTERS_A_TOKEN
    return Need(context_tokens=int(prompt * 9 / 8), tasks=task_types(output_type, bool(tools)))


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as 512Mi."""
    match = re.fullmatch(r"([0-9]+)([A-Za-z]*)", text)
    if not match or match[2] not in UNITS:
        raise ValueError(f"{text!r} is no quantity of memory")
    return int(match[1]) * UNITS[match[2]]


def _licence(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    accepted = tuple(limits.licences) if limits.licences is not None else PERMISSIVE
    if base.licence in accepted:
        return None
    return (f"licence {base.licence} is not among the accepted ones ({', '.join(accepted)}); "
            "see spec.base.limits.licences")


def _memory(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    most = limits.max_memory or DEFAULT_MEMORY
    if quantity(base.memory) <= quantity(most):
        return None
    return f"needs {base.memory} of memory, at most {most} is allowed; see spec.base.limits.maxMemory"


def _pool_memory(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    given = base.pool.resources.memory
    if quantity(base.memory) <= quantity(given):
        return None
    return f"needs {base.memory} of memory, a server of its pool has {given}; see spec.pool.resources of the BaseModel"


def _outputs(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    if not limits.outputs_may_train or base.outputs_may_train == "Allowed":
        return None
    said = {"Conditional": "only on conditions", "Forbidden": "not"}.get(base.outputs_may_train or "", "not known to")
    return f"its licence lets outputs train other models: {said}; see spec.base.limits.outputsMayTrain"


def _parameters(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    if limits.max_parameters is None or base.parameters <= limits.max_parameters:
        return None
    return f"has {base.parameters:,} parameters, at most {limits.max_parameters:,} are allowed"


def _context(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    least = max(limits.min_context_tokens or 0, need.context_tokens)
    if base.context_tokens >= least:
        return None
    return f"context of {base.context_tokens:,} tokens, the task needs {least:,}"


def _capabilities(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    stated = [each.name for each in base.capabilities]
    missing = [name for name in limits.capabilities if name not in stated]
    if not missing:
        return None
    return (f"states no {', no '.join(missing)} (it states: {', '.join(stated) or 'nothing'}); "
            "see spec.base.limits.capabilities")


def _rank(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    if need.training is None or base.pool.max_rank >= need.training.rank:
        return None
    return f"its pool takes adapters up to rank {base.pool.max_rank}, spec.training.rank is {need.training.rank}"


def _training_memory(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    """Only of Full, whose weights alone say that it cannot be. The job knows the layers and says more."""
    training = need.training
    if training is None or training.method != "Full" or training.resources.gpus:
        return None
    least, given = FLOAT_BYTES * base.parameters * training.workers, training.resources.memory
    if least <= quantity(given):
        return None
    return (f"full fine-tuning of its {base.parameters:,} parameters by {training.workers} workers needs more than "
            f"{least / 2**30:,.1f}Gi of memory, spec.training.resources.memory is {given}; raise it, lower "
            "spec.training.workers, or use another spec.training.method")


CHECKS: tuple[Check, ...] = (_licence, _outputs, _memory, _pool_memory, _parameters, _context, _capabilities, _rank,
                            _training_memory)


def judge(name: str, base: BaseModelSpec, limits: BaseLimits, need: Need) -> Ranked:
    """The first check that fails says why not."""
    for check in CHECKS:
        reason = check(base, limits, need)
        if reason is not None:
            return Ranked(name, False, reason)
    facts = f"{base.parameters:,} parameters, {base.memory}, {base.licence}, context {base.context_tokens:,}"
    for speed in base.speeds[:2]:
        facts += f", {speed.tokens_per_second:g} tokens a second ({speed.conditions})"
    return Ranked(name, True, facts)


def rank(bases: Mapping[str, BaseModelSpec], limits: BaseLimits, need: Need) -> list[Ranked]:
    """Suitable ones first, by score; then the better measured, the smaller, and by name."""
    judged = [judge(name, spec, limits, need) for name, spec in bases.items()]
    rivals = {found.name: bases[found.name] for found in judged if found.suitable}
    ranked = [scored(found, rivals, need) if found.suitable else found for found in judged]

    def order(found: Ranked) -> tuple[bool, float, int, int, str]:
        spec = bases[found.name]
        return (not found.suitable, -(found.score or 0.0), -len(spec.scores), spec.parameters, found.name)

    return sorted(ranked, key=order)


# --- the score ---------------------------------------------------------------------------------------------------

POINTS_PER_DOUBLING = 2.0
OTHER_TASKS = 0.25
_TASKS = {"json": ("extraction",), "label": ("classification",), "text": ("summarisation",)}


def task_types(output_type: str, tools: bool) -> tuple[str, ...]:
    """Which published results speak of a task with answers of this form."""
    return (*(("tool-calling",) if tools else _TASKS.get(output_type, ())), "instruction-following")


def scored(found: Ranked, rivals: Mapping[str, BaseModelSpec], need: Need) -> Ranked:
    """With its score in points: published quality against the rivals, less what its size costs.

    Quality: mean over its results of the distance from the median of the same benchmark, where another has it too. A
    result for another type of task weighs a quarter. No result to compare is 0: as good as the median. Size: each
    doubling of the parameters must be worth two points, for fine-tuning closes much of the gap between small models.
    """
    base = rivals[found.name]
    terms = (_quality(base, rivals, need), _size(base))
    score = round(sum(term.points for term in terms), 2)
    told = ", ".join(f"{term.name} {term.points:+.1f} ({term.detail})" for term in terms)
    return Ranked(found.name, True, f"{found.reason}; score {score:.1f}: {told}", score, terms)


def _quality(base: BaseModelSpec, rivals: Mapping[str, BaseModelSpec], need: Need) -> Term:
    published: dict[str, list[float]] = {}
    for rival in rivals.values():
        for score in rival.scores:
            published.setdefault(score.benchmark, []).append(score.value)
    compared = [(score, median(published[score.benchmark]), 1.0 if not need.tasks or score.task in need.tasks
                 else OTHER_TASKS) for score in base.scores if len(published[score.benchmark]) > 1]
    if not compared:
        alone = ", ".join(f"{score.benchmark} {score.value:g}" for score in base.scores[:3])
        return Term("quality", 0.0, f"nothing to compare {alone} with" if alone else "no published result")
    points = sum(weight * (score.value - middle) for score, middle, weight in compared)
    detail = "; ".join(f"{score.benchmark} {score.value:g}, median {middle:g}" for score, middle, _ in compared[:4])
    return Term("quality", round(points / sum(weight for _, _, weight in compared), 2), detail)


def _size(base: BaseModelSpec) -> Term:
    points = -POINTS_PER_DOUBLING * math.log2(base.parameters / 1e9)
    return Term("size", round(points, 2), f"{base.parameters / 1e9:.3g} billion")


def choose(wish: Base, bases: Mapping[str, BaseModelSpec], need: Need) -> Ranked:
    """The base to use, or the reason why none can be."""
    if wish.name is not None:
        if wish.name not in bases:
            return Ranked(wish.name, False, f"there is no BaseModel {wish.name}; create it or correct spec.base.name")
        return judge(wish.name, bases[wish.name], wish.limits, need)
    ranked = rank(bases, wish.limits, need)
    if not ranked:
        return Ranked("", False, "there is no BaseModel in this namespace; install the catalogue or create one")
    if ranked[0].suitable:
        return ranked[0]
    why = "; ".join(f"{found.name}: {found.reason}" for found in ranked[:3])
    return Ranked("", False, f"no BaseModel fits: {why}")
