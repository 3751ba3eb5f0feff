"""Whose call it is by a declared signature; the log and the gateway ask the same rule."""

from __future__ import annotations

from typing import Any

import pytest

from slmfleet.curation.calls import call_of
from slmfleet.curation.declared import undiscovered
from slmfleet.curation.examine import Task
from slmfleet.gateway.decide import decide
from slmfleet.gateway.table import compile_table
from slmfleet.recognise.frame import frame_fingerprint
from slmfleet.recognise.signature import Signatures
from slmfleet.wire.declared import DeclaredTask
from slmfleet.wire.records import UsageRecord
from slmfleet.wire.routes import (
    Declared,
    OutputFormat,
    Pool,
    Revision,
    RouteTable,
    Signature,
    SpecialistRoute,
    Upstream,
)

TICKETS = "You sort tickets of 12 May for Acme.\nAnswer A, B or C."
TOOLS = ("book_flight", "cancel_flight")


def request(system: str | None = TICKETS, tools: tuple[str, ...] = (), form: Any = None) -> dict[str, Any]:
    said = [{"role": "system", "content": system}] if system is not None else []
    body: dict[str, Any] = {"model": "big", "messages": [*said, {"role": "user", "content": "My card is gone"}]}
    if tools:
        body["tools"] = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in tools]
    return body | ({"response_format": form} if form else {})


SCHEMA = {"type": "json_schema", "json_schema": {"name": "intent", "schema": {}}}
ROWS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("the prompt as written", {"system_prompt": TICKETS}, request(), True),
    ("another layout and case", {"system_prompt": TICKETS.upper().replace("\n", "\n\n  ") + "\n"}, request(), True),
    ("another date", {"system_prompt": TICKETS}, request(TICKETS.replace("12 May", "3 June")), True),
    ("another word", {"system_prompt": TICKETS}, request(TICKETS.replace("tickets", "letters")), False),
    ("more after it", {"system_prompt": TICKETS}, request(TICKETS + " Be brief."), False),
    ("no prompt at all", {"system_prompt": TICKETS}, request(None), False),
    ("a prompt does not ask for tools", {"system_prompt": TICKETS}, request(tools=TOOLS), True),
    ("a variable", {"system_prompt": "For {customer}. Be kind."}, request("For Maria Sanchez of Rome. Be kind."), True),
    ("a variable of digits", {"system_prompt": "Order v-{order_id} is late."}, request("Order v-12/3 is late."), True),
    ("a variable in quotes", {"system_prompt": 'Ask "{{ name }}" first.'}, request('Ask "Ann O." first.'), True),
    ("two variables", {"system_prompt": "{a} then {b} end"}, request("one two then three end"), True),
    ("two variables, other order", {"system_prompt": "x {a} y {b} z"}, request("x 1 z 2 y"), False),
    ("pieces must not share text", {"system_prompt": "go on {a} on it"}, request("go on it"), False),
    ("JSON in a prompt is no variable", {"system_prompt": 'Say {"a": 1}.'}, request('Say {"b": 1}.'), True),
    ("the tool among others", {"tools": ["book_flight"]}, request(tools=TOOLS), True),
    ("one of two tools", {"tools": ["book_flight", "pay"]}, request(tools=TOOLS), False),
    ("the format's type", {"response_format": "json_schema"}, request(form=SCHEMA), True),
    ("the format's name", {"response_format": "json_schema:intent"}, request(form=SCHEMA), True),
    ("another name", {"response_format": "json_schema:slots"}, request(form=SCHEMA), False),
    ("all must hold", {"system_prompt": TICKETS, "tools": ["pay"]}, request(), False),
    ("its frame", {"fingerprints": [frame_fingerprint(request())]}, request(), True),
    ("fingerprints alone decide", {"fingerprints": ["sha256:0"], "system_prompt": TICKETS}, request(), False),
    ("nothing takes nothing", {}, request(), False),
    ("a prompt of variables alone takes nothing", {"system_prompt": "{a} {b}!"}, request(), False),
    ("empty texts take nothing", {"tools": [""], "fingerprints": [""], "system_prompt": " "}, request(), False),
]


@pytest.mark.parametrize("given, body, taken", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_call_is_taken_alike_in_the_log_and_in_the_gateway(
    given: dict[str, Any], body: dict[str, Any], taken: bool
) -> None:
    signature = Signature(**given)
    task = DeclaredTask(name="mine", signature=signature)
    declared = Signatures([("mine", signature)])
    call = call_of(UsageRecord.model_validate({"id": "1", "time": "2026-03-02T08:00:00Z", "request": body}))
    assert Task(undiscovered(task), {}, None, declared=declared).owns(call) is taken
    assert (declared.owner_of(body) == "mine") is taken
    chosen = decide(compile_table(table_of("mine", signature), {}, None, None), body, None)
    assert (chosen.rule, chosen.detail) == (("unserved", "mine") if taken else ("abstain", None))


def table_of(cluster: str, signature: Signature) -> RouteTable:
    """A table with one declared task that nobody serves, and a specialist that calls tools, so such calls count."""
    other = SpecialistRoute(name="other", cluster="other", output=OutputFormat(type="tool"),
                            stable=Revision(name="a", adapter="a", pool="p"))  # fmt: skip
    return RouteTable(
        router="demo/agents", llm=Upstream(url="http://llm/v1"), pools=[Pool(name="p", chat_template="x")],
        specialists=[other], declared=[Declared(cluster=cluster, signature=signature)])  # fmt: skip


RANKS: list[tuple[str, dict[str, dict[str, Any]], str]] = [
    ("a frame before a prompt", {"a": {"system_prompt": TICKETS},
                                 "b": {"fingerprints": [frame_fingerprint(request(tools=TOOLS, form=SCHEMA))]}}, "b"),
    ("a prompt before tools", {"a": {"tools": [*TOOLS]}, "b": {"system_prompt": TICKETS}}, "b"),
    ("a prompt before one with variables", {"a": {"system_prompt": "You sort {x} C."},
                                            "b": {"system_prompt": TICKETS}}, "b"),
    ("the longer of two with variables", {"a": {"system_prompt": "You {x} C."},
                                          "b": {"system_prompt": "You sort {x} or C."}}, "b"),
    ("more tools", {"a": {"tools": ["book_flight"]}, "b": {"tools": [*TOOLS]}}, "b"),
    ("tools before a format", {"a": {"response_format": "json_schema"}, "b": {"tools": ["book_flight"]}}, "b"),
    ("the first by name", {"b": {"system_prompt": TICKETS}, "a": {"system_prompt": TICKETS}}, "a"),
]  # fmt: skip


@pytest.mark.parametrize("tasks, owner", [row[1:] for row in RANKS], ids=[row[0] for row in RANKS])
def test_of_two_that_take_a_call_the_one_that_asks_for_more_has_it(
    tasks: dict[str, dict[str, Any]], owner: str
) -> None:
    declared = Signatures((name, Signature(**given)) for name, given in tasks.items())
    assert declared.owner_of(request(tools=TOOLS, form=SCHEMA)) == owner


def test_a_long_word_costs_no_more_than_its_length() -> None:
    """Where a variable could begin is looked for once a word."""
    assert Signature(system_prompt="a-" * 10_000 + " {x}").given == ("systemPrompt",)
