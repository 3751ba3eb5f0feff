"""What is not over has not gone well yet: conversations under way, and those whose tool never answered."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from curation_samples import START, log_of, record
from hypothesis import given
from hypothesis import strategies as st
from test_curation_curate import clusters, lines, made

from slmfleet.curation import curate as stage
from slmfleet.curation.endings import Endings, Unfinished
from slmfleet.curation.signs import brings_an_answer

NOT_OVER = "its conversation was not over"
NO_ANSWER = "its conversation ended before a tool answered"
A = json.dumps({"intent": "a"})


def kept(done: stage.Dataset) -> set[str]:
    return {r["id"] for r in [*done.train, *done.heldout]}


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def asked(number: int, conversation: str, seconds: float, **more: Any) -> dict[str, Any]:
    return record(number, [{"role": "user", "content": f"question {chr(97 + number % 26)}{number}"}], A,
                  conversation=conversation, time=at(seconds), **more)  # fmt: skip


def talks(count: int = 20) -> list[dict[str, Any]]:
    """Conversations of two calls, a pause of 30 s in each, one every 10 minutes."""
    return [asked(2 * i + turn, f"c{i:03d}", 600 * i + 30 * turn) for i in range(count) for turn in (0, 1)]


def test_a_conversation_under_way_does_not_count_as_done_well() -> None:
    rows = [*talks(), asked(90, "new", 11_990), asked(91, "new", 12_010), asked(92, "other", 12_015)]
    done = made(rows, quiet_seconds=None)
    assert done.dropped == {NOT_OVER: 3}, "its last call is younger than the pauses of this log"
    assert not {"r00090", "r00091", "r00092"} & kept(done)


def test_the_same_conversation_is_in_the_dataset_once_the_log_goes_on() -> None:
    rows = [*talks(), asked(90, "new", 11_990), asked(91, "new", 12_010), asked(92, "later", 13_000)]
    done = made(rows, quiet_seconds=None)
    assert done.dropped == {NOT_OVER: 1} and {"r00090", "r00091"} <= kept(done)


@pytest.mark.parametrize(
    ("outcome", "dropped"), [({"success": True}, {}), ({"success": False}, {"the workflow failed": 2})]
)
def test_a_declared_outcome_ends_a_conversation(outcome: dict[str, bool], dropped: dict[str, int]) -> None:
    rows = [*talks(), asked(90, "new", 11_990), asked(91, "new", 12_010, outcome=outcome)]
    assert made(rows, quiet_seconds=None).dropped == dropped


def test_calls_of_another_task_keep_a_conversation_under_way() -> None:
    rows = [*talks(), asked(90, "new", 12_000), asked(91, "new", 14_000)]
    known = clusters(rows)
    known.assigned["r00091"] = None
    done = stage.curate(log_of(rows), known, stage.Settings("ask", min_examples=1))
    assert done.dropped == {NOT_OVER: 1} and "r00090" not in kept(done)


def test_a_call_that_names_no_conversation_is_over() -> None:
    rows = [*talks(), asked(90, "", 12_000) | {"conversation": None}]
    assert made(rows, quiet_seconds=None).dropped == {}


def test_the_time_after_which_a_conversation_is_over_can_be_named() -> None:
    rows = talks()
    assert made(rows, quiet_seconds=0).dropped == {}
    assert made(rows, quiet_seconds=600).dropped == {NOT_OVER: 2}
    assert made(rows, quiet_seconds=601).dropped == {NOT_OVER: 4}
    assert made(rows, quiet_seconds=6_000).dropped == {NOT_OVER: 20}, "as asked for, however much it takes"


def test_of_a_log_that_cannot_tell_nothing_is_left_out_and_the_card_says_so(tmp_path: Path) -> None:
    rows = [r | {"conversation": f"c{i % 7}"} for i, r in enumerate(lines())]
    log, chosen = log_of(rows), stage.Settings("ask", min_examples=1)
    done = stage.curate(log, clusters(rows), chosen)
    assert (done.dropped, done.unfinished) == ({}, 40)
    result = stage.write(done, log, chosen, tmp_path)
    assert result.unfinished == 40
    assert "| under way | 40 calls are of conversations that may not" in (tmp_path / "card.md").read_text()
    assert "| under way |" not in card_of(talks(), tmp_path / "b")


def card_of(rows: list[dict[str, Any]], out: Path) -> str:
    log, chosen = log_of(rows), stage.Settings("ask", min_examples=1)
    stage.write(stage.curate(log, clusters(rows), chosen), log, chosen, out)
    return (out / "card.md").read_text()


# --- tools -------------------------------------------------------------------------------------------------------

LOOK = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def looks(
    number: int, conversation: str, seconds: float, *, answered: bool, tool: str = "look"
) -> list[dict[str, Any]]:
    """A call that asks for a tool, and the one that brings its answer."""
    call = LOOK | {"function": {"name": tool, "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    first = asked(number, conversation, seconds)
    first["response"] = {"model": "big", "choices": [{"message": called}]}
    if not answered:
        return [first]
    found = {"role": "tool", "tool_call_id": "1", "content": f"found {number}"}
    history = [*first["request"]["messages"], called, found]
    return [first, record(number + 1, history, A, conversation=conversation, time=at(seconds + 5))]


def loops(count: int, silent: int, *, tool: str = "look", again: bool = True) -> list[dict[str, Any]]:
    """`count` loops, of which the last `silent` end in a call of the tool; long before the newest record."""
    rows = [r for i in range(count)
            for r in looks(2 * i, f"t{i}", 600 * i, answered=again and i < count - silent, tool=tool)]  # fmt: skip
    return [*rows, asked(900, "end", 600 * count + 86_400, outcome={"success": True})]


@pytest.mark.parametrize(
    ("rows", "dropped"),
    [
        (loops(20, 0), {}),
        (loops(20, 1), {NO_ANSWER: 1}),
        (loops(20, 2), {NO_ANSWER: 2}),
        (loops(20, 3), {}),  # this tool may well end a conversation
        (loops(9, 1), {}),  # too few calls to say what is usual
        (loops(20, 20, tool="submit", again=False), {}),
    ],
)
def test_a_tool_that_never_answered_speaks_against_a_conversation_where_it_usually_does(
    rows: list[dict[str, Any]], dropped: dict[str, int]
) -> None:
    assert made(rows).dropped == dropped
    assert made(rows, signs=False).dropped == {}


def test_a_tool_that_ends_conversations_says_nothing_beside_one_that_answers() -> None:
    rows = loops(20, 1)
    rows += [r for i in range(20) for r in looks(100 + i, f"s{i}", 50_000 + i, answered=False, tool="submit")]
    assert made(rows).dropped == {NO_ANSWER: 1}


@pytest.mark.parametrize(
    ("after", "brings"),
    [
        ([], False),
        ([{"role": "tool", "content": "x"}], True),
        ([{"role": "tool", "content": "x"}, {"role": "user", "content": "and now?"}], True),
        ([{"role": "tool", "content": "x"}, {"role": "assistant", "content": "done"}, {"role": "user"}], False),
        ([{"role": "function", "content": "x"}], True),
    ],
)
def test_a_call_brings_an_answer_of_a_tool_where_one_came_after_the_models_last_word(
    after: list[dict[str, Any]], brings: bool
) -> None:
    assert brings_an_answer([{"role": "user"}, {"role": "assistant", "tool_calls": [LOOK]}, *after]) == brings


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50), st.sampled_from(["", "look"]), st.booleans())),
       st.one_of(st.none(), st.floats(0, 60)))  # fmt: skip
def test_the_order_of_the_log_does_not_matter(calls: list[tuple[int, int, str, bool]], quiet: float | None) -> None:
    calls = list({(c, t): (c, t, tool, back) for c, t, tool, back in calls}.values())

    def found(listed: list[tuple[int, int, str, bool]]) -> Unfinished:
        endings = Endings()
        for conversation, time, tool, returned in listed:
            endings.add(conversation, float(time), tool, returned=returned)
        return endings.unfinished(quiet)

    one = found(calls)
    assert one == found(calls[::-1])
    assert not one.open & one.unanswered
    if quiet == 0:
        assert not one.open
