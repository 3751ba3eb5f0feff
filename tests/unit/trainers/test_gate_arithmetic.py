"""Intervals, the verdict, and what counts as a right answer."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmtrain import stats


def test_the_worked_examples_in_the_docstrings_hold():
    assert doctest.testmod(stats).failed == 0


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),  # Brown, Cai & DasGupta, Statistical Science 2001
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals_are_those_of_the_tables(right, n, low, high):
    assert stats.wilson(right, n, 0.95) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_holds_its_estimate_and_widens_with_confidence(right, confidence):
    low, high = stats.wilson(sum(right), len(right), confidence)
    assert 0 <= low <= sum(right) / len(right) <= high <= 1
    wider = stats.wilson(sum(right), len(right), 0.999)
    assert wider[0] <= low and high <= wider[1]


def test_calls_of_one_conversation_are_not_counted_as_independent():
    scores = ([1.0] * 10 + [0.0] * 10) * 5
    alone = stats.interval(scores, [str(i) for i in range(100)], 0.95, seed=0)
    together = stats.interval(scores, [str(i // 10) for i in range(100)], 0.95, seed=0)
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_conversations_that_all_agree_still_leave_doubt():
    low, high = stats.interval([1.0] * 40, [str(i // 10) for i in range(40)], 0.95, seed=0)
    assert (low, high) == stats.wilson(4, 4, 0.95)


@pytest.mark.parametrize(
    ("estimate", "lower", "n", "passed", "said"),
    [
        (0.95, 0.93, 400, True, None),
        (0.91, 0.88, 400, True, None),
        (0.91, 0.85, 60, False, "lower bound"),
        (0.89, 0.88, 4000, False, "below the floor"),
        (0.50, 0.45, 400, False, "below the floor"),
        (0.0, 0.0, 0, False, "no held-out example"),
    ],
)
def test_the_verdict_row_by_row(estimate, lower, n, passed, said):
    verdict = stats.judge(estimate, lower, n, floor=0.90, margin=0.03, confidence=0.95)
    assert verdict.passed is passed
    assert bool(verdict.reasons) is not passed
    assert said is None or said in verdict.reasons[0]


@pytest.mark.parametrize(
    ("metric", "answer", "recorded", "score"),
    [
        ("label", '{"intent": "A"}', '{"intent":"A"}', 1),
        ("label", '{"intent":"B"}', '{"intent":"A"}', 0),
        ("label", '{"intent":"A"} and more', '{"intent":"A"}', 0),
        ("label", "yes ", "yes", 1),
        ("label", "1", "true", 0),
        ("exact", '{"intent": "A"}', '{"intent":"A"}', 0),
        ("fields", '{"a":1,"b":{"c":2}}', '{"a":1,"b":{"c":3}}', 0.5),
        ("fields", "no json", '{"a":1}', 0),
        ("fields", "{}", "{}", 1),
    ],
)
def test_what_counts_as_right(metric, answer, recorded, score):
    assert stats.score(metric, answer, recorded) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        (['{"intent":"A"}', '{"intent":"B"}'], "label"),
        (['{"a":1,"b":2}', '{"a":1,"b":3}'], "fields"),
        (["yes", "no", "yes", "no", "yes", "no", "yes", "yes"], "label"),
        (["a long answer that is never the same " * 3, "another one, quite different " * 3], "exact"),
    ],
)
def test_the_metric_follows_the_form_of_the_recorded_answers(answers, metric):
    assert stats.choose_metric(answers) == metric


def test_form_is_judged_apart_from_content():
    assert stats.well_formed('{"intent":"wrong"}', '{"intent":"A"}')
    assert not stats.well_formed('{"label":"A"}', '{"intent":"A"}')
    assert not stats.well_formed("", "text")
