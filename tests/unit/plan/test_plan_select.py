"""Choosing a base: each check with its reason, then the order of those that pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_builders import base, cluster

from slmfleet.api.base import Resources
from slmfleet.api.basemodel import BaseModelSpec
from slmfleet.api.specialist import Base, BaseLimits, Training
from slmfleet.plan.select import Need, choose, judge, need_of, quantity, rank, task_types

ONE_GPU = Resources(memory="1Gi", gpus=1)
CHECKS: list[tuple[dict[str, Any], dict[str, Any], Need, str]] = [
    # base, limits, need, part of the reason
    ({"licence": "LicenseRef-llama3"}, {}, Need(), "licence LicenseRef-llama3 is not among the accepted ones"),
    ({"licence": "MIT"}, {"licences": ["Apache-2.0"]}, Need(), "(Apache-2.0); see spec.base.limits.licences"),
    ({"licence": "MIT"}, {"licences": []}, Need(), "licence MIT is not among the accepted ones"),
    ({"licence": "MIT", "outputsMayTrain": "Conditional"}, {"outputsMayTrain": True}, Need(), "only on conditions"),
    ({"licence": "MIT"}, {"outputsMayTrain": True}, Need(), "not known to; see spec.base.limits.outputsMayTrain"),
    ({"memory": "3Gi"}, {}, Need(), "needs 3Gi of memory, a server of its pool has 2Gi; see spec.pool.resources"),
    ({"memory": "17Gi"}, {}, Need(), "needs 17Gi of memory, at most 16Gi is allowed; see spec.base.limits.maxMemory"),
    ({"memory": "1025Mi"}, {"maxMemory": "1Gi"}, Need(), "at most 1Gi is allowed"),
    ({"parameters": 2_000_000}, {"maxParameters": 1_999_999}, Need(), "2,000,000 parameters, at most 1,999,999"),
    ({"contextTokens": 512}, {}, Need(context_tokens=513), "context of 512 tokens, the task needs 513"),
    ({"contextTokens": 512}, {"minContextTokens": 4096}, Need(context_tokens=1), "the task needs 4,096"),
    ({"pool": {"maxRank": 8}}, {}, Need(training=Training(rank=16)), "rank 8, spec.training.rank is 16"),
    ({"parameters": 1_000_000_000}, {}, Need(training=Training(method="Full")),
     "by 2 workers needs more than 7.5Gi of memory, spec.training.resources.memory is 4Gi"),
]


@pytest.mark.parametrize("spec, limits, need, reason", CHECKS)
def test_a_base_that_does_not_fit_says_why(
    spec: dict[str, Any], limits: dict[str, Any], need: Need, reason: str
) -> None:
    found = judge("tiny", base(**spec).spec, BaseLimits.model_validate(limits), need)
    assert not found.suitable
    assert reason in found.reason


LIMIT_ITSELF: list[tuple[dict[str, Any], dict[str, Any], Need]] = [
    ({"licence": "LicenseRef-llama3"}, {"licences": ["LicenseRef-llama3"]}, Need()),
    ({"memory": "1024Mi"}, {"maxMemory": "1Gi"}, Need()),
    ({"memory": "2Gi"}, {}, Need()),
    ({"outputsMayTrain": "Allowed"}, {"outputsMayTrain": True}, Need()),
    ({"parameters": 2_000_000}, {"maxParameters": 2_000_000}, Need()),
    ({"contextTokens": 512}, {"minContextTokens": 512}, Need(context_tokens=512)),
    ({"pool": {"maxRank": 16}}, {}, Need(training=Training(rank=16))),
    ({"parameters": 1_000_000_000}, {}, Need(training=Training(method="DoRA"))),
    ({"parameters": 1_000_000_000}, {}, Need(training=Training(method="Full", workers=1))),
    ({"parameters": 1_000_000_000}, {}, Need(training=Training(method="Full", resources=ONE_GPU))),
]


@pytest.mark.parametrize("spec, limits, need", LIMIT_ITSELF)
def test_the_limit_itself_is_allowed(spec: dict[str, Any], limits: dict[str, Any], need: Need) -> None:
    assert judge("tiny", base(**spec).spec, BaseLimits.model_validate(limits), need).suitable


def scores(*values: float, task: str = "any") -> list[dict[str, Any]]:
    return [{"task": task, "benchmark": f"B{i}", "value": value, "source": "s"} for i, value in enumerate(values)]


def ranked(need: Need = Need(), **bases: dict[str, Any]) -> list[tuple[str, float | None, dict[str, float]]]:
    """Name, score and points by term, best first."""
    found = rank({name: base(**spec).spec for name, spec in bases.items()}, BaseLimits(), need)
    return [(r.name, r.score, {term.name: term.points for term in r.terms}) for r in found]


def test_the_score_and_its_terms_are_in_the_reason() -> None:
    found = rank({"one": base(scores=scores(60)).spec, "two": base(scores=scores(70)).spec}, BaseLimits(), Need())
    assert found[0].name == "two"
    assert found[0].reason == ("1,000,000 parameters, 1Gi, Apache-2.0, context 512; score 24.9: "
                               "quality +5.0 (B0 70, median 65), size +19.9 (0.001 billion)")  # fmt: skip


BILLION = 1_000_000_000


def test_each_doubling_of_the_size_must_be_worth_two_points() -> None:
    assert ranked(one={"parameters": BILLION}, two={"parameters": 2 * BILLION}, four={"parameters": 4 * BILLION}) == [
        ("one", 0.0, {"quality": 0.0, "size": 0.0}), ("two", -2.0, {"quality": 0.0, "size": -2.0}),
        ("four", -4.0, {"quality": 0.0, "size": -4.0})]  # fmt: skip
    big = {"parameters": 4 * BILLION, "scores": scores(70)}
    assert ranked(small={"parameters": BILLION, "scores": scores(63)}, big=big)[0][0] == "big"
    assert ranked(small={"parameters": BILLION, "scores": scores(67)}, big=big)[0][0] == "small"


def test_only_results_of_one_benchmark_are_compared() -> None:
    """A figure that nobody else has says nothing; neither does one of a base that may not be used."""
    lone = {"scores": [{"task": "any", "benchmark": "Own", "value": 99, "source": "s"}]}
    assert ranked(lone=lone, plain={})[0][2]["quality"] == 0
    unfit = {"scores": scores(90), "licence": "GPL-3.0"}
    assert ranked(good={"scores": scores(50)}, unfit=unfit)[0][2]["quality"] == 0


def test_results_for_another_type_of_task_weigh_a_quarter() -> None:
    mixed = {"scores": [*scores(80, task="tool-calling"),
                        {"task": "reasoning", "benchmark": "R", "value": 40, "source": "s"}]}  # fmt: skip
    other = {"scores": [*scores(60, task="tool-calling"),
                        {"task": "reasoning", "benchmark": "R", "value": 60, "source": "s"}]}  # fmt: skip
    found = ranked(Need(tasks=("tool-calling",)), mixed=mixed, other=other)
    assert found[0][0] == "mixed"
    assert found[0][2]["quality"] == pytest.approx((10 - 0.25 * 10) / 1.25)


def test_on_one_score_the_better_measured_leads_then_the_name_and_what_does_not_fit_is_last() -> None:
    found = ranked(unfit={"licence": "GPL-3.0", "scores": scores(99)}, b={}, a={}, known={"scores": scores(9)})
    assert [name for name, _, _ in found] == ["known", "a", "b", "unfit"]
    assert found[-1][1] is None


STATED = {"capabilities": [{"name": "tool-calling", "source": "card"}, {"name": "code", "source": "card"}]}
ASKED: list[tuple[list[str], dict[str, Any], str | None]] = [
    ([], {}, None),
    (["code"], STATED, None),
    (["code", "multilingual"], STATED, "states no multilingual (it states: tool-calling, code)"),
    (["code"], {}, "states no code (it states: nothing); see spec.base.limits.capabilities"),
]


@pytest.mark.parametrize("asked, stated, refusal", ASKED)
def test_a_capability_that_the_limits_ask_for_must_be_stated(
    asked: list[str], stated: dict[str, Any], refusal: str | None
) -> None:
    found = judge("b", base("b", **stated).spec, BaseLimits(capabilities=asked), Need())
    assert found.suitable == (refusal is None)
    assert (refusal or "1,000,000 parameters") in found.reason


def test_a_known_speed_is_told_with_its_conditions() -> None:
    speeds = [{"conditions": "vLLM, one L4, bf16, 32 calls", "tokensPerSecond": 1234.5, "source": "ours"}]
    found = judge("b", base("b", speeds=speeds).spec, BaseLimits(), Need())
    assert found.reason.endswith("1234.5 tokens a second (vLLM, one L4, bf16, 32 calls)")


TYPES = [("label", False, "classification"), ("json", False, "extraction"), ("text", False, "summarisation"),
         ("json", True, "tool-calling")]


@pytest.mark.parametrize("form, tools, first", TYPES)
def test_the_form_of_the_answers_says_which_results_speak_of_the_task(form: str, tools: bool, first: str) -> None:
    assert task_types(form, tools) == (first, "instruction-following")


def test_the_context_must_hold_the_99th_percentile() -> None:
    both = cluster(status={"inputTokensP95": 400, "inputTokensP99": 800})
    assert need_of(both.spec, both.status).context_tokens == 900
    older = cluster(status={"inputTokensP95": 400})
    assert need_of(older.spec, older.status).context_tokens == 450


def test_the_catalogue_is_a_dozen_bases_or_more_each_with_its_sources() -> None:
    text = (Path(__file__).parents[3] / "charts/slmfleet/files/catalogue.yaml").read_text()
    found = {o["metadata"]["name"]: o for o in yaml.safe_load_all(text)}
    assert len(found) >= 12
    specs = {name: BaseModelSpec.model_validate(o["spec"]) for name, o in found.items()}
    for name, spec in specs.items():
        assert found[name]["metadata"]["annotations"]["slmfleet.dev/source"].startswith("https://")
        assert all(each.source.startswith("https://") for each in [*spec.scores, *spec.capabilities, *spec.speeds])
        assert spec.capabilities, name
        accepting = BaseLimits(max_memory="32Gi", licences=[spec.licence])
        assert judge(name, spec, accepting, Need()).suitable, name
    suitable = [r.name for r in rank(specs, BaseLimits(), Need(context_tokens=4096, training=Training())) if r.suitable]
    assert len(suitable) >= 8
    assert not {"xlam-2-1b-fc-r", "nemotron-nano-9b-v2", "llama-3-2-1b-instruct"} & set(suitable)


BASES = {"one": base("one").spec, "two": base("two", scores=scores(50)).spec,
         "gpl": base("gpl", licence="GPL-3.0").spec}
CHOICES: list[tuple[str, dict[str, Any], dict[str, Any], str, bool, str]] = [
    ("automatic", {}, BASES, "two", True, "B0 50"),
    ("named", {"name": "one"}, BASES, "one", True, "1,000,000 parameters"),
    ("named, but not fit", {"name": "gpl"}, BASES, "gpl", False, "licence GPL-3.0"),
    ("named, but not there", {"name": "three"}, BASES, "three", False, "there is no BaseModel three; create it"),
    ("none fits", {"limits": {"maxParameters": 1}}, BASES, "", False, "no BaseModel fits: two: has 1,000,000 para"),
    ("there is none", {}, {}, "", False, "there is no BaseModel in this namespace; install the catalogue"),
]


@pytest.mark.parametrize("wish, bases, name, suitable, reason", [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_the_base_is_named_or_chosen(
    wish: dict[str, Any], bases: Any, name: str, suitable: bool, reason: str
) -> None:
    found = choose(Base.model_validate(wish), bases, Need())
    assert (found.suitable, found.name) == (suitable, name)
    assert reason in found.reason


QUANTITIES = [("1Gi", 2**30), ("512Mi", 512 * 2**20), ("2Ki", 2048), ("7", 7), ("3M", 3_000_000), ("1G", 10**9)]


@pytest.mark.parametrize("text, size", QUANTITIES)
def test_memory_is_read_as_kubernetes_reads_it(text: str, size: int) -> None:
    assert quantity(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "1.5Gi", "1Ti", "1 Gi", "-1Gi"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity of memory"):
        quantity(text)
