"""Exact tool calls by syntax tree, with the equivalences of the Berkeley Function Calling Leaderboard (BFCL).

A call is right when its tool is the recorded one and every argument is equivalent: order of arguments does not matter;
an integer stands for a float of the same value, not the reverse, and true is no 1; texts are compared without case,
spaces and the characters , . / - _ * ^, with both quotes alike; lists keep their order, objects do not; tuples are
lists; an optional argument may be left out, or given as its schema's default, where the recorded call does the one or
the other. Calls in parallel are matched in any order. Where no tool was called, right is to call none.

Source: S. Patil et al., "The Berkeley Function Calling Leaderboard", ICML 2025 (`ast_checker`); read, not copied. Ours
differs in two points: parallel calls are matched optimally, not first come first served, and a value of another type
than the schema's counts when the recorded call had that very type.

Hazard: the leaderboard's text equivalence makes "1.5" and "15" one text. Numbers in number fields are not touched by
it; where figures travel as text, look at `exact` as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Call, Reference, as_json
from slmtrain.metrics.toolparse import parse_calls

_IGNORED = re.compile(r"[ ,./\-_*^]")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "float": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "tuple": (list,),
    "object": (dict,),
    "dict": (dict,),
}
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Accepted:
    """Values that are right for one argument; `optional`: so is leaving it out."""

    values: tuple[Any, ...]
    optional: bool


@dataclass(frozen=True)
class Expected:
    """One call as it may be made."""

    name: str
    arguments: Mapping[str, Accepted]
    schema: Schema


def score(answer: str, reference: Reference) -> float:
    """1 for the recorded calls or an equivalent, else 0.

    >>> score('f(b="New York", a=1)', Reference("", (Call("f", {"a": 1, "b": "new-york"}),)))
    1.0
    """
    got = parse_calls(answer, reference.parameters)
    if not reference.wants_calls:
        return float(not got)
    return float(any(matches(got or [], wanted) for wanted in _alternatives(reference)))


def valid(answer: str, reference: Reference, form: Form) -> bool:
    """Whether calls can be read from the answer, each of an offered tool with arguments that its schema has."""
    got = parse_calls(answer, reference.parameters)
    if got is None:
        return bool(answer.strip()) and not reference.wants_calls
    return all(_fits(call, reference.parameters) for call in got)


def matches(got: Sequence[Call], wanted: Sequence[Expected]) -> bool:
    """Whether every call has a partner of its own among those wanted (maximum bipartite matching)."""
    if len(got) != len(wanted):
        return False
    partner: dict[int, int] = {}

    def place(call: int, tried: set[int]) -> bool:
        for other, expected in enumerate(wanted):
            if other in tried or not call_matches(got[call], expected):
                continue
            tried.add(other)
            if other not in partner or place(partner[other], tried):
                partner[other] = call
                return True
        return False

    return all(place(call, set()) for call in range(len(got)))


def call_matches(got: Call, wanted: Expected) -> bool:
    """One call against one."""
    if _tool(got.name) != _tool(wanted.name):
        return False
    return _arguments_match(got.arguments, wanted.arguments, wanted.schema)


def _arguments_match(got: Mapping[str, Any], wanted: Mapping[str, Accepted], schema: Schema) -> bool:
    properties = schema.get("properties") or {}
    for name, value in got.items():
        if name in wanted:
            if not any(_same(value, one, properties.get(name)) for one in wanted[name].values):
                return False
        elif not _is_default(name, value, schema):
            return False
    return all(name in got or accepted.optional for name, accepted in wanted.items())


def _same(got: Any, want: Any, schema: Any) -> bool:
    schema = schema if isinstance(schema, dict) else {}
    got, want = _listed(got), _listed(want)
    if not _typed(got, schema.get("type")) and type(got) is not type(want):
        return False
    if isinstance(want, Expected):
        return isinstance(got, dict) and _arguments_match(got, want.arguments, want.schema)
    if isinstance(got, str) and isinstance(want, str):
        return plain(got) == plain(want)
    if isinstance(got, list) and isinstance(want, list):
        items = schema.get("items")
        return len(got) == len(want) and all(_same(a, b, items) for a, b in zip(got, want, strict=True))
    if isinstance(got, dict) and isinstance(want, dict):
        return _same(got, _expected("", want, schema), schema)
    return bool(got == want) and isinstance(got, bool) is isinstance(want, bool)


def plain(text: str) -> str:
    """A text as BFCL compares it.

    >>> plain("New-York, N.Y.") == plain("new york ny")
    True
    """
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _typed(value: Any, kind: Any) -> bool:
    """Whether a value has a schema's type; an unknown or missing type, or `any`, judges nobody."""
    kinds = [_TYPES[k] for k in (kind if isinstance(kind, list) else [kind]) if isinstance(k, str) and k in _TYPES]
    if not kinds:
        return True
    return any(isinstance(value, k) and (bool in k or not isinstance(value, bool)) for k in kinds)


def _tool(name: str) -> str:
    """OpenAI's names have no dots, so clients write an underscore."""
    return name.replace(".", "_")


def _is_default(name: str, value: Any, schema: Schema) -> bool:
    """Whether an argument that the recorded call lacks says what its absence says."""
    known = (schema.get("properties") or {}).get(name)
    if not isinstance(known, dict) or name in (schema.get("required") or ()):
        return False
    return value is None or ("default" in known and _same(value, known["default"], known))


# --- what is expected --------------------------------------------------------------------------------------------


def _alternatives(reference: Reference) -> list[list[Expected]]:
    """Every set of calls that is right."""
    sets = [expected_of_calls(reference.calls, reference.parameters)] if reference.calls else []
    if reference.possible:
        sets.append(expected_of_possible(reference.possible, reference.parameters))
    for text in reference.accepted:
        calls = parse_calls(text, reference.parameters)
        if calls:
            sets.append(expected_of_calls(calls, reference.parameters))
    return sets


def expected_of_calls(calls: Sequence[Call], parameters: Mapping[str, Schema] | None) -> list[Expected]:
    """A recorded call: its own values, and what its schema says is the same."""
    return [_expected(call.name, call.arguments, _schema_of(call.name, parameters)) for call in calls]


def _expected(name: str, arguments: Mapping[str, Any], schema: Schema) -> Expected:
    wanted = {key: Accepted((value,), optional=_is_default(key, value, schema)) for key, value in arguments.items()}
    return Expected(name, wanted, schema)


def expected_of_possible(
    possible: Sequence[Mapping[str, Mapping[str, Any]]], parameters: Mapping[str, Schema] | None
) -> list[Expected]:
    """BFCL's possible answers: a list of right values by argument, in which "" says that it may be left out."""
    found = []
    for item in possible:
        for name, arguments in item.items():
            schema = _schema_of(name, parameters)
            found.append(Expected(name, _accepted(arguments, schema), schema))
    return found


def _accepted(arguments: Mapping[str, Any], schema: Schema) -> dict[str, Accepted]:
    properties = schema.get("properties") or {}
    wanted = {}
    for name, values in arguments.items():
        listed = values if isinstance(values, list) else [values]
        known = properties.get(name) or {}
        required = name in (schema.get("required") or ())
        wanted[name] = Accepted(tuple(_possible_value(v, known) for v in listed), "" in listed and not required)
    return wanted


def _possible_value(value: Any, schema: Any) -> Any:
    """An object of lists is an object of possible answers again, also inside a list."""
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
        return Expected("", _accepted(value, schema), schema)
    if isinstance(value, list):
        return [_possible_value(item, schema.get("items")) for item in value]
    return value


def _schema_of(name: str, parameters: Mapping[str, Schema] | None) -> Schema:
    for known, schema in (parameters or {}).items():
        if _tool(known) == _tool(name):
            return schema
    return {}


def _fits(call: Call, parameters: Mapping[str, Schema] | None) -> bool:
    if not parameters:
        return True
    if _tool(call.name) not in {_tool(name) for name in parameters}:
        return False
    schema = _schema_of(call.name, parameters)
    properties = schema.get("properties") or {}
    if any(name not in call.arguments for name in schema.get("required") or ()):
        return False
    return all(
        _typed(_listed(value), (properties.get(name) or {}).get("type"))
        for name, value in call.arguments.items()
        if name in properties
    )


def parameters_of(tools: Any) -> dict[str, Schema]:
    """Tool name to the schema of its arguments, of OpenAI's `tools` or BFCL's `function`. Others are left out."""
    found: dict[str, Schema] = {}
    for tool in tools if isinstance(tools, list) else []:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            given = function.get("parameters")
            given = as_json(given) if isinstance(given, str) else given
            found[function["name"]] = given if isinstance(given, dict) else {}
    return found
