"""How often the gate's intervals hold the truth, in a seeded simulation of scores whose truth is known."""

import random
from statistics import fmean

import pytest

from slmtrain import stats
from slmtrain.facts import Facts, Gate, Slice
from slmtrain.gate import worst_slice

ROUNDS = 400
TRUTH = 0.93


def conversations_of(count, size, draw):
    """(scores, conversations): right or wrong calls; those of one conversation are alike (correlation 0.3)."""
    scores, names = [], []
    for name in range(count):
        share = draw.betavariate(TRUTH * 7 / 3, (1 - TRUTH) * 7 / 3)
        for _ in range(draw.randint(1, 2 * size - 1)):
            scores.append(float(draw.random() < share))
            names.append(name)
    return scores, names


def too_high(method, count, size, seed=1):
    """How often the lower end lies above the truth; at 95 % it should 2.5 times in 100."""
    draw = random.Random(seed)
    return fmean(method(*conversations_of(count, size, draw))[0] > TRUTH for _ in range(ROUNDS))


def ours(scores, conversations):
    return stats.interval(scores, conversations, 0.95)


def calls_as_independent(scores, conversations):
    return stats.wilson(sum(scores), len(scores), 0.95)


@pytest.mark.parametrize(("count", "size"), [(20, 1), (50, 1), (150, 1), (20, 5), (50, 5), (100, 5)])
def test_the_lower_end_is_rarely_above_the_truth(count, size):
    assert too_high(ours, count, size) <= 0.045  # 0.025 and two and a half standard errors of 400 rounds


@pytest.mark.parametrize(("count", "size"), [(50, 1), (50, 5), (100, 5)])
def test_the_interval_is_not_much_wider_than_it_must_be(count, size):
    """An interval of everything would cover too."""
    draw = random.Random(2)
    widths = []
    for _ in range(100):
        low, high = ours(*conversations_of(count, size, draw))
        widths.append(high - low)
    calls = count * size
    assert fmean(widths) < 2.2 * 2 * 1.96 * (TRUTH * (1 - TRUTH) / calls) ** 0.5


def test_the_usual_intervals_fail_the_same_test(monkeypatch):
    def bootstrap(scores, conversations):
        return stats.bootstrap(scores, conversations, fmean, 0.95, seed=0)

    monkeypatch.setattr(stats, "BOOTSTRAP_ROUNDS", 100)
    draw = random.Random(1)
    assert fmean(bootstrap(*conversations_of(30, 1, draw))[0] > TRUTH for _ in range(150)) > 0.1
    assert too_high(calls_as_independent, 50, 5) > 0.06


def similarities(count, draw):
    scores, names = [], []
    for name in range(count):
        centre = draw.gauss(0.55, 0.1)
        for _ in range(draw.randint(1, 5)):
            scores.append(min(1.0, max(0.0, draw.gauss(centre, 0.15))))
            names.append(name)
    return scores, names


def test_the_interval_of_similarities_holds_the_truth_and_is_as_narrow_as_they_vary():
    draw = random.Random(3)
    found = [ours(*similarities(40, draw)) for _ in range(ROUNDS)]
    assert 0.925 <= fmean(low <= 0.55 <= high for low, high in found) <= 0.985
    assert fmean(high - low for low, high in found) < 0.1


def test_one_failure_more_never_looks_like_a_better_model():
    names = [i // 2 for i in range(80)]
    ends = [ours([float(i >= failures) for i in range(80)], names)[0] for failures in range(8)]
    assert ends == sorted(ends, reverse=True)


def test_a_slice_of_fifty_is_rarely_blamed_by_chance():
    """Fifty labels that all lie exactly at their floor: at most one gate in twenty blames one of them."""
    draw, gate, blamed = random.Random(4), Gate(slice_floor=0.8), 0
    for _ in range(200):
        slices = []
        for label in range(50):
            right = sum(draw.random() < 0.8 for _ in range(25))
            slices.append(Slice("label", str(label), 25, 25, right / 25, 25))
        blamed += not worst_slice(Facts(slices=slices), gate).passed
    assert blamed / 200 <= 0.05
