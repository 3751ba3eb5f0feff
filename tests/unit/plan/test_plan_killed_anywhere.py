"""Killed before or after any call, reading what is out of date: the same end, and no job made twice.

A world in memory: an API server that keeps objects and one status by version, jobs that leave results, a gateway that
follows the written stage. What is not covered here: the API server itself (tests/kube/test_operator_loop.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_builders import (
    ARTIFACT,
    CONFIG,
    CURATED,
    NOW,
    PASSED,
    REFUSED,
    TRAINED,
    after,
    base,
    cluster,
    facts,
    gateway,
    later,
    router,
    router_facts,
    serving,
    specialist,
)

from slmfleet.api.router import RouterStatus
from slmfleet.plan.attempt import names
from slmfleet.plan.facts import JobFact, RouterObject, SpecialistObject, TrialFact
from slmfleet.plan.pool import adapter_name
from slmfleet.plan.router import plan_router
from slmfleet.plan.specialist import plan_specialist
from slmfleet.plan.trial import trial_names
from slmfleet.wire.discovery import ClustersFile, DiscoveryResult
from slmfleet.wire.jobs import EvaluationResult
from slmfleet.wire.signals import CaptureSignals, SpecialistSignals

FAULTS = ("none", "killed before anything", "killed after applying", "status write refused", "read before last write")
NEVER: list[tuple[str, bool]] = []
disturbances = st.lists(st.tuples(st.sampled_from(FAULTS), st.booleans()), max_size=25)


@dataclass
class World:
    """One Specialist. `written` holds every status that was written, the newest last."""

    verdict: EvaluationResult
    good: bool = True
    written: list[SpecialistObject] = field(default_factory=lambda: [specialist()])
    created: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    ticks: int = 0

    def look(self, fault: str, jobs_finish: bool) -> None:
        """One reconcile, disturbed; then the world goes on."""
        self.ticks += 1
        stale = fault == "read before last write" and len(self.written) > 1
        me = self.written[-2 if stale else -1]
        if fault != "killed before anything":
            plan = plan_specialist(CONFIG, me, self.observed(me))
            for wanted in plan.apply:
                if wanted["metadata"]["name"] not in self.created:
                    self.created.append(wanted["metadata"]["name"])
            if fault == "none":
                self.written.append(after(me, plan))
        if jobs_finish:
            self.finished |= set(self.created)

    def observed(self, me: SpecialistObject) -> Any:
        made = names(me)
        jobs = {name: JobFact("Succeeded" if name in self.finished else "Running") for name in self.created}
        known: dict[str, Any] = {}
        if made is not None:
            known = {"curation": CURATED if made.dataset_job in self.finished else None,
                     "training": TRAINED if made.training_job in self.finished else None,
                     "evaluation": self.verdict if made.evaluation_job in self.finished else None}
        held = {"tiny": base(status=serving(adapter_name("intents", ARTIFACT[7:19])))}
        bases = held if self.written[-1].status.candidate or self.written[-1].status.stable else {"tiny": base()}
        return facts(jobs=jobs, bases=bases, signals=self.signals(), now=later(self.ticks), **known)

    def signals(self) -> Any:
        """A gateway counts by the newest written stage: 200 replays in shadow, 200 conversations a canary step."""
        status = self.written[-1].status
        if status.candidate is None and status.stable is None:
            return ()
        stage, step = status.rollout.stage, status.rollout.step
        if stage == "Placing":
            return (gateway(),)
        steps = step + 1 if stage == "Canary" else 3 if stage == "Done" else 0
        failed = 0 if self.good else 150 * steps
        return (gateway(agreed=200, conversations=200 * steps, failed=failed),)


def run(disturbed: list[tuple[str, bool]], world: World) -> World:
    for fault, finish in disturbed:
        world.look(fault, finish)
    quiet = 0
    while quiet < 3:
        before, finished = timeless(world), set(world.finished)
        world.look("none", True)
        quiet = quiet + 1 if (timeless(world), world.finished) == (before, finished) else 0
        assert world.ticks < 200, f"it never comes to rest: {world.written[-1].status.stage}"
    return world


def timeless(world: World) -> Any:
    """The final status but for its times."""
    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in ("since", "promoted", "time", "started")}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(world.written[-1].status.model_dump(mode="json"))


ENDS = [(PASSED, True, "Promoted"), (PASSED, False, "RolledBack"), (REFUSED, True, "Refused")]


@pytest.mark.parametrize("verdict, good, stage", ENDS, ids=[end[2] for end in ENDS])
def test_an_undisturbed_run_comes_to_its_end(verdict: EvaluationResult, good: bool, stage: str) -> None:
    world = run(NEVER, World(verdict, good))
    assert world.written[-1].status.stage == stage
    assert [name.split("-")[0] for name in world.created] == ["curate", "train", "evaluate"]


@pytest.mark.parametrize("verdict, good, stage", ENDS, ids=[end[2] for end in ENDS])
@settings(max_examples=15)
@given(disturbed=disturbances)
def test_a_run_killed_anywhere_comes_to_the_same_end(
    verdict: EvaluationResult, good: bool, stage: str, disturbed: list[tuple[str, bool]]
) -> None:
    calm, wild = run(NEVER, World(verdict, good)), run(disturbed, World(verdict, good))
    assert timeless(wild) == timeless(calm)
    assert wild.created == calm.created, "the same jobs, none twice"


@settings(max_examples=15)
@given(disturbed=disturbances, moves=st.sets(st.integers(0, 39)))
def test_a_cluster_that_moves_on_meanwhile_makes_no_second_job(
    disturbed: list[tuple[str, bool]], moves: set[int]
) -> None:
    """Discovery runs again and again while a revision is made; the pinned one is finished."""
    class Moving(World):
        def observed(self, me: SpecialistObject) -> Any:
            seen = super().observed(me)
            newer = 1 + sum(tick <= self.ticks for tick in moves)
            return replace(seen, cluster=cluster(status={"version": f"v{newer}", "run": newer, "inputTokensP95": 9}))

    world = run(disturbed, Moving(PASSED))
    assert world.written[-1].status.stage == "Promoted"
    assert [name.split("-")[0] for name in world.created] == ["curate", "train", "evaluate"]


class Again(World):
    """Promoted once, then trained again for the drift that run 2 found; the second adapter is another one."""

    second_verdict: EvaluationResult = PASSED

    def observed(self, me: SpecialistObject) -> Any:
        seen = super().observed(me)
        made, first = names(me), self.written[-1].status.stable is not None
        newest = cluster(status={"version": "v2", "run": 2, "inputTokensP95": 9, "drift": {
            "shareBeforePercent": 1, "sharePercent": 2, "distancePercent": 40, "unlikePercent": 5}})  # fmt: skip
        trained, verdict = seen.training, seen.evaluation
        if made is not None and me.status.training.discovery_run == 2:
            trained = trained and TRAINED.model_copy(update={"artifact_digest": SECOND})
            verdict = verdict and self.second_verdict
        both = base(status=serving(*(adapter_name("intents", digest[7:19]) for digest in (ARTIFACT, SECOND))))
        return replace(seen, cluster=newest if first else cluster(), training=trained, evaluation=verdict,
                       bases={"tiny": both}, now=later(100 * self.ticks))

    def signals(self) -> Any:
        candidate = self.written[-1].status.candidate
        revision = (candidate.artifact if candidate else ARTIFACT)[7:19]
        return tuple(
            gate.model_copy(update={"specialists": {"intents": SpecialistSignals(
                arms={revision: next(iter(mine.arms.values()))}, shadow={revision: next(iter(mine.shadow.values()))})}})
            for gate in super().signals() for mine in gate.specialists.values())


SECOND = "sha256:" + "2b" * 32
RETRAINED = specialist(retrain={"driftPercent": 20, "minimumIntervalSeconds": 10})
SECONDS = [(PASSED, SECOND, ["Promoted", "Promoted"]), (REFUSED, ARTIFACT, ["Refused", "Promoted"])]


@pytest.mark.parametrize("second, stable, history", SECONDS, ids=["passes", "is refused"])
@settings(max_examples=15)
@given(disturbed=disturbances)
def test_training_again_killed_anywhere_comes_to_the_same_end(
    second: EvaluationResult, stable: str, history: list[str], disturbed: list[tuple[str, bool]]
) -> None:
    world = Again(PASSED, written=[RETRAINED])
    world.second_verdict = second
    run(disturbed, world)
    status = world.written[-1].status
    assert [name.split("-")[0] for name in world.created] == ["curate", "train", "evaluate"] * 2
    assert status.stable is not None and status.stable.artifact == stable
    assert (status.stage, status.candidate, [h.outcome for h in status.history]) == ("Promoted", None, history)
    assert status.history[0].trigger == "Drift: drift of 40 %, from 20"
    assert status.history[1].trigger is None


class OnTrial(World):
    """Two bases on trial; the second one is measured better."""

    def observed(self, me: SpecialistObject) -> Any:
        seen = super().observed(me)
        (held,) = seen.bases.values()
        bases = {"tiny": held, "other": replace(base("other", parameters=2_000_000), status=held.status)}
        known = {}
        for tried in trial_names(me):
            estimate = 0.9 if tried.base == "other" else 0.8
            known[tried.base] = TrialFact(
                TRAINED if tried.training_job in self.finished else None,
                PASSED.model_copy(update={"estimate": estimate}) if tried.evaluation_job in self.finished else None)
        return replace(seen, bases=bases, trials=known)


@settings(max_examples=15)
@given(disturbed=disturbances)
def test_a_trial_of_bases_killed_anywhere_comes_to_the_same_end(disturbed: list[tuple[str, bool]]) -> None:
    world = run(disturbed, OnTrial(PASSED, written=[specialist(base={"trial": 2})]))
    status = world.written[-1].status
    assert [name.split("-")[0] for name in world.created] == [
        "curate", "trial", "measure", "trial", "measure", "train", "evaluate"]  # fmt: skip
    assert (status.stage, status.base, status.training.trial_winner) == ("Promoted", "other", "other")
    assert [(each.base, each.estimate) for each in status.training.trials] == [("tiny", 0.8), ("other", 0.9)]


@settings(max_examples=15)
@given(disturbed=disturbances)
def test_discovery_killed_anywhere_runs_once(disturbed: list[tuple[str, bool]]) -> None:
    empty = DiscoveryResult(clusters=ClustersFile(records=1000, records_digest="d", clusters=[]))
    written: list[RouterObject] = [router()]
    created: list[str] = []
    finished: set[str] = set()
    for tick, (fault, finish) in enumerate([*disturbed, *[("none", True)] * 6]):
        me = written[-2 if fault == "read before last write" and len(written) > 1 else -1]
        status = me.status.discovery
        if fault != "killed before anything":
            observed = router_facts(
                signals=(gateway(capture=CaptureSignals(records=1500)),), now=later(tick),
                jobs={status.job: JobFact("Running")} if status.job in created else {},
                discovery=empty if status.job in finished else None)
            plan = plan_router(CONFIG, me, observed)
            created += [o["metadata"]["name"] for o in plan.apply
                        if o["kind"] == "Job" and o["metadata"]["name"] not in created]
            if fault == "none":
                written.append(RouterObject(me.meta, me.spec, RouterStatus.model_validate(plan.status)))
        if finish:
            finished |= set(created)
    assert created == ["discover-agents-0001"]
    assert (written[-1].status.discovery.run, written[-1].status.discovery.job) == (1, None)
    assert written[-1].status.discovery.time is not None and written[-1].status.discovery.time >= NOW
