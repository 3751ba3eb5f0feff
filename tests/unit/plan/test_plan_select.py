"""Choosing a base: each check with its reason, then the order of those that pass."""

from __future__ import annotations

from typing import Any

import pytest
from plan_builders import base

from slmfleet.api.specialist import Base, BaseLimits
from slmfleet.plan.select import Need, choose, judge, quantity, rank

CHECKS: list[tuple[dict[str, Any], dict[str, Any], Need, str]] = [
    # base, limits, need, part of the reason
    ({"licence": "LicenseRef-llama3"}, {}, Need(), "licence LicenseRef-llama3 is not among the accepted ones"),
    ({"licence": "MIT"}, {"licences": ["Apache-2.0"]}, Need(), "(Apache-2.0); see spec.base.limits.licences"),
    ({"licence": "MIT"}, {"licences": []}, Need(), "licence MIT is not among the accepted ones"),
    ({"memory": "17Gi"}, {}, Need(), "needs 17Gi of memory, at most 16Gi is allowed; see spec.base.limits.maxMemory"),
    ({"memory": "1025Mi"}, {"maxMemory": "1Gi"}, Need(), "at most 1Gi is allowed"),
    ({"parameters": 2_000_000}, {"maxParameters": 1_999_999}, Need(), "2,000,000 parameters, at most 1,999,999"),
    ({"contextTokens": 512}, {}, Need(context_tokens=513), "context of 512 tokens, the task needs 513"),
    ({"contextTokens": 512}, {"minContextTokens": 4096}, Need(context_tokens=1), "the task needs 4,096"),
    ({"pool": {"maxRank": 8}}, {}, Need(rank=16), "rank 8, spec.training.rank is 16"),
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
    ({"parameters": 2_000_000}, {"maxParameters": 2_000_000}, Need()),
    ({"contextTokens": 512}, {"minContextTokens": 512}, Need(context_tokens=512)),
    ({"pool": {"maxRank": 16}}, {}, Need(rank=16)),
]


@pytest.mark.parametrize("spec, limits, need", LIMIT_ITSELF)
def test_the_limit_itself_is_allowed(spec: dict[str, Any], limits: dict[str, Any], need: Need) -> None:
    assert judge("tiny", base(**spec).spec, BaseLimits.model_validate(limits), need).suitable


def test_a_base_that_fits_shows_its_figures() -> None:
    scored = base(scores=[{"task": "tools", "benchmark": "BFCL", "value": 61.5, "source": "a paper"}])
    reason = judge("tiny", scored.spec, BaseLimits(), Need()).reason
    assert reason == "1,000,000 parameters, 1Gi, Apache-2.0, context 512; BFCL 61.5"


def scores(*values: float) -> list[dict[str, Any]]:
    return [{"task": "any", "benchmark": f"B{i}", "value": value, "source": "s"} for i, value in enumerate(values)]


def test_the_best_mean_score_leads_then_the_smaller_then_the_name_and_what_does_not_fit_is_last() -> None:
    bases = {
        "unfit": base(licence="GPL-3.0", scores=scores(99)),
        "b-small": base(parameters=10), "a-small": base(parameters=10), "large": base(parameters=99),
        "good": base(parameters=99, scores=scores(60)), "mixed": base(scores=scores(90, 10)),
    }  # fmt: skip
    ranked = rank({name: b.spec for name, b in bases.items()}, BaseLimits(), Need())
    assert [r.name for r in ranked] == ["good", "mixed", "a-small", "b-small", "large", "unfit"]
    assert [r.suitable for r in ranked] == [True] * 5 + [False]


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
