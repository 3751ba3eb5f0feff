"""Drift against the run before: what is new is seen, and rare words that were always there are not."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

from curation_samples import HOME, SHOP, log_of, record, utterance

from slmfleet.curation import judge
from slmfleet.curation.calls import Call, call_of
from slmfleet.curation.discover import Findings, Settings, _likeness, discover, read_previous, write
from slmfleet.curation.naming import Likeness
from slmfleet.wire.discovery import Drift
from slmfleet.wire.records import UsageRecord
from slmfleet.wire.routes import OutputFormat


def calls(forms: dict[str, str], count: int, seed: int, *, names: bool = False) -> list[Call]:
    """Calls of one task; with `names`, most of each text is words that no other call has."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        label = rng.choice(sorted(forms))
        own = " ".join("".join(rng.choices("abcdefghij", k=9)) for _ in range(9)) if names and number % 2 else ""
        text = f"{utterance(forms, label, rng)} {own}"
        line = record(number, [{"role": "user", "content": text}], label, id=f"{seed}-{number}")
        made.append(call_of(UsageRecord.model_validate(line)))
    return made


def drift(before: list[Call], now: list[Call]) -> Drift:
    was = replace(_likeness(before, None), name="task", share=0.5)
    was = replace(was, strange=judge.strange_share(before, set(was.centroid)))
    found = judge.drift(now, replace(_likeness(now, None), name="task"), 0.5, [was])
    assert found is not None and found.noise_before is not None
    return found


def excess(found: Drift) -> float:
    return found.noise_share - (found.noise_before or 0.0)


def test_more_of_the_same_is_no_drift() -> None:
    for names in (False, True):
        before = calls(HOME, 200, 1, names=names)
        found = drift(before, [*before, *calls(HOME, 200, 2, names=names)])
        assert abs(excess(found)) < 0.05
        assert found.distance < 0.05
        assert ((found.noise_before or 0) > 0.4) == names, "every second text is mostly words of its own"


def test_a_part_that_is_new_is_seen_as_large_as_it_is() -> None:
    before = calls(HOME, 300, 1)
    found = drift(before, [*before, *calls(SHOP, 100, 2)])
    assert 0.15 < excess(found) <= 0.25


def test_small_steps_add_up_from_the_run_that_a_specialist_learned_from(tmp_path: Path) -> None:
    """Each week two more things are asked for."""
    def week(labels: int) -> Findings:
        rng, lines = random.Random(labels), []
        for number in range(300):
            label = rng.choice(sorted(HOME)[:labels])
            asked = [{"role": "system", "content": "Give the intent."}]
            asked.append({"role": "user", "content": utterance(HOME, label, rng)})
            lines.append(record(number, asked, json.dumps({"intent": label})))
        return discover(log_of(lines), Settings(embedder="lexical"), before, learned=learned)

    before: list[Likeness] = []
    learned: dict[str, list[Likeness]] = {}
    (first,) = (started := week(4)).clusters.clusters
    assert (first.drift, first.drift_trained) == (None, None)
    write(started, tmp_path)
    before, learned = started.likeness, {first.name: read_previous(tmp_path)}
    before = (second := week(6)).likeness
    (third,) = week(8).clusters.clusters
    assert third.name == second.clusters.clusters[0].name == first.name
    assert third.drift is not None and third.drift_trained is not None
    assert third.drift_trained.distance > 1.5 * third.drift.distance > 0
    assert third.drift_trained.noise_share > third.drift.noise_share


def test_an_answer_in_a_fence_agrees_with_the_same_answer_without_one() -> None:
    said = ['{"intent": "a"}', '```json\n{"intent": "a"}\n```']
    lines = [record(i, [{"role": "user", "content": "turn it on"}], said[i % 2]) for i in range(40)]
    calls = [call_of(r) for r in log_of(lines).records]
    schema = {"type": "object", "properties": {"intent": {"enum": ["a", "b"]}}, "required": ["intent"]}
    agreed = judge.agreement(calls, OutputFormat(type="json", json_schema=schema))
    assert (agreed.pairs, agreed.share) == (39, 1.0)
