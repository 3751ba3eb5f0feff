"""S4: which base model for which task. A chain of checks, each with a reason; then the smallest that fits first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slmfleet.api.basemodel import BaseModelSpec
from slmfleet.api.specialist import Base, BaseLimits

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "M": 10**6, "G": 10**9}
DEFAULT_MEMORY = "16Gi"


@dataclass(frozen=True)
class Need:
    """What the task asks of a base."""

    context_tokens: int = 0
    rank: int = 0


@dataclass(frozen=True)
class Ranked:
    """One candidate with the reason for its place."""

    name: str
    suitable: bool
    reason: str


Check = Callable[[BaseModelSpec, BaseLimits, Need], str | None]


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


def _parameters(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    if limits.max_parameters is None or base.parameters <= limits.max_parameters:
        return None
    return f"has {base.parameters:,} parameters, at most {limits.max_parameters:,} are allowed"


def _context(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    least = max(limits.min_context_tokens or 0, need.context_tokens)
    if base.context_tokens >= least:
        return None
    return f"context of {base.context_tokens:,} tokens, the task needs {least:,}"


def _rank(base: BaseModelSpec, limits: BaseLimits, need: Need) -> str | None:
    if base.pool.max_rank >= need.rank:
        return None
    return f"its pool takes adapters up to rank {base.pool.max_rank}, spec.training.rank is {need.rank}"


CHECKS: tuple[Check, ...] = (_licence, _memory, _parameters, _context, _rank)


def judge(name: str, base: BaseModelSpec, limits: BaseLimits, need: Need) -> Ranked:
    """The first check that fails says why not."""
    for check in CHECKS:
        reason = check(base, limits, need)
        if reason is not None:
            return Ranked(name, False, reason)
    scores = ", ".join(f"{score.benchmark} {score.value:g}" for score in base.scores[:3])
    facts = f"{base.parameters:,} parameters, {base.memory}, {base.licence}, context {base.context_tokens:,}"
    return Ranked(name, True, f"{facts}; {scores}" if scores else facts)


def rank(bases: Mapping[str, BaseModelSpec], limits: BaseLimits, need: Need) -> list[Ranked]:
    """Suitable ones first: by mean published score, then by size (a specialist needs no more than suffices)."""
    def order(found: Ranked) -> tuple[bool, float, int, str]:
        spec = bases[found.name]
        mean = sum(score.value for score in spec.scores) / len(spec.scores) if spec.scores else 0.0
        return (not found.suitable, -mean, spec.parameters, found.name)

    return sorted((judge(name, spec, limits, need) for name, spec in bases.items()), key=order)


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
