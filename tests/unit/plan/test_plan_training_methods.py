"""What a training method changes in the plan: pools serve adapters, so one is extracted of what trains whole layers."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from plan_builders import (
    ARTIFACT,
    CONFIG,
    CURATED,
    PASSED,
    TRAINED,
    after,
    base,
    conditions,
    facts,
    message,
    specialist,
)

from slmfleet.api.specialist import Training
from slmfleet.plan.facts import Plan, SpecialistObject
from slmfleet.plan.jobs import EXTRACTED, training_pod
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.jobs import TrainingResult

METHODS = get_args(Training.model_fields["method"].annotation)


def planned(me: SpecialistObject, **observed: Any) -> Plan:
    return plan_specialist(CONFIG, me, facts(**observed))


def pinned(**spec: Any) -> SpecialistObject:
    me = specialist(**spec)
    return after(me, planned(me))


def result(kept_share: float | None) -> TrainingResult:
    extraction = {} if kept_share is None else {"extraction": {"rank": 16, "kept_share": kept_share, "layers": 14}}
    return TrainingResult.model_validate({**TRAINED.model_dump(exclude={"extraction"}), **extraction})


@pytest.mark.parametrize("method", METHODS)
def test_the_job_extracts_an_adapter_where_the_method_trains_none(method: Any) -> None:
    training = Training(method=method)
    pod = training_pod(CONFIG, "datasets/a", "bases/tiny", "artifacts/a", "training/a", training, "")
    args = pod["containers"][0]["args"]
    assert args[args.index("--method") + 1] == method.lower()
    assert ("--extract-adapter" in args) == (method in EXTRACTED)


def test_the_methods_are_those_of_the_paper() -> None:
    assert METHODS == ("LoRA", "QLoRA", "DoRA", "Full", "Distill")


@pytest.mark.parametrize("method", EXTRACTED)
def test_a_trial_of_bases_extracts_too(method: str) -> None:
    bases = {"a": base("a"), "b": base("b", parameters=2_000_000)}
    me = specialist(base={"trial": 2}, training={"method": method})
    me = after(me, planned(me, bases=bases))
    (job,) = planned(me, bases=bases, curation=CURATED).apply
    assert "--extract-adapter" in job["spec"]["template"]["spec"]["containers"][0]["args"]


SHARES = [
    (None, ARTIFACT),
    (0.9312, f"{ARTIFACT}, which keeps 93.1% of what was trained"),
    (0.31, f"{ARTIFACT}, which keeps 31.0% of what was trained; little: a higher spec.training.rank keeps more"),
]


@pytest.mark.parametrize("share, told", SHARES)
def test_what_the_adapter_keeps_is_told_with_it_and_goes_with_the_revision(share: float | None, told: str) -> None:
    me = pinned(training={"method": "Full"})
    evaluating = planned(me, curation=CURATED, training=result(share))
    assert message(evaluating, "Trained") == told
    passed = planned(me, curation=CURATED, training=result(share), evaluation=PASSED)
    assert passed.status["candidate"].get("keptShare") == share
    me = after(me, passed)
    assert message(planned(me, curation=CURATED, training=result(share), evaluation=PASSED), "Trained") == told


def test_a_base_that_full_fine_tuning_cannot_hold_is_refused_before_a_job_is_made() -> None:
    large = {"tiny": base(parameters=3_000_000_000)}
    plan = planned(specialist(training={"method": "Full"}), bases=large)
    assert conditions(plan)["BaseSelected"] == ("False", "NoBaseFits")
    assert "22.4Gi of memory, spec.training.resources.memory is 4Gi" in message(plan, "BaseSelected")
    assert plan.apply == ()
    roomy = {"method": "Full", "resources": {"memory": "64Gi"}}
    assert conditions(planned(specialist(training=roomy), bases=large))["DatasetReady"] == ("Unknown", "Pinned")


def test_the_method_is_part_of_what_a_revision_is_made_from() -> None:
    keys = {pinned(training={"method": method}).status.training.key for method in METHODS}
    assert len(keys) == len(METHODS)
