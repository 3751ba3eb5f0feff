"""The sequential verdict: wrong at most alpha of the time, however often it is looked at."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.plan.verdict import difference_verdict, share_verdict

SHARES = [
    # good, bad, least, alpha, verdict
    (0, 0, 0.9, 0.05, "continue"),
    (60, 0, 0.9, 0.05, "promote"),
    (20, 0, 0.9, 0.05, "continue"),
    (3, 6, 0.9, 0.05, "rollback"),
    (9, 1, 0.9, 0.05, "continue"),
    (0, 1, 1.0, 0.05, "rollback"),
    (1, 0, 0.0, 0.05, "promote"),
    (900, 100, 0.9, 0.05, "continue"),
    (1000, 50, 0.9, 0.05, "promote"),
    (1000, 250, 0.9, 0.05, "rollback"),
    (60, 0, 0.9, 1e-9, "continue"),
]


@pytest.mark.parametrize("good, bad, least, alpha, verdict", SHARES)
def test_a_share_is_judged_against_what_is_asked(good: int, bad: int, least: float, alpha: float, verdict: str) -> None:
    assert share_verdict(good, bad, least, alpha) == verdict


RANK = {"rollback": 0, "continue": 1, "promote": 2}
counts = st.integers(0, 400)


@given(counts, counts, st.floats(0.05, 0.95), st.floats(0.001, 0.2))
def test_one_more_good_answer_never_makes_the_verdict_worse(good: int, bad: int, least: float, alpha: float) -> None:
    now, better = (share_verdict(good + more, bad, least, alpha) for more in (0, 1))
    # Both sides may hold evidence only where the truth sits on the line; then rollback is the safe one.
    assert RANK[better] >= RANK[now]


@given(counts, counts, st.floats(0.05, 0.95), st.floats(0.001, 0.2))
def test_asking_for_more_never_makes_the_verdict_better(good: int, bad: int, least: float, alpha: float) -> None:
    lenient, strict = (share_verdict(good, bad, share, alpha) for share in (least * 0.9, least))
    assert RANK[strict] <= RANK[lenient]


@given(counts, counts, st.floats(0.05, 0.95))
def test_a_smaller_error_rate_never_decides_earlier(good: int, bad: int, least: float) -> None:
    careful, hasty = (share_verdict(good, bad, least, alpha) for alpha in (0.005, 0.05))
    assert careful in ("continue", hasty)


SEQUENCES, CALLS = 300, 150


def first_verdict(share: float, least: float, alpha: float, rng: random.Random) -> str:
    """Look after every fifth call and stop at the first verdict, as an operator would."""
    good = bad = 0
    for _ in range(CALLS):
        if rng.random() < share:
            good += 1
        else:
            bad += 1
        if (good + bad) % 5 == 0 and (found := share_verdict(good, bad, least, alpha)) != "continue":
            return found
    return "continue"


def test_peeking_at_a_share_on_the_line_errs_at_most_alpha_of_the_time() -> None:
    """The hardest null: the true share is exactly what is asked. Allowed: alpha and three standard errors."""
    alpha, rng = 0.05, random.Random(7)
    found = [first_verdict(0.8, 0.8, alpha, rng) for _ in range(SEQUENCES)]
    most = alpha + 3 * (alpha * (1 - alpha) / SEQUENCES) ** 0.5
    assert found.count("promote") / SEQUENCES <= most
    assert found.count("rollback") / SEQUENCES <= most
    assert found.count("continue") > SEQUENCES / 2


@pytest.mark.parametrize("share, right", [(0.97, "promote"), (0.5, "rollback")])
def test_a_clear_share_is_decided_rightly(share: float, right: str) -> None:
    """The test above would pass if nothing was ever decided; this one would not."""
    rng = random.Random(11)
    found = [first_verdict(share, 0.8, 0.05, rng) for _ in range(60)]
    assert found.count(right) >= 57


DIFFERENCES = [
    # differences, margin, alpha, verdict
    ([], 0.02, 0.01, "continue"),
    ([0.0] * 5, 0.02, 0.01, "continue"),
    ([0.0] * 400, 0.02, 0.01, "promote"),
    ([0.2, 0.0] * 60, 0.02, 0.01, "promote"),
    ([-1.0] * 30, 0.02, 0.01, "rollback"),
    ([-0.3, -0.1] * 200, 0.02, 0.01, "rollback"),
    ([0.5] * 40, 1.0, 0.01, "promote"),
    ([-1.0] * 40, 1.0, 0.01, "continue"),
    ([0.5] * 200, 0.0, 0.01, "promote"),
]


@pytest.mark.parametrize("differences, margin, alpha, verdict", DIFFERENCES)
def test_a_difference_is_judged_against_the_margin(
    differences: list[float], margin: float, alpha: float, verdict: str
) -> None:
    found = difference_verdict(differences, margin, alpha)
    assert found.verdict == verdict
    assert found.lines == len(differences)
    assert found.after <= found.lines


def test_what_comes_after_the_verdict_does_not_change_it() -> None:
    decided = difference_verdict([0.3] * 100, 0.02, 0.01)
    longer = difference_verdict([0.3] * 100 + [-1.0] * 500, 0.02, 0.01)
    assert (longer.verdict, longer.after) == (decided.verdict, decided.after) == ("promote", decided.after)
    assert longer.estimate < 0


@pytest.mark.parametrize("value", [1.01, -1.5, float("nan"), float("inf")])
def test_a_difference_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        difference_verdict([0.0, value], 0.02, 0.01)


values = st.lists(st.floats(-1, 1), max_size=60)


@settings(max_examples=60)
@given(values, st.floats(0, 1), st.floats(0.001, 0.3))
def test_the_interval_holds_the_estimate(differences: list[float], margin: float, alpha: float) -> None:
    found = difference_verdict(differences, margin, alpha)
    low, high = found.interval
    assert -1 <= low <= high <= 1
    assert low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= high


@settings(max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_the_two_verdicts_mirror_each_other(differences: list[float]) -> None:
    """With no margin, swapping candidate and baseline swaps promote and rollback."""
    found = difference_verdict(differences, 0.0, 0.1).verdict
    mirrored = difference_verdict([-value for value in differences], 0.0, 0.1).verdict
    assert mirrored == {"promote": "rollback", "rollback": "promote", "continue": "continue"}[found]


def test_peeking_at_a_difference_on_the_margin_errs_at_most_alpha_of_the_time() -> None:
    """Worse by exactly the margin, which `promote` must not call better (nor `rollback` worse)."""
    alpha, rng = 0.05, random.Random(3)
    found = []
    for _ in range(SEQUENCES):
        # candidate right 70 %, baseline 80 %: mean difference -0.1
        drawn = [(rng.random() < 0.7) - (rng.random() < 0.8) for _ in range(60)]
        found.append(difference_verdict(drawn, 0.1, alpha).verdict)
    most = alpha + 3 * (alpha * (1 - alpha) / SEQUENCES) ** 0.5
    assert found.count("promote") / SEQUENCES <= most
    assert found.count("rollback") / SEQUENCES <= most


@pytest.mark.parametrize("mean", [-0.1, 0.004])
def test_the_interval_covers_the_true_difference(mean: float) -> None:
    """Missed at most alpha of the time; a true value between two points of the grid is covered as well."""
    alpha, rng, missed = 0.1, random.Random(5), 0
    for _ in range(100):
        drawn = [mean + rng.choice((-0.02, 0.02)) for _ in range(300)]
        low, high = difference_verdict(drawn, 0.5, alpha).interval
        missed += not low <= mean <= high
    assert missed <= 100 * alpha


def test_more_calls_make_the_interval_narrower() -> None:
    few, many = (difference_verdict([0.1, -0.1] * n, 0.02, 0.05).interval for n in (20, 1000))
    assert many[1] - many[0] < (few[1] - few[0]) / 2
