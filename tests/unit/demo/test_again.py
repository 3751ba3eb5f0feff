"""The two weeks of `make demo-again`: what is new in the second, and what nothing may learn from."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from demo import again, weeks
from demo.keys import normal
from demo.traffic import Call, Traffic


@pytest.fixture(scope="module")
def made() -> Traffic:
    return weeks.build(seed=7)


def of(made: Traffic, part: weeks.Part) -> list[Call]:
    return [call for call in made.calls if (call.phase, call.round) == part]


def intents(made: Traffic, part: weeks.Part) -> set[str]:
    ids = {call.id for call in of(made, part) if call.task == "snips"}
    return {row["true"] for row in made.truth if row["id"] in ids}


def said(calls: list[Call]) -> set[str]:
    return {normal(call.request["messages"][-1]["content"]) for call in calls if call.task in ("snips", "banking")}


def test_two_intents_and_a_task_are_new_in_week_2(made: Traffic) -> None:
    assert intents(made, weeks.WEEK2) - intents(made, weeks.WEEK1) == set(weeks.NEW_INTENTS)
    assert "banking" not in Counter(call.task for call in of(made, weeks.WEEK1))
    assert Counter(call.task for call in of(made, weeks.WEEK2))["banking"] == 4000


def test_the_prompt_of_the_drifted_task_stays_the_same(made: Traffic) -> None:
    prompts = {call.request["messages"][0]["content"] for call in made.calls if call.task == "snips"}
    assert len(prompts) == 1


def test_the_rollouts_and_the_last_calls_were_never_sent_before(made: Traffic) -> None:
    seen: set[str] = set()
    for part in (weeks.WEEK1, weeks.WEEK2, weeks.ROLLOUT1, weeks.ROLLOUT2, weeks.LAST):
        now = said(of(made, part))
        assert now.isdisjoint(seen)
        seen |= now


def test_the_base_learns_from_neither(made: Traffic) -> None:
    held = said([call for call in made.calls if call.phase == "later"])
    learned = {normal(message["content"]) for row in made.pretrain for message in row["messages"]}
    assert held.isdisjoint(learned)


def test_what_the_gates_judge_on_is_not_in_the_text_of_the_base(made: Traffic) -> None:
    """At most a tenth of a task's calls with the LLM, the latest: of the voice task all are of week 2's latter half."""
    learned = {normal(message["content"]) for row in made.pretrain for message in row["messages"]}
    for task, share in (("snips", 0.5), ("banking", 0.1)):
        calls = [call for call in of(made, weeks.WEEK2) if call.task == task]
        by_end = sorted({c.conversation: c.at_seconds for c in calls}.items(), key=lambda item: item[1])
        kept = {conversation for conversation, _ in by_end[int((1 - share) * len(by_end)) :]}
        held = said([call for call in calls if call.conversation in kept])
        assert len(held) > 100
        assert held.isdisjoint(learned)


def row(task: str, id: str, tier: str, agrees: bool, error: str | None = None) -> dict[str, Any]:
    return {"task": task, "id": id, "tier": tier, "equals_recorded": agrees, "error": error}


def test_the_table_tells_new_intents_from_known_ones_and_counts_errors() -> None:
    rows = [row("snips", "a", "specialist", True), row("snips", "b", "specialist", False),
            row("snips", "c", "llm", True), row("banking", "d", "specialist", True, "502"),
            row("metagpt", "e", "llm", True)]
    lines = again.table(rows, {"a": "GetWeather", "b": "SearchCreativeWork", "c": "SearchScreeningEvent"})
    assert lines[1].split()[3:7] == ["1", "1", "100.0", "%"]
    assert lines[2].split()[3:7] == ["2", "1", "0.0", "%"]
    assert lines[3].split()[-1] == "1"
    assert lines[4].split()[1:3] == ["1", "0"]
