from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.api.base import Condition
from slmfleet.api.conditions import (
    false,
    find,
    is_true,
    merge,
    ready,
    reconciling,
    stalled,
    summary,
    suspended,
    true,
    unknown,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(hours=1)

statuses = st.sampled_from([true, false, unknown])
parts = st.lists(
    st.builds(lambda make, n: make(f"Part{n}", "Because"), statuses, st.integers(0, 99)),
    max_size=6,
    unique_by=lambda part: part.type,
)


@pytest.mark.parametrize(
    "given_parts, want, reason",
    [
        ([], "True", "AllReady"),
        ([true("Trained", "Stored")], "True", "AllReady"),
        ([unknown("Trained", "Running"), true("Placed", "Answered")], "Unknown", "Running"),
        ([unknown("Trained", "Running"), false("Placed", "PoolDown")], "False", "PoolDown"),
        ([false("Trained", "JobFailed"), false("Placed", "PoolDown")], "False", "JobFailed"),
        ([true("Trained", "Stored"), reconciling("Waiting")], "True", "AllReady"),
        ([true("Trained", "Stored"), stalled("Refused")], "True", "AllReady"),
    ],
)
def test_ready_takes_the_first_of_the_worst_parts(given_parts: list[Condition], want: str, reason: str) -> None:
    whole = ready(given_parts)
    assert (whole.type, whole.status, whole.reason) == ("Ready", want, reason)


def test_ready_says_which_part_it_waits_for() -> None:
    assert ready([unknown("Trained", "Running", "40 % done")]).message == "Trained: 40 % done"
    assert ready([unknown("Trained", "Running")]).message == "Trained"


def test_reconciling_is_present_only_while_not_ready() -> None:
    waiting = summary([unknown("Trained", "Running", "40 % done")])
    assert is_true(waiting, "Reconciling")
    assert find(summary([true("Trained", "Stored")]), "Reconciling") is None


def test_stalled_takes_the_place_of_reconciling() -> None:
    refused = false("Evaluated", "BelowFloor", "0.71 of 0.90")
    stopped = summary([refused], stopped=refused)
    assert [condition.type for condition in stopped] == ["Ready", "Evaluated", "Stalled"]
    assert find(stopped, "Stalled") == stalled("BelowFloor", "0.71 of 0.90")


def test_suspended_takes_the_place_of_both() -> None:
    rests = suspended("spec.suspend is true")
    for part in (false("RolledOut", "Suspended"), true("RolledOut", "Promoted")):
        assert [c.type for c in summary([part], held=rests)] == ["Ready", "RolledOut", "Suspended"]


def test_what_is_no_longer_said_is_gone() -> None:
    old = merge([], summary([unknown("Trained", "Running")]), generation=1, now=T0)
    new = merge(old, summary([true("Trained", "Stored")]), generation=1, now=T1)
    assert find(old, "Reconciling")
    assert not find(new, "Reconciling")


def test_transition_time_moves_only_with_status() -> None:
    old = merge([], [false("Ready", "A")], generation=1, now=T0)
    same = merge(old, [false("Ready", "B", "new text")], generation=2, now=T1)
    assert (same[0].last_transition_time, same[0].reason, same[0].observed_generation) == (T0, "B", 2)
    flipped = merge(same, [true("Ready", "C")], generation=2, now=T1)
    assert flipped[0].last_transition_time == T1


def test_time_is_stored_as_the_api_stores_it() -> None:
    merged = merge([], [true("Ready", "A")], generation=1, now=T0 + timedelta(microseconds=123))
    assert merged[0].model_dump(mode="json", by_alias=True)["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_ready_comes_first_then_by_name() -> None:
    merged = merge([], [true("Placed", "A"), true("Evaluated", "A"), true("Ready", "A")], generation=1, now=T0)
    assert [condition.type for condition in merged] == ["Ready", "Evaluated", "Placed"]


def test_a_long_message_is_cut_instead_of_refused() -> None:
    message = false("Ready", "TooLong", "x" * 5000).message
    assert len(message) == 4096
    assert message.endswith("…")


@given(parts)
def test_merging_again_changes_nothing(some: list[Condition]) -> None:
    once = merge([], some, generation=1, now=T0)
    assert merge(once, some, generation=1, now=T1) == once


@given(parts)
def test_ready_is_true_exactly_when_all_parts_are(some: list[Condition]) -> None:
    assert (ready(some).status == "True") == all(part.status == "True" for part in some)
