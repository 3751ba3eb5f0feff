"""The routing classifier's gate, and what a Router does with its verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_builders import CONFIG, conditions, later, message, router, router_facts

from slmfleet.api.router import RouterStatus
from slmfleet.plan.classifier import refusal
from slmfleet.plan.facts import Plan, RouterObject
from slmfleet.plan.interval import bounds
from slmfleet.plan.router import plan_router
from slmfleet.wire.discovery import Change, ClassifierRates, ClassifierResult, ClustersFile, DiscoveryResult

NEW, USED = ("sha256:" + digits * 32 for digits in ("cf", "0c"))


def trained(
    foreign: float, missed: float, used: tuple[float, float] | None = None, calls: int = 1000
) -> ClassifierResult:
    """Rates in percent, each measured on `calls` held-out calls."""
    rates = None if used is None else ClassifierRates(
        foreign_rate=used[0] / 100, missed_rate=used[1] / 100, foreign_calls=calls, members=calls)
    return ClassifierResult(digest=NEW, path="router/x/classifier.npz", classes=["a"], foreign_rate=foreign / 100,
                            foreign_rate_upper=1, missed_rate=missed / 100, foreign_calls=calls, members=calls,
                            in_use=rates)  # fmt: skip


VERDICTS: list[tuple[str, ClassifierResult, str | None]] = [
    # what, the new classifier, part of the reason. 1 % of foreign calls is tolerated
    ("good", trained(0.5, 3), None),
    ("a little over, which may be chance", trained(1.4, 3), None),
    ("surely over", trained(3, 3), "takes 3.00% of 1,000 foreign held-out calls, surely more than"),
    ("over, on too few calls to be sure", trained(3, 3, calls=60), None),
    ("no foreign call to judge by", trained(0, 3, calls=0), None),
    ("as good as the one in use", trained(0.5, 3, (0.5, 3)), None),
    ("better", trained(0.1, 1, (3, 20)), None),
    ("misses clearly more", trained(0.5, 9, (0.5, 3)), "misses 9.00% of 1,000 held-out calls of the tasks, the one in"),
    ("misses more, which may be chance", trained(0.5, 4, (0.5, 3)), None),
    ("takes clearly more, but what is tolerated", trained(0.9, 3, (0, 3)), None),
    ("takes clearly more, and too much", trained(1.4, 3, (0, 3)), "the one in use 0.00%; 1.00% is tolerated"),
]


@pytest.mark.parametrize("found, reason", [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_a_classifier_takes_over_unless_it_is_surely_too_bad_or_clearly_worse(
    found: ClassifierResult, reason: str | None
) -> None:
    refused = refusal(found, 0.01)
    assert (refused is None) == (reason is None), refused
    assert reason is None or reason in (refused or "")


def test_the_bounds_are_those_of_wilson() -> None:
    """10 of 100: one-sided at 95 %, that is the two-sided interval at 90 %."""
    assert bounds(0.1, 100) == pytest.approx((0.0609, 0.1598), abs=2e-3)


@given(hits=st.integers(0, 500), more=st.integers(0, 500))
def test_bounds_enclose_the_share_and_never_leave_zero_to_one(hits: int, more: int) -> None:
    share = hits / (hits + more) if hits + more else 0.0
    lower, upper = bounds(share, hits + more)
    assert 0 <= lower <= share + 1e-9 and share - 1e-9 <= upper <= 1


# --- the Router --------------------------------------------------------------------------------------------------

FOUND: dict[str, Any] = {"run": 3, "job": "discover-agents-0004", "capturedAtRun": 1000, "classifier": USED,
                         "classifierRun": 3, "classifierFigures": "takes few"}  # fmt: skip


def finished(me: RouterObject, classifier: ClassifierResult, changes: list[Change] | None = None) -> Plan:
    result = DiscoveryResult(classifier=classifier, clusters=ClustersFile(
        records=1000, records_digest="d", clusters=[], changes=changes or []))
    return plan_router(CONFIG, me, router_facts(discovery=result, now=later(9)))


def test_a_refused_classifier_is_not_used_and_the_condition_says_why() -> None:
    me = router(status={"discovery": FOUND})
    plan = finished(me, trained(3, 3))
    status = plan.status["discovery"]
    assert (status["run"], status["classifier"], status["classifierRun"]) == (4, USED, 3)
    assert conditions(plan)["ClassifierRenewed"] == ("False", "Refused")
    assert "that of run 4: it takes 3.00%" in message(plan, "ClassifierRenewed")
    assert message(plan, "ClassifierRenewed").endswith("that of run 3 stays")
    assert conditions(plan)["Ready"][0] == "True"
    after = replace(me, status=RouterStatus.model_validate(plan.status))
    assert conditions(plan_router(CONFIG, after, router_facts()))["ClassifierRenewed"] == ("False", "Refused")


def test_a_classifier_that_passes_takes_over() -> None:
    plan = finished(router(status={"discovery": {**FOUND, "classifierRefused": "that of run 3"}}), trained(0.5, 3))
    status = plan.status["discovery"]
    assert (status["classifier"], status["classifierRun"], status["foreignRatePercent"]) == (NEW, 4, 0.5)
    assert "classifierRefused" not in status
    assert conditions(plan)["ClassifierRenewed"] == ("True", "Passed")


def test_a_first_classifier_that_is_refused_leaves_none_in_use() -> None:
    plan = finished(router(status={"discovery": {"job": "discover-agents-0001"}}), trained(30, 3))
    assert "classifier" not in plan.status["discovery"]
    assert "known by frame alone" in message(plan, "ClassifierRenewed")


def test_the_next_run_measures_the_one_in_use_beside_its_own() -> None:
    (job,) = [o for o in plan_router(CONFIG, router(status={"discovery": FOUND}), router_facts()).apply
              if o["kind"] == "Job"]  # fmt: skip
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--in-use") + 1] == f"/store/router/{USED[7:]}/classifier.npz"


def test_splits_and_merges_are_events_of_the_router() -> None:
    changes = [Change(kind="Split", before=["intents"], now=["intents", "refunds"]),
               Change(kind="Gone", before=["old"]),
               Change(kind="New", now=["fresh"]), Change(kind="Merged", before=["a", "b"], now=["a"])]  # fmt: skip
    assert finished(router(status={"discovery": FOUND}), trained(0, 0), changes).events == (
        ("TaskSplit", "intents became intents, refunds"), ("TaskGone", "task old was not found again"),
        ("TaskNew", "task fresh is new"), ("TaskMerged", "a, b became a"))  # fmt: skip
