"""Conditions as values: build the wanted list from the old one, never mutate.

A reconcile states each part as one condition (`true`, `false`, `unknown`), `summary` adds what people and tools wait
for, and `merge` keeps the transition times. Reconciling and Stalled follow kstatus, and Suspended does as they do:
present only while true. Pure: the clock comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from slmfleet.api.base import Condition, ConditionStatus

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
SUSPENDED = "Suspended"
_ABNORMAL = frozenset({RECONCILING, STALLED, SUSPENDED})
_MESSAGE_LIMIT = 4096


def true(type: str, reason: str, message: str = "") -> Condition:
    return _condition(type, "True", reason, message)


def false(type: str, reason: str, message: str = "") -> Condition:
    return _condition(type, "False", reason, message)


def unknown(type: str, reason: str, message: str = "") -> Condition:
    return _condition(type, "Unknown", reason, message)


def reconciling(reason: str, message: str = "") -> Condition:
    """Work is under way: the object is not yet what its spec asks for, and waiting helps."""
    return true(RECONCILING, reason, message)


def stalled(reason: str, message: str = "") -> Condition:
    """Nothing will change until somebody acts: a spec that cannot be met, a gate that refused."""
    return true(STALLED, reason, message)


def ready(parts: Iterable[Condition]) -> Condition:
    """Ready is False if a part is False, Unknown if a part is Unknown, and True when all are True.

    The first such part gives reason and message, so the order of the parts is the order in which they matter.
    """
    own = [part for part in parts if part.type not in _ABNORMAL and part.type != READY]
    for worst in ("False", "Unknown"):
        for part in own:
            if part.status == worst:
                return _condition(READY, worst, part.reason, f"{part.type}: {part.message}".removesuffix(": "))
    return true(READY, "AllReady", own[-1].message if own else "")


def suspended(message: str) -> Condition:
    """Its user asked for nothing to be done. Neither waiting helps nor is anything wrong."""
    return true(SUSPENDED, "SpecSuspend", message)


def summary(parts: Sequence[Condition], *, stopped: Condition | None = None,
            held: Condition | None = None) -> list[Condition]:
    """Ready, the parts, and what kstatus reads: Stalled where `stopped` is given, else Reconciling while not Ready.
    `held`: that it is suspended, in the place of both."""
    whole = ready(parts)
    if held is not None:
        return [whole, *parts, held]
    if stopped is not None:
        return [whole, *parts, stalled(stopped.reason, stopped.message)]
    if whole.status == "True":
        return [whole, *parts]
    return [whole, *parts, reconciling(whole.reason, whole.message)]


def merge(old: Iterable[Condition], new: Iterable[Condition], *, generation: int, now: datetime) -> list[Condition]:
    """The new conditions, each keeping its old transition time unless its status changed. Ready first, then by name.

    `now` is rounded down to the second, as the API stores it, so that merging again changes nothing.
    """
    before = {condition.type: condition for condition in old}
    moment = now.astimezone(UTC).replace(microsecond=0)
    merged = [_carried(before.get(condition.type), condition, generation, moment) for condition in new]
    return sorted(merged, key=lambda condition: (condition.type != READY, condition.type))


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type), None)


def is_true(conditions: Iterable[Condition], type: str) -> bool:
    condition = find(conditions, type)
    return condition is not None and condition.status == "True"


def _condition(type: str, status: ConditionStatus, reason: str, message: str) -> Condition:
    return Condition(type=type, status=status, reason=reason, message=shortened(message))


def shortened(message: str) -> str:
    """As much of a text as a status takes: the API server refuses a whole status for one that is longer."""
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"


def _carried(was: Condition | None, now: Condition, generation: int, moment: datetime) -> Condition:
    since = was.last_transition_time if was is not None and was.status == now.status else None
    return now.model_copy(update={"observed_generation": generation, "last_transition_time": since or moment})
