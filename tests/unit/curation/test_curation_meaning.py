"""Meaning: communities, how many there are, what is noise, and what discovery makes of free calls."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from curation_samples import HOME, SHOP, log_of, record, utterance
from scipy.sparse import csr_array

from slmfleet.curation import communities, consensus, embed, judge, meaning
from slmfleet.curation import discover as stage
from slmfleet.curation.calls import call_of
from slmfleet.curation.failures import CurationError
from slmfleet.curation.naming import Likeness
from slmfleet.wire.routes import OutputFormat


def blobs(count: int, each: int, spread: float = 0.08, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around `count` random centres, and whose each row is."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(count, size))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    own = np.repeat(np.arange(count), each)
    rows = centres[own] + rng.normal(scale=spread, size=(len(own), size))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), own


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


def test_two_cliques_on_a_string_are_two_communities() -> None:
    edges = [(a, b) for side in (range(5), range(5, 10)) for a in side for b in side if a < b] + [(4, 5)]
    dense = np.zeros((10, 10))
    for a, b in edges:
        dense[a, b] = dense[b, a] = 1.0
    found = communities.communities(csr_array(dense), 1.0, np.arange(10))
    assert found.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("count", [3, 12])
def test_the_number_of_meanings_is_found(count: int) -> None:
    rows, own = blobs(count, 40)
    found = meaning.meanings(rows, [1] * len(rows), min_size=5, seed=0)
    assert found.structured
    assert same_partition(found.labels, own)


def test_what_has_no_structure_is_not_cut() -> None:
    rows = np.random.default_rng(1).normal(size=(150, 48)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = meaning.meanings(rows, [1] * len(rows), min_size=5, seed=0)
    assert not found.structured
    assert set(found.labels.tolist()) == {0}


def test_a_text_near_no_other_is_noise_and_so_is_a_group_too_small() -> None:
    rows, own = blobs(5, 40)
    rng = np.random.default_rng(8)
    stray = rng.normal(size=(3, 32))
    stray /= np.linalg.norm(stray, axis=1, keepdims=True)
    rows = np.vstack([rows[own != 4], rows[own == 4][:4], stray]).astype(np.float32)
    labels = meaning.meanings(rows, [1] * len(rows), min_size=10, seed=0).labels
    assert sorted(set(labels[:160].tolist())) == [0, 1, 2, 3]
    assert set(labels[160:].tolist()) == {-1}


def test_the_rest_of_a_large_log_follows_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "SAMPLE_ROWS", 150)
    rows, own = blobs(5, 120)
    found = meaning.meanings(rows, [1] * len(rows), min_size=5, seed=0)
    assert same_partition(found.labels, own)


def test_the_bundled_model_gives_the_published_similarity() -> None:
    """0.7553 is what the documentation of sentence-transformers shows for this model and pair."""
    embedder = embed.chosen(None)
    assert embedder.name == embed.BUNDLED
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.", ""]
    rows = embedder.embed(texts)
    assert rows[0] @ rows[1] == pytest.approx(0.7553, abs=1e-3)
    assert rows[0] @ rows[2] < 0.1
    assert np.allclose(embedder.embed(texts[1:2]), rows[1:2], atol=1e-5)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_an_embedder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="EmbedderNotFound: no-such-model is no folder"):
        embed.chosen("no-such-model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_act": "relu"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CurationError, match="EmbedderNotSupported"):
        embed.chosen(str(tmp_path)).embed(["x"])


class Counting:
    name = "counting"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts):
        self.seen += texts
        return np.ones((len(texts), 2), dtype=np.float32)


def test_a_text_is_embedded_once_a_run() -> None:
    counting = Counting()
    remembering = embed.Remembering(counting)
    assert remembering.embed(["a", "b", "a"]).shape == (3, 2)
    remembering.embed(["b", "c"])
    assert counting.seen == ["a", "b", "c"]


def free_log(count: int, *, system: str | None, answer: str | None, seed: int = 0):
    """Bare messages of two applications, answered with free text or not at all."""
    rng, lines, truth = random.Random(seed), [], {}
    for number in range(count):
        forms, kind = (HOME, "home") if number % 2 else (SHOP, "shop")
        text = utterance(forms, rng.choice(sorted(forms)), rng)
        messages = [{"role": "system", "content": system}] if system else []
        fields = {} if answer else {"response": None}
        lines.append(record(number, [*messages, {"role": "user", "content": text}], answer or "", **fields))
        truth[lines[-1]["id"]] = kind
    return log_of(lines), truth


LONG_ANSWER = "Of course, I have looked into what you asked for and it is done now, is there anything else?"


@pytest.mark.parametrize(("system", "answer"), [(None, None), (None, LONG_ANSWER), ("Be kind.", LONG_ANSWER)])
def test_free_calls_are_sorted_by_meaning_and_left_with_the_llm(system: str | None, answer: str | None) -> None:
    log, truth = free_log(240, system=system, answer=answer)
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    assert found.trained is None
    assert sum(name is not None for name in found.assigned.values()) >= 0.8 * len(truth)
    for cluster in found.clusters.clusters:
        kinds = {truth[i] for i, name in found.assigned.items() if name == cluster.name}
        assert len(kinds) == 1
        assert not cluster.narrow
        assert cluster.suitability is not None
        assert (cluster.suitability.verdict, cluster.suitability.saving_tokens_percent) == ("Keep", 0.0)


def test_free_tasks_keep_their_names_and_say_how_they_moved(tmp_path: Path) -> None:
    first = stage.discover(free_log(240, system=None, answer=None)[0], stage.Settings(embedder="lexical"))
    stage.write(first, tmp_path)
    again = stage.discover(
        free_log(240, system=None, answer=None, seed=5)[0],
        stage.Settings(embedder="lexical"),
        stage.read_previous(tmp_path),
    )
    kept = [c for c in again.clusters.clusters if c.drift is not None]
    assert len(kept) >= 0.6 * len(again.clusters.clusters)
    assert all(c.drift.distance <= 0.5 for c in kept if c.drift)
    assert not any(change.narrow for change in again.clusters.changes)


def likeness(name: str, words: str, **fields) -> Likeness:
    return Likeness(name, frozenset(), frozenset(), dict.fromkeys(words.split(), 0.5), **fields)


def test_a_task_that_became_two_and_two_that_became_one_are_told() -> None:
    before = [likeness("pay", "card money bank cash"), likeness("a", "light lamp room"),
              likeness("b", "light lamp hall"), likeness("old", "ship harbour")]  # fmt: skip
    now = [likeness("pay", "card money bank cash"), likeness("paid", "card money bank"),
           likeness("a", "light lamp room hall"), likeness("fresh", "tree leaf")]  # fmt: skip
    found = {c.kind: (c.before, c.now) for c in judge.changes(now, before)}
    assert found == {
        "Split": (["pay"], ["pay", "paid"]),
        "Merged": (["a", "b"], ["a"]),
        "Gone": (["old"], []),
        "New": ([], ["fresh"]),
    }


def asked(number: int, text: str, answer: str):
    return call_of(log_of([record(number, [{"role": "user", "content": text}], answer)]).records[0])


def test_drift_is_share_distance_and_words_never_seen() -> None:
    before = [likeness("pay", "card money", share=0.5)]
    calls = [asked(0, "card money", "x"), asked(1, "galaxies swirl", "x")]
    found = judge.drift(calls, likeness("pay", "card money"), 0.25, before)
    assert found is not None
    assert (found.share_before, found.share_now, found.distance, found.noise_share) == (0.5, 0.25, 0.0, 0.5)
    assert judge.drift(calls, likeness("new", "card"), 0.25, before) is None


def judged(answers: list[str], left: str | None = None):
    calls = [asked(i, f"Turn on lamp {i}!", a) for i, a in enumerate(answers)]
    labels = OutputFormat(type="label", labels=["on", "off"])
    return judge.suitability(calls, labels, cohesion=0.8, left=left, token_share=0.4)


def test_a_task_is_specialised_where_it_is_strict_large_and_at_one_with_itself() -> None:
    found = judged(["on"] * 300)
    assert (found.verdict, found.format_share, found.agreement, found.saving_tokens_percent) == ("Specialise", 1, 1, 40)
    assert judged(["on"] * 50).verdict == "Wait"
    assert judged(["on"] * 300, left="answers are free").reason == "answers are free"
    torn = judged(["on", "off"] * 150)
    assert (torn.verdict, torn.agreement, torn.saving_tokens_percent) == ("Keep", 0.0, 0.0)
    assert "0% of 299 pairs" in torn.reason


def test_most_partitions_decide_what_is_one_group() -> None:
    cut, whole = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    assert same_partition(consensus.majority([cut, cut, whole]), cut)
    assert same_partition(consensus.majority([cut, whole, whole]), whole)
    assert same_partition(consensus.majority([np.arange(6)] * 3), np.arange(6))
    assert set(consensus.majority([np.zeros(6, dtype=np.int64)] * 2).tolist()) == {0}


def test_half_is_no_majority() -> None:
    cut, whole = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    assert same_partition(consensus.majority([cut, whole]), cut)


def test_agreement_is_one_for_the_same_and_none_for_unrelated_groups() -> None:
    own = np.repeat(np.arange(4), 50)
    other = np.random.default_rng(2).permutation(own)
    assert consensus.agreement([own, 3 - own, own]) == pytest.approx(1.0)
    assert abs(consensus.agreement([own, other])) < 0.1


def test_the_granularity_is_the_one_that_the_graphs_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both steps separate as well; at the finer one, every graph cuts elsewhere."""
    rows, own = blobs(4, 40)
    shuffled = [np.random.default_rng(i).integers(0, 2, len(own)) for i in range(5)]
    graphs = iter(range(5))
    monkeypatch.setattr(meaning, "silhouette", lambda rows, labels: 0.4)
    monkeypatch.setattr(meaning, "path", lambda graph, _: [(2.0, own * 2 + shuffled[next(graphs)]), (1.0, own)])
    found = meaning.meanings(rows, [1] * len(rows), min_size=5, seed=0)
    assert same_partition(found.labels, own)
