"""Discovery on small generated logs: tasks are found, kept apart, named and recognised."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from curation_samples import HOME, SHOP, log_of, mixed, record, utterance

from slmfleet.curation import discover as stage
from slmfleet.curation.report import score
from slmfleet.curation.tenant import detector_of
from slmfleet.recognise import Classifier, frame_fingerprint
from slmfleet.wire.discovery import ClustersFile, DiscoveryResult

SHARED = "Name the intent of the message. Answer in JSON."


@pytest.fixture(scope="module", params=[None, SHARED], ids=["none", "shared"])
def run(request):
    log, truth = mixed(system=request.param)
    return log, truth, stage.discover(log, stage.Settings(embedder="lexical"))


def test_two_tasks_behind_one_frame_are_two_clusters(run) -> None:
    _, truth, found = run
    scores = score(truth, found.assigned)
    assert (scores.tasks_found, scores.clusters) == (2, 2)
    assert scores.purity >= 0.99
    assert scores.missed <= 0.02
    assert scores.foreign == 0


def test_a_shared_frame_is_nobodys_fingerprint(run) -> None:
    _, _, found = run
    assert [c.signature.fingerprints for c in found.clusters.clusters] == [[], []]


def test_the_format_is_a_closed_set(run) -> None:
    _, _, found = run
    for cluster in found.clusters.clusters:
        schema = cluster.output_format.json_schema
        assert schema is not None
        assert schema["required"] == ["intent"]
        assert schema["additionalProperties"] is False
        assert len(schema["properties"]["intent"]["enum"]) == 8


def asked(text, system=None):
    """A request with this user text under this system prompt."""
    messages = [{"role": "user", "content": text}]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def test_the_classifier_recognises_new_calls_and_abstains_from_others(run, request) -> None:
    _, _, found = run
    system = SHARED if "shared" in request.node.name else None
    assert found.trained is not None
    rng = random.Random(99)
    names = set()
    for forms in (HOME, SHOP):
        texts = [utterance(forms, label, rng) for label in sorted(forms) for _ in range(6)]
        labels = [found.trained.classifier.classify(asked(t, system)).label for t in texts]
        own = max(set(labels) - {None}, key=labels.count)
        names.add(own)
        assert labels.count(own) >= 0.85 * len(labels)
    assert len(names) == 2
    assert found.trained.classifier.classify(asked("Refactor the module and explain the design. " * 40)).label is None


def test_a_members_text_under_other_instructions_is_another_task(run, request) -> None:
    _, _, found = run
    system = SHARED if "shared" in request.node.name else None
    rng = random.Random(77)
    texts = [utterance(HOME, label, rng) for label in sorted(HOME) for _ in range(6)]
    translate = "Translate what the user says into French. Keep the tone."
    for other in {None, SHARED, translate} - {system}:
        told = [found.trained.classifier.classify(asked(t, other)) for t in texts]
        assert {d.label for d in told} == {None}
        assert "abstain: unknown instructions" in {d.rule for d in told}


def test_the_same_log_gives_the_same_files(run, tmp_path: Path) -> None:
    log, _, found = run
    stage.write(found, tmp_path / "a")
    stage.write(stage.discover(log, stage.Settings(embedder="lexical")), tmp_path / "b")
    for name in ("clusters.json", "assignments.jsonl", "classifier.npz", "centroids.json", "result.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_tasks_keep_their_names_when_the_next_log_comes(run, tmp_path: Path) -> None:
    _, _, found = run
    stage.write(found, tmp_path)
    log, truth = mixed(140, seed=8)
    again = stage.discover(log, stage.Settings(embedder="lexical"), stage.read_previous(tmp_path))
    assert {c.name for c in again.clusters.clusters} == {c.name for c in found.clusters.clusters}
    assert score(truth, again.assigned).purity >= 0.99


def test_a_published_classifier_lies_under_its_digest(run, tmp_path: Path) -> None:
    _, _, found = run
    result = stage.write(found, tmp_path / "out", tmp_path / "router")
    assert result.classifier is not None
    folder = result.classifier.digest.removeprefix("sha256:")
    assert result.classifier.path == f"router/{folder}/classifier.npz"
    Classifier.load(tmp_path / result.classifier.path, result.classifier.digest)
    DiscoveryResult.model_validate_json((tmp_path / "out/result.json").read_bytes())
    file = ClustersFile.model_validate_json((tmp_path / "out/clusters.json").read_bytes())
    lines = [json.loads(x) for x in (tmp_path / "out/assignments.jsonl").read_text().splitlines()]
    assert len(lines) == file.records
    assert sum(x["cluster"] is None for x in lines) == file.unassigned


def test_the_classifier_in_use_is_measured_on_the_same_held_out_calls() -> None:
    log, _ = mixed(80, broad=30)
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    assert found.trained is not None and found.trained.in_use is None
    same = stage.discover(log, stage.Settings(in_use=found.trained.classifier, embedder="lexical"))
    assert same.trained is not None
    assert same.trained.in_use == same.trained.measured
    assert same.trained.measured.members > 0


def test_only_what_an_llm_answered_can_teach(run) -> None:
    _, _, found = run
    assert all(c.teachable == c.size for c in found.clusters.clusters)
    rng = random.Random(5)
    lines = []
    for number in range(240):
        label = rng.choice(sorted(HOME))
        tier = {} if number % 4 else {"tier": "specialist", "specialist": "home", "revision": "r"}
        lines.append(record(number, [{"role": "user", "content": utterance(HOME, label, rng)}], label, **tier))
    (home,) = stage.discover(log_of(lines), stage.Settings(embedder="lexical")).clusters.clusters
    assert (home.size, home.teachable) == (240, 180)


def test_own_prompts_become_fingerprints() -> None:
    rng = random.Random(4)
    lines = []
    for number in range(300):
        forms, system = (HOME, "You run a house.") if number % 2 else (SHOP, "You help in a shop.")
        label = rng.choice(sorted(forms))
        messages = [{"role": "system", "content": system}, {"role": "user", "content": utterance(forms, label, rng)}]
        lines.append(record(number, messages, label))
    found = stage.discover(log_of(lines), stage.Settings(embedder="lexical"))
    prints = {f for c in found.clusters.clusters for f in c.signature.fingerprints}
    assert prints == {frame_fingerprint(lines[0]["request"]), frame_fingerprint(lines[1]["request"])}
    assert {c.output_format.type for c in found.clusters.clusters} == {"label"}


def test_a_log_without_tasks_gives_none_and_no_classifier(tmp_path: Path) -> None:
    log, _ = mixed(0, broad=120)
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    assert found.clusters.clusters == []
    assert stage.write(found, tmp_path).classifier is None
    assert stage.write(stage.discover(log_of([]), stage.Settings(embedder="lexical")), tmp_path).clusters.records == 0


def test_failed_and_truncated_calls_are_set_aside() -> None:
    log, _ = mixed(60, broad=0)
    broken = [
        record(900, [{"role": "user", "content": "lock the hall door"}], "", status=500),
        record(901, [{"role": "user", "content": "lock the hall door"}], "x", truncated=True),
    ]
    log.records += log_of(broken).records
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    assert found.clusters.skipped == 2
    assert set(found.assigned) == {r.id for r in log.records}


def test_examples_are_redacted() -> None:
    log, _ = mixed(80, broad=0)
    for r in log.records:
        r.request["messages"][-1]["content"] += " mail anna.berg@corp-mail.com"
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    text = found.clusters.model_dump_json()
    assert found.clusters.clusters
    assert "anna.berg" not in text
    assert "example." in text


def test_a_tenants_rules_hold_for_all_that_is_written(tmp_path: Path) -> None:
    log, _ = mixed(80, broad=0)
    for r in log.records:
        r.request["messages"][-1]["content"] += " for zebulon basalt, ticket TCK-4471"
    (tmp_path / "deny.txt").write_text("Zebulon Basalt\n", "utf-8")
    (tmp_path / "own.yaml").write_text("patterns:\n- kind: ticket\n  regex: TCK-\\d+\n", "utf-8")
    plain = stage.discover(log, stage.Settings(embedder="lexical"))
    assert "zebulon" in plain.clusters.model_dump_json()
    rules = detector_of("default", [tmp_path / "deny.txt"], tmp_path / "own.yaml")
    found = stage.discover(log, stage.Settings(embedder="lexical", detector=rules))
    stage.write(found, tmp_path / "out")
    assert found.clusters.clusters
    for file in ("clusters.json", "centroids.json", "result.json", "assignments.jsonl"):
        text = (tmp_path / "out" / file).read_text("utf-8").lower()
        assert "zebulon" not in text and "tck-4471" not in text


NAMES = ["Anna Abel", "Boris Brandt", "Clara Castro", "Dmitri Duval", "Elena Eriksen", "Farid Fontana"]
KINDS = ["refund", "exchange", "complaint"]


def extraction(count: int, listed: bool) -> list[dict[str, object]]:
    """Few names come again and again in the inputs; the kind is a label, which all inputs may list."""
    rng = random.Random(3)
    lines = []
    for number in range(count):
        name, kind = rng.choice(NAMES), rng.choice(KINDS)
        asked = f"One of {', '.join(KINDS)}. " if listed else ""
        text = f"{asked}{utterance(SHOP, 'Refund' if kind == 'refund' else 'Exchange', rng)} Yours, {name}"
        lines.append(record(number, [{"role": "user", "content": text}], json.dumps({"name": name, "kind": kind})))
    return lines


@pytest.mark.parametrize("listed", [False, True], ids=["labels not in the text", "labels listed in every text"])
def test_a_value_taken_out_of_the_text_is_no_label(listed: bool) -> None:
    found = stage.discover(log_of(extraction(300, listed)), stage.Settings(embedder="lexical"))
    (cluster,) = found.clusters.clusters
    schema = cluster.output_format.json_schema
    assert schema is not None
    assert schema["properties"] == {"name": {"type": "string"}, "kind": {"type": "string", "enum": sorted(KINDS)}}


LETTERS = [
    "Hello, my name is {name}. I ordered it {n} days ago and it never came. Where is it? My number is {order}.",
    "{name} wrote >> order {order} ;; late {n}d ;; pls check asap!!!",
    "Sehr geehrte Damen und Herren, mein Paket fehlt seit {n} Tagen. Die Nummer ist {order}. Ihr {name}",
]


def letters(asked: list[str | None]) -> list[dict[str, object]]:
    """One extraction under each of these prompts, of letters that are worded in three ways."""
    rng = random.Random(12)
    lines = []
    for number in range(240):
        name = f"{rng.choice('ABCDEFGHJK')}{rng.choice('aeiou')}{rng.choice(['lden', 'rvik', 'mbers', 'stra'])}"
        order = str(rng.randrange(10**5, 10**6))
        text = LETTERS[number % 3].format(name=name, n=rng.randrange(2, 60), order=order)
        system = asked[number % len(asked)]
        messages = [{"role": "system", "content": system}] if system else []
        answer = json.dumps({"name": name, "order": order})
        lines.append(record(number, [*messages, {"role": "user", "content": text}], answer))
    return lines


def test_one_frame_that_is_answered_with_the_same_keys_is_one_task_however_it_is_worded() -> None:
    lines = letters(["Take name and order out of the letter."])
    found = stage.discover(log_of(lines), stage.Settings(embedder="lexical"))
    (cluster,) = found.clusters.clusters
    assert cluster.size == 240
    assert cluster.signature.fingerprints == [frame_fingerprint(lines[0]["request"])]


def test_without_a_frame_wordings_are_still_told_apart() -> None:
    found = stage.discover(log_of(letters([None])), stage.Settings(embedder="lexical"))
    assert len(found.clusters.clusters) > 1
