"""Intervals, and the chain of checks: facts in, a verdict out."""

import doctest
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmtrain import gate, stats
from slmtrain.facts import Baseline, Exposure, Facts, Figure, Gate, Memory, Reports, Slice

GATE = Gate(floor=0.9, margin=0.03, confidence=0.95)
CURATED = Reports(card=True, licence="MIT Free.", terms="MIT", redacted=7, leaks=0)


def label(estimate=0.95, lower=0.93, upper=0.97, n=400):
    return Figure("label", estimate, (lower, upper), n)


GOOD = Facts(
    judged=(label(),),
    valid=Figure("valid_format", 0.99, (0.98, 1.0), 400),
    compared=label(),
    reports=CURATED,
    memory=Memory(searched_answers=400),
    latency_p95=0.2,
    memory_mib=500.0,
)


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


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [(0.8, 1, 3.078), (0.95, 1, 12.706), (0.99, 2, 9.925), (0.95, 3, 3.182), (0.99, 4, 4.604), (0.95, 9, 2.262),
     (0.99, 9, 3.250), (0.95, 30, 2.042), (0.8, 30, 1.310)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(confidence, freedom, quantile):
    assert stats.student(confidence, freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize(("right", "n", "share"), [(0, 5, 0.1), (3, 10, 0.5), (240, 300, 0.85), (9, 9, 0.5), (0, 1, 1)])
def test_a_binomial_tail_is_the_sum_of_its_terms(right, n, share):
    terms = (math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(right + 1))
    assert stats.at_most(right, n, share) == pytest.approx(sum(terms), abs=1e-9)


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.05, 0.01, 0.001]))
def test_an_exact_bound_is_where_the_tail_has_the_level(right, more, level):
    n = right + more
    bound = stats.upper_bound(right, n, level)
    assert right / n <= bound <= 1
    assert stats.at_most(right, n, bound) == pytest.approx(level, rel=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.8, 0.95, 0.99]))
def test_an_interval_holds_its_estimate_and_widens_with_confidence(right, confidence):
    low, high = stats.wilson(sum(right), len(right), confidence)
    assert 0 <= low <= sum(right) / len(right) <= high <= 1
    wider = stats.wilson(sum(right), len(right), 0.999)
    assert wider[0] <= low and high <= wider[1]


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=40))
def test_an_interval_by_conversation_holds_its_estimate(calls):
    scores, conversations = zip(*calls, strict=True)
    low, high = stats.interval(scores, conversations, 0.95)
    assert 0 <= low <= sum(scores) / len(scores) + 1e-9
    assert sum(scores) / len(scores) - 1e-9 <= high <= 1


def test_calls_of_one_conversation_are_not_counted_as_independent():
    scores = ([1.0] * 10 + [0.0] * 10) * 5
    alone = stats.interval(scores, [str(i) for i in range(100)], 0.95)
    together = stats.interval(scores, [str(i // 10) for i in range(100)], 0.95)
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_conversations_that_all_agree_still_leave_doubt():
    low, high = stats.interval([1.0] * 40, [str(i // 10) for i in range(40)], 0.95)
    assert (low, high) == stats.wilson(4, 4, 0.95)


def test_right_or_wrong_calls_of_as_many_conversations_have_wilsons_interval():
    scores = [1.0] * 180 + [0.0] * 20
    low, high = stats.interval(scores, range(200), 0.95)
    assert (low, high) == (pytest.approx(stats.wilson(180, 200, 0.95)[0], abs=0.002), pytest.approx(
        stats.wilson(180, 200, 0.95)[1], abs=0.002))  # fmt: skip


def test_a_difference_is_as_wide_as_both_sides_together():
    """Newcombe's example (a): 56/70 and 48/80 differ by 0.2, from 0.0524 to 0.3339."""
    a, b = 56 / 70, 48 / 80
    low, high = stats.difference(a, stats.wilson(56, 70, 0.95), b, stats.wilson(48, 80, 0.95))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


# --- the checks, each a table ------------------------------------------------------------------------------------

def slice_(name, estimate, n=100, kind="label"):
    return Slice(kind, name, n, n, estimate, n)


@pytest.mark.parametrize(
    ("facts", "asked", "reason", "passed", "said"),
    [
        ({"judged": (label(0.95, 0.93),)}, {}, "AboveFloor", True, "0.95"),
        ({"judged": (label(0.91, 0.88),)}, {}, "AboveFloor", True, "at least 0.88"),
        ({"judged": (label(0.91, 0.85, n=60),)}, {}, "TooUncertain", False, "lower bound 0.8500 at 95% is below"),
        ({"judged": (label(0.89, 0.88, n=4000),)}, {}, "BelowFloor", False, "estimate 0.8900 is below the floor 0.9"),
        ({"judged": (label(0.5, 0.45),)}, {"floor": 0.4}, "AboveFloor", True, "0.5"),
        ({"judged": (label(), Figure("macro_f1", 0.7, (0.6, 0.8), 400))}, {}, "BelowFloor", False, "macro_f1"),
        ({"judged": ()}, {}, "NothingToJudge", False, "no held-out example"),
    ],
)
def test_the_floor_row_by_row(facts, asked, reason, passed, said):
    judged_as(gate.floor(replace(GOOD, **facts), replace(GATE, **asked)), "Floor", reason, passed, True, said)


@pytest.mark.parametrize(
    ("baseline", "reason", "passed", "required"),
    [
        (None, "NotMeasured", True, False),
        (Baseline("label", 0.99, (0.98, 1.0), 29), "NotMeasured", True, False),
        (Baseline("label", 0.95, (0.93, 0.97), 300), "NotWorseThanTheLLM", True, True),
        (Baseline("label", 0.95, (0.75, 0.99), 30), "TooUncertain", False, True),
        (Baseline("label", 1.0, (0.999, 1.0), 9000), "WorseThanTheLLM", False, True),
        (Baseline("label", 0.80, (0.78, 0.82), 300), "NotWorseThanTheLLM", True, True),
    ],
)
def test_non_inferiority_row_by_row(baseline, reason, passed, required):
    facts = replace(GOOD, baseline=baseline)
    asked = gate.non_inferiority(facts, replace(GATE, require_non_inferiority=True))
    judged_as(asked, "NonInferiority", reason, passed, required, "")
    judged_as(gate.non_inferiority(facts, GATE), "NonInferiority", reason, passed, False, "")


@pytest.mark.parametrize(
    ("slices", "asked", "reason", "passed", "required", "said"),
    [
        ((), {}, "TooFewCalls", True, False, "no slice"),
        ((slice_("A", 0.1, n=19),), {}, "TooFewCalls", True, False, "1 of fewer than 20"),
        ((slice_("A", 0.95), slice_("B", 0.9)), {}, "SlicesAboveFloor", True, True, "label 'B' of 2 slices"),
        ((slice_("A", 0.95), slice_("B", 0.4)), {}, "SliceBelowFloor", False, True, "label 'B'"),
        ((slice_("A", 0.95), slice_("B", 0.4)), {"slice_floor": 0.3}, "SlicesAboveFloor", True, True, "'B'"),
        ((slice_("A", 0.66),), {}, "SlicesAboveFloor", True, True, "'A'"),
        ((slice_("A", 0.66, n=1000),), {}, "SliceBelowFloor", False, True, "'A'"),
        ((slice_("A", 0.60),), {}, "SliceBelowFloor", False, True, "'A'"),
        ((slice_("A", 0.60), *(slice_(f"{i}", 1.0) for i in range(60))), {}, "SlicesAboveFloor", True, True, "'A'"),
        ((slice_("cyrillic", 0.2, kind="language"),), {}, "SliceBelowFloor", False, True, "language 'cyrillic'"),
    ],
)
def test_the_worst_slice_row_by_row(slices, asked, reason, passed, required, said):
    found = gate.worst_slice(replace(GOOD, slices=slices), replace(GATE, **asked))
    judged_as(found, "WorstSlice", reason, passed, required, said)


@pytest.mark.parametrize(
    ("share", "asked", "reason", "passed"),
    [(0.99, {}, "FormatsValid", True), (0.9, {}, "FormatsValid", True), (0.89, {}, "FormatsBroken", False),
     (0.89, {"valid_floor": 0.8}, "FormatsValid", True), (0.5, {"floor": 0.4}, "FormatsValid", True)],
)  # fmt: skip
def test_valid_formats_row_by_row(share, asked, reason, passed):
    facts = replace(GOOD, valid=Figure("valid_format", share, (share, share), 400))
    judged_as(gate.valid_format(facts, replace(GATE, **asked)), "ValidFormat", reason, passed, True, f"{share:.4f}")


@pytest.mark.parametrize(
    ("used", "limit", "reason", "passed", "required"),
    [(0.2, None, "NoLimit", True, False), (0.2, 0.5, "within", True, True), (0.6, 0.5, "over", False, True),
     (None, None, "NotMeasured", True, False), (None, 0.5, "NotMeasured", False, True)],
)  # fmt: skip
def test_latency_and_memory_row_by_row(used, limit, reason, passed, required):
    words = {"within": ("FastEnough", "FitsMemory"), "over": ("TooSlow", "TooMuchMemory")}.get(reason, (reason,) * 2)
    facts = replace(GOOD, latency_p95=used, memory_mib=used, measured_on="http://pool")
    asked = replace(GATE, max_latency_seconds=limit, max_memory_mib=limit)
    judged_as(gate.latency(facts, asked), "Latency", words[0], passed, required, "http://pool")
    judged_as(gate.memory(facts, asked), "Memory", words[1], passed, required, "http://pool")


@pytest.mark.parametrize(
    ("reports", "asked", "redaction", "licence"),
    [
        (CURATED, {}, ("NoLeaks", True, True), ("LicenceStated", True, True)),
        (Reports(), {}, ("ReportMissing", False, False), ("ReportMissing", False, False)),
        (Reports(), {"require_reports": True}, ("ReportMissing", False, True), ("ReportMissing", False, True)),
        (replace(CURATED, leaks=2), {}, ("PersonalDataLeft", False, True), ("LicenceStated", True, True)),
    ],
)
def test_the_datasets_reports_row_by_row(reports, asked, redaction, licence):
    facts, asked = replace(GOOD, reports=reports), replace(GATE, **asked)
    judged_as(gate.redaction(facts, asked), "RedactionReport", *redaction, "")
    judged_as(gate.licence(facts, asked), "LicenceReport", *licence, "")


@pytest.mark.parametrize(
    ("terms", "reason", "told"),
    [
        ("MIT", "LicenceStated", "MIT: Free"),
        ("apache-2.0", "LicenceStated", "Apache-2.0"),
        ("CC-BY-4.0 AND (MIT OR GPL-3.0-or-later WITH Classpath-exception-2.0)", "LicenceStated", "CC-BY-4.0 AND (MIT"),
        ("LicenseRef-LLM-Provider-Terms", "LicenceStated", "LicenseRef-LLM-Provider-Terms"),
        ("Apache 2.0", "LicenceUnknown", "begins with 'Apache 2.0', which is no SPDX expression; is Apache-2.0 meant?"),
        ("The owner decides", "LicenceUnknown", "https://spdx.org/licenses"),
        ("llama3", "LicenceUnknown", "LicenseRef-NAME"),
        ("TODO", "LicenceUnknown", "'TODO'"),
        ("MIT AND", "LicenceUnknown", "'MIT AND'"),
        ("", "LicenceUnknown", "''"),
    ],
)
def test_a_licence_is_one_that_a_program_can_read(terms, reason, told):
    facts = replace(GOOD, reports=replace(CURATED, terms=terms))
    passed = reason == "LicenceStated"
    for required in (False, True):
        asked = replace(GATE, require_reports=required)
        judged_as(gate.licence(facts, asked), "LicenceReport", reason, passed, passed or required, told)


@pytest.mark.parametrize(
    ("memory", "reason", "passed", "required"),
    [
        (Memory(), "NotMeasured", True, False),
        (Memory(listed_values=3), "NothingMemorised", True, True),
        (Memory((Exposure("code", 1, 41, False),)), "SecretMemorised", False, True),
        (Memory((Exposure("code", 3, 41, False),)), "NothingMemorised", True, True),
        (Memory((Exposure("code", 3, 41, True),)), "SecretMemorised", False, True),
        (Memory((Exposure("code", 1, 1, False),)), "NothingMemorised", True, True),
        (Memory((Exposure("a", 1, 41, False), Exposure("b", 20, 41, False))), "SecretMemorised", False, True),
        (Memory(tuple(Exposure(str(i), 1, 41, False) for i in range(3))), "NothingMemorised", True, True),
        (Memory(listed_values=9, listed_found=1), "ListedValueShown", False, True),
        (Memory(copied_values=1), "TrainingValueShown", False, False),
    ],
)
def test_memorised_secrets_row_by_row(memory, reason, passed, required):
    found = gate.memorised(replace(GOOD, memory=memory), GATE)
    judged_as(found, "MemorisedSecrets", reason, passed, required, "")


def judged_as(check, name, reason, passed, required, said):
    assert (check.name, check.reason, check.passed, check.required) == (name, reason, passed, required)
    assert said in check.message


# --- the chain ---------------------------------------------------------------------------------------------------

def test_every_check_is_shown_and_a_good_model_passes():
    checks = gate.run(GOOD, GATE)
    assert gate.passed(checks)
    assert {check.name for check in checks} == {"Floor", "NonInferiority", "WorstSlice", "ValidFormat", "Latency",
                                                "Memory", "RedactionReport", "LicenceReport",
                                                "MemorisedSecrets"}  # fmt: skip
    assert all(check.reason.isalpha() and check.message for check in checks)


def test_what_refuses_comes_first_then_what_only_tells_then_the_narrowest_pass():
    facts = replace(GOOD, judged=(label(0.91, 0.871),), reports=Reports(), latency_p95=9.0,
                    memory=Memory(listed_values=1, listed_found=1))  # fmt: skip
    checks = gate.run(facts, replace(GATE, max_latency_seconds=8.0))
    assert [check.name for check in checks[:5]] == ["MemorisedSecrets", "Latency", "RedactionReport", "LicenceReport",
                                                    "Floor"]  # fmt: skip
    assert not gate.passed(checks)


def test_nothing_to_judge_is_refused():
    assert not gate.passed(gate.run(Facts(), GATE))


def test_what_is_not_required_never_refuses():
    checks = gate.run(replace(GOOD, reports=Reports()), GATE)
    assert [check.passed for check in checks[:2]] == [False, False]
    assert gate.passed(checks)


@given(
    estimate=st.floats(0, 1),
    spread=st.floats(0, 0.3),
    better=st.floats(0, 0.3),
    valid=st.floats(0, 1),
    worst=st.floats(0, 1),
    n=st.integers(20, 500),
)
def test_a_better_model_is_never_refused_where_a_worse_one_passes(estimate, spread, better, valid, worst, n):
    def facts(estimate, valid, worst):
        figure = label(estimate, max(0.0, estimate - spread), min(1.0, estimate + spread))
        return replace(
            GOOD,
            judged=(figure,),
            compared=figure,
            valid=Figure("valid_format", valid, (valid, valid), 400),
            slices=(slice_("A", worst, n),),
            baseline=Baseline("label", 0.9, (0.85, 0.95), 100),
        )

    asked = replace(GATE, require_non_inferiority=True)
    before = facts(estimate, valid, worst)
    after = facts(*(min(1.0, value + better) for value in (estimate, valid, worst)))
    if gate.passed(gate.run(before, asked)):
        assert gate.passed(gate.run(after, asked))
