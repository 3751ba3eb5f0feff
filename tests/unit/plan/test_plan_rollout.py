"""The rollout of one candidate, stage by stage."""

from __future__ import annotations

from typing import Any

import pytest
from plan_builders import NOW, later

from slmfleet.api.specialist import ArmCount, Rollout, RolloutStatus
from slmfleet.plan.rollout import Counts, Seen, advance, budget, shadow_trial, tally

SPEC = Rollout(steps=[10, 50, 100])
MANUAL = SPEC.model_copy(update={"approval": "Manual"})
NO_SHADOW = SPEC.model_copy(update={"shadow_percent": 0})
MANY, BAD = Counts(500, 0), Counts(20, 80)


def seen(*, resident: bool = True, approved: bool = False, shadow: Any = None, canary: Any = None) -> Seen:
    def by_gateway(counts: Any) -> dict[str, Counts]:
        return counts if isinstance(counts, dict) else {"g": counts} if counts else {}

    return Seen(resident, approved, by_gateway(shadow), by_gateway(canary), NOW)


def at(stage: str, step: int = 0, weight: int = 0, **more: Any) -> RolloutStatus:
    return RolloutStatus.model_validate({"stage": stage, "step": step, "weightPercent": weight, **more})


CANARY = [at("Canary", i, weight) for i, weight in enumerate(SPEC.steps)]
ROWS: list[tuple[str, Rollout, RolloutStatus, Seen, tuple[str, int, int]]] = [
    ("waits for the adapter", SPEC, at("Placing"), seen(resident=False), ("Placing", 0, 0)),
    ("shadows first", SPEC, at("Placing"), seen(), ("Shadow", 0, 0)),
    ("no shadow asked", NO_SHADOW, at("Placing"), seen(), ("Canary", 0, 10)),
    ("no shadow, but approval", NO_SHADOW.model_copy(update={"approval": "Manual"}), at("Placing"), seen(),
     ("Approval", 0, 0)),
    ("approved beforehand, still shadowed", MANUAL, at("Placing"), seen(approved=True), ("Shadow", 0, 0)),
    ("too few shadowed", SPEC, at("Shadow"), seen(shadow=Counts(5, 0)), ("Shadow", 0, 0)),
    ("nothing shadowed for long", SPEC, at("Shadow"), seen(), ("Shadow", 0, 0)),
    ("shadow agrees", SPEC, at("Shadow"), seen(shadow=MANY), ("Canary", 0, 10)),
    ("shadow disagrees", SPEC, at("Shadow"), seen(shadow=BAD), ("RolledBack", 0, 0)),
    ("shadow agrees, Manual", MANUAL, at("Shadow"), seen(shadow=MANY), ("Approval", 0, 0)),
    ("shadow agrees, approved", MANUAL, at("Shadow"), seen(shadow=MANY, approved=True), ("Canary", 0, 10)),
    ("approval does not excuse a bad shadow", MANUAL, at("Shadow"), seen(shadow=BAD, approved=True),
     ("RolledBack", 0, 0)),
    ("waits for approval", MANUAL, at("Approval"), seen(canary=MANY), ("Approval", 0, 0)),
    ("approved", MANUAL, at("Approval"), seen(approved=True), ("Canary", 0, 10)),
    ("approval no longer asked", SPEC, at("Approval"), seen(), ("Canary", 0, 10)),
    ("too few conversations", SPEC, CANARY[0], seen(canary=Counts(9, 1)), ("Canary", 0, 10)),
    ("first step passes", SPEC, CANARY[0], seen(canary=MANY), ("Canary", 1, 50)),
    ("second step passes", SPEC, CANARY[1], seen(canary=MANY), ("Canary", 2, 100)),
    ("last step passes", SPEC, CANARY[2], seen(canary=MANY), ("Done", 2, 100)),
    ("first step fails", SPEC, CANARY[0], seen(canary=BAD), ("RolledBack", 0, 0)),
    ("second step fails", SPEC, CANARY[1], seen(canary=BAD), ("RolledBack", 1, 0)),
    ("last step fails", SPEC, CANARY[2], seen(canary=BAD), ("RolledBack", 2, 0)),
    ("the server went away meanwhile", SPEC, CANARY[1], seen(resident=False), ("Canary", 1, 50)),
    ("steps were shortened", SPEC.model_copy(update={"steps": [100]}), CANARY[2], seen(), ("Canary", 0, 100)),
    ("steps were shortened and it passes", SPEC.model_copy(update={"steps": [100]}), CANARY[2], seen(canary=MANY),
     ("Done", 2, 100)),
    ("a weight was changed", SPEC.model_copy(update={"steps": [20, 50, 100]}), CANARY[0], seen(), ("Canary", 0, 20)),
    ("ended stays ended", SPEC, at("RolledBack"), seen(canary=MANY, approved=True), ("RolledBack", 0, 0)),
    ("done stays done", SPEC, at("Done", 2, 100), seen(canary=BAD), ("Done", 2, 100)),
]  # fmt: skip


@pytest.mark.parametrize("spec, before, look, after", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_rollout_moves_one_stage_at_a_look(
    spec: Rollout, before: RolloutStatus, look: Seen, after: tuple[str, int, int]
) -> None:
    found = advance(spec, before, look)
    assert (found.stage, found.step, found.weight_percent) == after


def test_every_look_at_a_rollout_that_goes_well_brings_it_nearer_to_the_end() -> None:
    status, stages = RolloutStatus(), []
    good = 0
    for _ in range(6):
        good += 500
        status = advance(SPEC, status, seen(shadow=Counts(good), canary=Counts(good)))
        stages.append((status.stage, status.weight_percent))
    assert stages == [("Shadow", 0), ("Canary", 10), ("Canary", 50), ("Canary", 100), ("Done", 100), ("Done", 100)]


@pytest.mark.parametrize("spec", [SPEC, NO_SHADOW, SPEC.model_copy(update={"steps": [100]})])
def test_the_error_budget_is_spent_once(spec: Rollout) -> None:
    tests = len(spec.steps) + bool(spec.shadow_percent)
    assert budget(spec) * tests == pytest.approx(spec.alpha)


def test_a_step_does_not_count_what_the_step_before_had_counted() -> None:
    """500 good conversations at 10 % prove nothing about 50 %."""
    second = advance(SPEC, CANARY[0], seen(canary=MANY))
    again = advance(SPEC, second, seen(canary=MANY))
    assert (again.stage, again.weight_percent) == ("Canary", 50)
    assert (again.trial.good, again.trial.bad) == (0, 0)
    more = advance(SPEC, again, seen(canary=Counts(MANY.good + 30, 4)))
    assert (more.trial.good, more.trial.bad) == (30, 4)


def test_a_restarted_gateway_loses_nothing_it_had_counted() -> None:
    status = advance(SPEC, CANARY[0], seen(canary={"g-1": Counts(20, 1)}))
    assert (status.trial.good, status.trial.bad) == (20, 1)
    status = advance(SPEC, status, seen(canary={"g-2": Counts(3, 0)}))
    assert (status.trial.good, status.trial.bad) == (23, 1)
    status = advance(SPEC, status, seen())
    assert (status.trial.good, status.trial.bad) == (23, 1)


def test_a_late_answer_of_a_gateway_does_not_take_counts_back() -> None:
    kept = tally([ArmCount(instance="g", good=20, bad=2)], {"g": Counts(11, 1)})
    assert (kept[0].good, kept[0].bad) == (20, 2)


def test_looking_twice_at_the_same_counts_changes_nothing() -> None:
    for before, look in ((CANARY[1], seen(canary=Counts(9, 1))), (at("Shadow"), seen(shadow=Counts(9, 1)))):
        once = advance(SPEC, before, look)
        assert advance(SPEC, once, look) == once


def test_the_shadow_keeps_its_own_figures_when_it_ends() -> None:
    look = seen(shadow={"g-1": Counts(300, 10), "g-2": Counts(200, 0)})
    assert advance(SPEC, at("Shadow"), look).stage == "Canary"
    trial = shadow_trial(SPEC, at("Shadow"), look)
    assert (trial.good, trial.bad, trial.verdict) == (500, 10, "promote")


def test_a_stage_knows_when_it_began() -> None:
    began = advance(SPEC, at("Placing", since=later(-60)), seen())
    assert began.since == NOW
    assert advance(SPEC, began, Seen(True, False, {}, {}, later(60))).since == NOW


@pytest.mark.parametrize("good, bad, stage", [(47, 2, "Shadow"), (48, 2, "Canary")])
def test_the_worked_example_of_the_shadow_holds(good: int, bad: int, stage: str) -> None:
    assert advance(SPEC, at("Shadow"), seen(shadow=Counts(good, bad))).stage == stage


@pytest.mark.parametrize("conversations, step", [(58, 0), (59, 1)])
def test_the_worked_example_of_a_step_holds(conversations: int, step: int) -> None:
    assert advance(SPEC, CANARY[0], seen(canary=Counts(conversations))).step == step


def test_a_conversation_that_fails_late_counts_once_and_as_bad() -> None:
    """Else ten that all failed in the end would be twenty, half of them good."""
    status = advance(SPEC, CANARY[0], seen(canary={"g": Counts(10, 0)}))
    status = advance(SPEC, status, seen(canary={"g": Counts(4, 6)}))
    assert (status.trial.good, status.trial.bad) == (4, 6)


def test_conversations_of_the_step_before_that_fail_take_no_good_ones_below_zero() -> None:
    begun = CANARY[0].model_copy(update={"counts": [ArmCount(instance="g", good_start=5, good=5)]})
    status = advance(SPEC, begun, seen(canary={"g": Counts(2, 3)}))
    assert (status.trial.good, status.trial.bad) == (0, 3)
