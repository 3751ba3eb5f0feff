"""Tool calls are compared as the Berkeley Function Calling Leaderboard compares them."""

import doctest
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmtrain.metrics import toolcall, toolparse
from slmtrain.metrics.form import Form
from slmtrain.metrics.reference import Call, Reference

ROOT = Path(__file__).parents[3]
BFCL = Path(os.environ.get("SLMFLEET_DATA") or ROOT / ".." / "shared" / "data") / "toolcall"
LEFT_OUT = object()
WEATHER = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "limit": {"type": "number"},
            "hourly": {"type": "boolean", "default": False},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {
                "type": "object",
                "properties": {"lat": {"type": "number"}, "unit": {"type": "string", "default": "deg"}},
                "required": ["lat"],
            },
        },
        "required": ["city"],
    },
    "time.now": {"type": "object", "properties": {"zone": {"type": "string"}}},
}


def call(_name="weather", **arguments):
    return json.dumps({"name": _name, "arguments": arguments})


def recorded(*calls, **more):
    return Reference("", tuple(Call(name, arguments) for name, arguments in calls), WEATHER, **more)


def test_the_worked_examples_in_the_docstrings_hold():
    assert doctest.testmod(toolcall).failed == 0
    assert doctest.testmod(toolparse).failed == 0


@pytest.mark.parametrize(
    ("answer", "arguments", "right"),
    [
        (call(city="Paris"), {"city": "Paris"}, True),
        (call(days=2, city="Paris"), {"city": "Paris", "days": 2}, True),
        (call(city="new-york, n.y."), {"city": "New York NY"}, True),
        (call(city="O'Hare"), {"city": 'o"hare'}, True),
        (call(city="Lyon"), {"city": "Paris"}, False),
        (call(city="Paris", limit=3), {"city": "Paris", "limit": 3.0}, True),
        (call(city="Paris", days=2.0), {"city": "Paris", "days": 2}, False),
        (call(city="Paris", days=2.0), {"city": "Paris", "days": 2.0}, True),
        (call(city="Paris", days="2"), {"city": "Paris", "days": 2}, False),
        (call(city="Paris", days=True), {"city": "Paris", "days": 1}, False),
        (call(city="Paris", hourly=1), {"city": "Paris", "hourly": True}, False),
        (call(city="Paris", days=1), {"city": "Paris"}, True),
        (call(city="Paris"), {"city": "Paris", "days": 1}, True),
        (call(city="Paris"), {"city": "Paris", "days": 2}, False),
        (call(city="Paris", days=2), {"city": "Paris"}, False),
        (call(city="Paris", hourly=None), {"city": "Paris"}, True),
        (call(days=1), {"city": "Paris"}, False),
        (call(city="Paris", colour="red"), {"city": "Paris"}, False),
        (call(city="Paris", tags=["A", "b c"]), {"city": "Paris", "tags": ["a", "BC"]}, True),
        (call(city="Paris", tags=["b", "a"]), {"city": "Paris", "tags": ["a", "b"]}, False),
        (call(city="Paris", tags=["a"]), {"city": "Paris", "tags": ["a", "b"]}, False),
        (call(city="x", place={"unit": "deg", "lat": 2}), {"city": "x", "place": {"lat": 2.0}}, True),
        (call(city="x", place={"lat": 2}), {"city": "x", "place": {"lat": 2, "unit": "rad"}}, False),
        (call("forecast", city="Paris"), {"city": "Paris"}, False),
        ("weather(city='Paris')", {"city": "Paris"}, True),
        ("I would look at the weather.", {"city": "Paris"}, False),
        ("", {"city": "Paris"}, False),
    ],
)
def test_one_call_row_by_row(answer, arguments, right):
    assert toolcall.score(answer, recorded(("weather", arguments))) == right


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "weather", "arguments": {"city": "Paris"}}',
        '{"name": "weather", "parameters": {"city": "Paris"}}',
        '[{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}}]',
        '{"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]}',
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        'I look it up. <tool_call>{"name": "weather", "arguments": {"city": "Paris"}}',
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}]',
        '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}',
        '```json\n{"name": "weather", "arguments": {"city": "Paris"}}\n```',
        '[{"weather": {"city": "Paris"}}]',
        'weather("Paris")',
        "[weather(city='Paris')]",
    ],
)
def test_the_forms_that_models_write_are_one_call(text):
    assert toolparse.parse_calls(text, WEATHER) == [Call("weather", {"city": "Paris"})]


@pytest.mark.parametrize(
    "text",
    ["", "weather", "weather(**given)", "weather(1, 2, 3, 4, 5, 6, 7, 8)", "weather(city=place)", "1 + 1", "[]", "{}",
     '{"intent": {"a": 1}}', '{"name": "weather", "arguments": "not json"}', "<tool_call>{broken</tool_call>",
     '<tool_call>{"name": "weather", "arguments": {}}</tool_call><tool_call>{</tool_call>', "(" * 3000,
     "weather" + "()" * 900, "weather" + ".now" * 900 + "()()", "(lambda: 0)()"],
)  # fmt: skip
def test_what_is_no_call_is_none(text):
    assert toolparse.parse_calls(text, WEATHER) is None


def test_parallel_calls_come_in_any_order_and_each_counts_once():
    two = recorded(("weather", {"city": "Paris"}), ("time.now", {"zone": "CET"}))
    paris, time = json.loads(call(city="Paris")), {"name": "time_now", "arguments": {"zone": "cet"}}
    assert toolcall.score(json.dumps([time, paris]), two) == 1
    assert toolcall.score(json.dumps([paris, paris]), two) == 0
    assert toolcall.score(json.dumps([paris]), two) == 0
    assert toolcall.score(json.dumps([paris, time, time]), two) == 0


def test_parallel_calls_are_matched_as_well_as_they_can_be():
    """The first call fits both possible ones; the second fits only the first of them."""
    either = ({"weather": {"city": ["Paris", "Lyon"]}}, {"weather": {"city": ["Paris"]}})
    answer = json.dumps([json.loads(call(city="Paris")), json.loads(call(city="Lyon"))])
    assert toolcall.score(answer, Reference("", possible=either, parameters=WEATHER)) == 1


def test_where_no_tool_was_called_right_is_to_call_none():
    said = Reference("None of these tools can do that.", parameters=WEATHER)
    assert toolcall.score("I cannot do that.", said) == 1
    assert toolcall.score(call(city="Paris"), said) == 0


def test_an_accepted_answer_is_as_right_as_the_recorded_one():
    either = recorded(("weather", {"city": "Paris"}), accepted=(call(city="Lyon"),))
    assert [toolcall.score(call(city=c), either) for c in ("Paris", "Lyon", "Nice")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (call(city="anything"), True),
        (call("unknown", city="x"), False),
        (call(days=1), False),
        (call(city=5), False),
        ("text", False),
    ],
)
def test_a_call_is_valid_where_its_tool_and_arguments_exist(answer, valid):
    assert toolcall.valid(answer, recorded(("weather", {"city": "Paris"})), Form()) is valid


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), values, max_size=4))
def test_a_call_is_equivalent_to_itself_in_every_form(arguments):
    reference = Reference("", (Call("f", arguments),))
    assert toolcall.score(json.dumps({"name": "f", "arguments": arguments}), reference) == 1
    python = "f(" + ", ".join(f"{k}={v!r}" for k, v in reversed(arguments.items())) + ")"
    if not set(arguments) & {"is", "in", "if", "or", "as", "for", "def", "del", "not", "and", "try", "from", "with",
                             "pass", "else", "elif", "True", "None"}:  # fmt: skip
        assert toolcall.score(python, reference) == 1


@given(st.text())
def test_no_text_makes_it_fall(text):
    assert toolcall.score(text, recorded(("weather", {"city": "Paris"}))) in (0, 1)


# --- the leaderboard's own possible answers ----------------------------------------------------------------------

needs_bfcl = pytest.mark.skipif(
    not BFCL.is_dir(), reason="BFCL is not in toolcall/ of SLMFLEET_DATA (or ../shared/data beside the checkout)"
)


def bfcl():
    read = [[json.loads(line) for line in (BFCL / name).read_text("utf-8").splitlines()]
            for name in ("BFCL_v4_simple_python.json", "possible_answer_simple_python.json")]  # fmt: skip
    for question, possible in zip(*read, strict=True):
        parameters = toolcall.parameters_of(question["function"])
        yield Reference("", parameters=parameters, possible=tuple(possible["ground_truth"]))


def first_of(value):
    """One answer out of a possible one, whose objects hold lists of possibilities."""
    if isinstance(value, dict):
        return {key: first_of(values[0]) for key, values in value.items() if values[0] != ""}
    return [first_of(item) for item in value] if isinstance(value, list) else value


def possible_calls(reference):
    """Every accepted value of every argument, one at a time beside the first of the others."""
    ((name, arguments),) = reference.possible[0].items()
    required = reference.parameters[name].get("required", ())
    choices = {k: [LEFT_OUT if v == "" and k not in required else v for v in vs] for k, vs in arguments.items()}
    for key, options in choices.items():
        for option in options:
            made = {**{k: vs[0] for k, vs in choices.items()}, key: option}
            yield name, {k: first_of(v) for k, v in made.items() if v is not LEFT_OUT}


@needs_bfcl
def test_every_possible_answer_of_the_leaderboard_is_right_in_every_form():
    judged = 0
    for reference in bfcl():
        for name, arguments in possible_calls(reference):
            python = ", ".join(f"{k}={v!r}" for k, v in reversed(arguments.items()))
            for text in (json.dumps({"name": name.replace(".", "_"), "arguments": arguments}), f"[{name}({python})]"):
                judged += 1
                assert toolcall.score(text, reference) == 1, (text, reference.possible)
    assert judged > 3000


def mutations(name, arguments, reference):
    """Calls that nobody accepts: another tool, an argument more, one less, one changed."""
    schema, possible = reference.parameters[name], reference.possible[0][name]
    yield f"{name}_other", arguments
    yield name, {**arguments, "no_such_argument": 1}
    for key, value in arguments.items():
        if "" not in possible[key] or key in schema.get("required", ()):
            yield name, {k: v for k, v in arguments.items() if k != key}
        if (changed := other(value)) is not None:
            yield name, {**arguments, key: changed}


def other(value):
    """A value of the same type that is no possible answer anywhere in these data."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value + 7919
    if isinstance(value, str):
        return f"{value} quux"
    return [*value, value[0] if value else "quux"] if isinstance(value, list) else {**value, "quux": 1}


@needs_bfcl
def test_every_mutated_answer_of_the_leaderboard_is_wrong():
    judged = 0
    for reference in bfcl():
        name, arguments = next(iter(possible_calls(reference)), (next(iter(reference.possible[0])), {}))
        for tool, changed in mutations(name, arguments, reference):
            judged += 1
            assert toolcall.score(json.dumps({"name": tool, "arguments": changed}), reference) == 0, (tool, changed)
    assert judged > 2000


@needs_bfcl
def test_calling_a_tool_that_does_not_fit_is_wrong():
    for line in (BFCL / "BFCL_v4_irrelevance.json").read_text("utf-8").splitlines():
        parameters = toolcall.parameters_of(json.loads(line)["function"])
        reference = Reference("No tool fits.", parameters=parameters)
        assert toolcall.score("None of the given functions can do this.", reference) == 1
        assert toolcall.score(json.dumps([{"name": name, "arguments": {}} for name in parameters]), reference) == 0
