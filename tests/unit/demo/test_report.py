"""The table: every figure from the rows, and failures shown as failures."""

import json

import pytest
from demo.agent import Result
from demo.records import records, score_assignments
from demo.report import Inputs, Prices, SpecialistFacts, as_json, build, inputs_of, render
from demo.scoring import Share, percentile, score, wilson


def row(number, task="snips", stage="after", tier="specialist", **more):
    from dataclasses import asdict

    result = asdict(Result(f"c{number}", task, "later", 1, stage, f"v{number}"))
    defaults = {"tier": tier, "specialist": "voice" if tier == "specialist" else None, "status": 200, "label": "A",
                "answer": '{"intent": "A"}', "equals_recorded": True, "input_tokens": 50, "output_tokens": 10,
                "latency_seconds": 0.05 if tier == "specialist" else 0.6}  # fmt: skip
    return result | defaults | more


def truth(number, true="A", recorded="A", task="snips"):
    return {f"c{number}": {"id": f"c{number}", "task": task, "true": true, "recorded": recorded}}


def specialist(**more):
    facts = {
        "name": "voice", "cluster": "task-1", "stage": "Ready", "weight_percent": 100, "floor": 0.9, "margin": 0.02,
        "score": "0.97", "base": "tiny", "stable": "abc", "training_seconds": {"abc": 100.0}, "history": [],
    }  # fmt: skip
    return SpecialistFacts(**(facts | more))


def test_a_group_belongs_to_the_task_that_most_of_its_calls_are_of():
    pairs = [("a", "x")] * 8 + [("b", "x")] * 2 + [("a", None)] * 1 + [("a", "z")] * 1 + [("b", "y")] * 5 + [("o", "y")]
    a, b = score(pairs, ["a", "b"])
    assert (a.group, a.purity, a.missed, a.foreign, a.fragments) == ("x", Share(8, 10), Share(2, 10), Share(2, 8), 1)
    assert (b.group, b.purity, b.missed.good, b.foreign.good) == ("y", Share(5, 6), 2, 1)


def test_a_task_that_nobody_found_is_missed_altogether():
    (only,) = score([("a", None)] * 3 + [("o", None)], ["a"])
    assert only.group is None
    assert only.missed == Share(3, 3)
    assert only.purity.value is None


def test_the_interval_is_wilsons():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(100, 100)
    assert high == 1.0 and low == pytest.approx(0.963, abs=1e-3)


def test_percentiles_are_values_that_occurred():
    assert percentile(range(1, 101), 50) == 50
    assert percentile(range(1, 101), 95) == 95
    assert percentile([3], 95) == 3
    assert percentile([], 50) is None


def test_agreement_is_with_the_recorded_answer_and_apart_with_the_truth():
    facts = truth(1) | truth(2, recorded="B") | truth(3)
    rows = [row(1), row(2, equals_recorded=False), row(3, label=None, equals_recorded=False), row(4, task="metagpt")]
    report = build(Inputs(rows, facts, [specialist()]))
    only = next(each for each in report.agreement if each.tier == "specialist")
    assert (only.recorded, only.true, only.llm_true) == (Share(1, 3), Share(2, 3), Share(2, 3))


def test_only_calls_after_the_rollout_are_judged():
    report = build(Inputs([row(1, stage="before"), row(2, stage="rollout")], truth(1) | truth(2), []))
    assert report.agreement == []


def test_what_a_specialist_claimed_is_scored_even_where_the_llm_answered_it():
    rows = [row(1), row(2, tier="llm", specialist="voice"), row(3, tier="llm"), row(4, task="metagpt")]
    snips = build(Inputs(rows, {}, [])).taken[0]
    assert (snips.group, snips.missed, snips.foreign, snips.purity) == ("voice", Share(1, 3), Share(1, 1), Share(2, 3))


def test_money_is_net_of_serving_and_training():
    rows = [row(i, input_tokens=1000, output_tokens=100) for i in range(1000)]
    saved = build(Inputs(rows, {}, [specialist()], Prices(2, 8), Prices(0.1, 0.1), pod_hour_price=3.6)).savings
    assert saved.llm_cost_avoided == pytest.approx(2.0 + 0.8)
    assert saved.serving_cost == pytest.approx(0.11)
    assert saved.training_cost == pytest.approx(0.1)
    assert saved.net == pytest.approx(2.59)
    assert saved.calls_to_break_even == 37


def test_no_errors_is_a_plain_zero_and_any_error_is_red_and_quoted():
    clean = render(build(Inputs([row(1)], truth(1), [specialist()])), colour=True)
    assert "errors seen by the client: 0 of 1 calls" in clean and "\x1b[31" not in clean
    broken = render(build(Inputs([row(1), row(2, error="APIError 500: no", tier=None)], truth(1), [])), colour=True)
    assert "\x1b[31;1merrors seen by the client: 1 of 2 calls" in broken
    assert "APIError 500: no" in broken


def test_a_refused_specialist_is_shown_with_its_figures_and_reason():
    refused = specialist(stage="Refused", weight_percent=0, stable=None, score="0.61", training_seconds={},
                         history=[("def", "Refused", "0.61 is below the floor of 0.70")])  # fmt: skip
    text = render(build(Inputs([row(1)], truth(1), [refused])))
    assert "Refused" in text and "0.61 is below the floor of 0.70" in text and "nothing" in text


def test_calls_by_tier_are_counted_before_and_after():
    rows = [row(1, stage="before", tier="llm"), row(2), row(3, tier="llm"), row(4, task="agbenchmark", tier="llm"),
            row(5, tier=None, error="x")]  # fmt: skip
    tiers = build(Inputs(rows, {}, [])).tiers
    assert tiers["before"]["snips"] == {"llm": 1}
    assert tiers["after"] == {"other": {"llm": 1}, "snips": {"specialist": 1, "llm": 1, "error": 1}}


def test_escalations_and_spills_are_counted_by_reason():
    report = build(Inputs([row(1, escalated="invalid"), row(2, spilled="cold"), row(3, spilled="cold")], {}, []))
    assert (report.escalations, report.spills) == ({"invalid": 1}, {"cold": 2})
    assert "escalated to the LLM: 1 (invalid 1)" in render(report)


def test_a_run_without_any_result_still_renders():
    text = render(build(Inputs([], {}, [])))
    assert "errors seen by the client: 0 of 0 calls" in text


def test_the_report_reads_what_kubectl_prints():
    status = {
        "items": [
            {"kind": "Router", "metadata": {"name": "r"},
             "spec": {"currency": "EUR", "llm": {"prices": {"inputPerMillion": 2, "outputPerMillion": 8}}}},
            {"kind": "TaskCluster", "metadata": {"name": "task-1"}, "spec": {}, "status": {"calls": 2500}},
            {"kind": "BaseModel", "metadata": {"name": "tiny"}, "spec": {"pool": {"prices": {"inputPerMillion": 0.1}}}},
            {"kind": "BaseModel", "metadata": {"name": "other"}, "spec": {"pool": {"prices": {"inputPerMillion": 9}}}},
            {"kind": "Specialist", "metadata": {"name": "voice"},
             "spec": {"taskCluster": "task-1", "gate": {"floor": 0.0, "margin": 0.5}},
             "status": {"stage": "Ready", "weightPercent": 100, "base": "tiny",
                        "stable": {"name": "abc", "trainingSeconds": 40.0},
                        "history": [{"revision": "bad", "outcome": "RolledBack", "reason": "too many escalations"}]}},
        ],
        "gates": {"voice": {"floor": 0.9, "margin": 0.02}},
        "training_seconds": {"voice": {"train-voice-1": 55.0, "train-voice-2": 5.0}},
        "minutes": [["train", 60]],
    }  # fmt: skip
    inputs = inputs_of([row(1)], list(truth(1).values()), status, pod_hour_price=1.0)
    (voice,) = inputs.specialists
    assert (voice.floor, voice.margin, voice.cluster_calls, voice.stable) == (0.9, 0.02, 2500, "abc")
    assert sum(voice.training_seconds.values()) == 60.0
    assert (inputs.currency, inputs.llm_prices, inputs.pool_prices) == ("EUR", Prices(2, 8), Prices(0.1, 0))
    assert "RolledBack. too many escalations" in render(build(inputs))


def test_an_object_that_is_new_has_no_status_yet():
    status = {"items": [{"kind": "Specialist", "metadata": {"name": "voice"}, "spec": {"taskCluster": "t"}}]}
    assert inputs_of([], [], status).specialists[0].stage == "unknown"


def test_report_json_has_every_figure_and_what_is_derived():
    whole = json.loads(as_json(build(Inputs([row(1), row(2, error="x")], truth(1), [specialist()]))))
    assert whole["errors_total"] == 1
    assert whole["savings"]["net"] < 0.001
    assert whole["taken"][0]["missed"] == {"good": 0, "n": 2}
    assert len(whole["agreement"][0]["recorded_interval"]) == 2


def test_records_carry_what_a_gateway_logs_and_no_label(traffic):
    from dataclasses import asdict

    from slmfleet.wire.records import UsageRecord

    calls = [asdict(call) for call in traffic.calls if call.phase == "later"]
    rows = list(records(calls, traffic.answers))
    assert len(rows) == len(calls)
    assert all("task" not in each and "label" not in each for each in rows)
    times = [UsageRecord.model_validate(each).time for each in rows]
    assert times == sorted(times)


def test_assignments_are_scored_against_the_traffic(traffic):
    from dataclasses import asdict

    calls = [asdict(call) for call in traffic.calls if call.phase == "train"]
    perfect = [{"id": c["id"], "cluster": c["task"] if c["task"] in ("snips", "banking") else None} for c in calls]
    assert all(each.purity.value == 1 and each.missed.good == 0 for each in score_assignments(calls, perfect))
