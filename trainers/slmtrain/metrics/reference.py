"""What an answer is held against: the recorded answer, the tools on offer, other answers that are right too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """The recorded answer of one held-out call.

    `calls`: the tool calls in it. `parameters`: tool name to the JSON schema of its arguments. `accepted`: answers that
    are as right, each as text; `possible`: accepted tool calls in BFCL's form, `[{"tool": {"argument": [values]}}]`.
    """

    text: str
    calls: tuple[Call, ...] = ()
    parameters: Mapping[str, Mapping[str, Any]] | None = None
    accepted: tuple[str, ...] = ()
    possible: tuple[Mapping[str, Mapping[str, Any]], ...] = ()

    @property
    def wants_calls(self) -> bool:
        return bool(self.calls or self.possible)


def as_json(text: str) -> Any:
    """The value of strict JSON, or None (NaN and infinities are no JSON)."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def same_scalar(got: Any, want: Any) -> bool:
    """Equal as JSON values: 1 is 1.0 and is not true."""
    return bool(got == want) and isinstance(got, bool) is isinstance(want, bool)
