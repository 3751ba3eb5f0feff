"""The shared part of recognition: frames, features, the classifier's file and its abstentions."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slmfleet.recognise import Classifier, Frame, features, frame_fingerprint, frame_of, template_of
from slmfleet.recognise.classifier import Task
from slmfleet.recognise.features import BUCKETS, SYSTEM_BUCKETS
from slmfleet.recognise.frame import _VARIABLE
from slmfleet.recognise.memory import Memory
from slmfleet.recognise.weights import Familiar, Scores


def chat(text: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    return {"model": "m", "messages": [*messages, {"role": "user", "content": text}], **more}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Today is 2026-03-02. Classify.", "Today is 2025-12-31. Classify."),
        ("Session 8f3a-99 of anna@example.com", "Session 7b21-10 of li@example.org"),
        ('The user is "Anna Berg". Answer.', 'The user is "Omar". Answer.'),
        ("It is Monday, March 3, 2026.", "It is Friday, June 12, 2026."),
        ("See https://example.com/a/1 now", "See https://example.org/b now"),
        ("Two  spaces\nand lines", "Two spaces and lines"),
    ],
)
def test_variables_of_a_system_prompt_do_not_change_its_fingerprint(one: str, two: str) -> None:
    assert frame_fingerprint(chat("x", one)) == frame_fingerprint(chat("y", two))


@pytest.mark.parametrize(
    "other",
    [
        chat("x", "Translate."),
        chat("x"),
        chat("x", "Classify.", tools=[{"type": "function", "function": {"name": "look"}}]),
        chat("x", "Classify.", response_format={"type": "json_object"}),
    ],
)
def test_another_prompt_tool_or_format_is_another_frame(other: dict[str, Any]) -> None:
    assert frame_fingerprint(chat("x", "Classify.")) != frame_fingerprint(other)


@pytest.mark.parametrize(
    "body",
    [
        {
            "messages": [
                {"role": "developer", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "U"}]},
            ]
        },
        {"instructions": "S", "input": "U"},
        {"instructions": "S", "input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}]},
        {"system": [{"type": "text", "text": "S"}], "messages": [{"role": "user", "content": "U"}]},
    ],
)
def test_every_api_gives_the_same_frame(body: dict[str, Any]) -> None:
    frame = frame_of(body)
    assert (frame.system, frame.user, frame.messages) == ("S", "U", 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "tools",
                    "function",
                    "name",
                    "response_format",
                    "input",
                    "prompt",
                    "text",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_body_makes_recognition_fail(body: Any) -> None:
    frame = frame_of(body)
    features(frame)
    assert toy().classify_frame(frame).rule


@given(st.text(max_size=300))
def test_features_are_sorted_distinct_bucket_numbers(text: str) -> None:
    found = features(Frame(user=text)).user
    assert (np.diff(found) > 0).all()
    assert len(found) == 0 or (found[0] >= 0 and found[-1] < BUCKETS)


@given(st.text(max_size=200))
def test_a_template_is_its_own_template(text: str) -> None:
    assert template_of(template_of(text)) == template_of(text)


@given(
    st.lists(
        st.sampled_from(
            ["x", "1", "20261", " ", ".", ",", "'", '"', "@", "+", "\n", "\r", "\t", "march ", "3 mar", "dec."]
        ),
        max_size=12,
    )
)
def test_a_prompt_looked_at_line_by_line_has_the_template_of_the_whole(parts: list[str]) -> None:
    text = "".join(parts)
    assert template_of(text) == " ".join(_VARIABLE.sub("§", text.lower()).split())


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    seen: list[str] = []

    def upper(text: str) -> str:
        seen.append(text)
        return text.upper()

    remembered = Memory[str](upper, 5_000)
    assert [remembered(text) for text in ("a", "b", "a")] == ["A", "B", "A"]
    assert seen == ["a", "b"]
    for number in range(100):
        remembered(f"{number:0100}")
        remembered("a")
    assert len(remembered) <= 5_000 / 200
    assert seen.count("a") == 1, "what is asked for again and again stays"
    assert remembered("b") == "B"
    assert seen.count("b") == 2
    assert remembered("x" * 6_000) == "X" * 6_000
    assert len(remembered) == 0, "what is larger than the bound is not kept"


def test_weights_that_are_next_to_nothing_are_dropped_and_no_others() -> None:
    weights = np.zeros((BUCKETS, 11), dtype=np.float32)
    weights[[1, 2, 3, 9], 0] = [127.0, 1.4, -1.6, -50.0]
    weights[[2, 9], 1] = [-1.27, 0.02]
    weights[4, :7] = [1.0, 1.27, 0.5, 0.5, 0.0, -0.5, 0.5]
    kept = Scores.of(weights)
    assert kept.fits(BUCKETS, 11)
    assert kept.tasks.tolist() == [0, 1, 0, 0, 1]
    assert kept.steps.tolist() == [127, -127, -2, -50, 2]
    assert kept.whole.tolist() == [[0, 127, 127, 127, 0, -127, 127, 0, 0, 0, 0]], "a row of many tasks' weights"
    for bucket in (0, 1, 2, 3, 4, 9):
        exact = np.where(np.abs(weights[bucket]) < 1.5 * kept.scale, 0, weights[bucket])
        found = kept.weighted(np.array([bucket]), np.ones(1, dtype=np.float32))
        assert np.allclose(found, exact, atol=kept.scale.max() / 2)
    assert len(Scores.of(weights, least=1).tasks) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": np.array([0, 1, 2, 7], dtype=np.uint16)},
        {"steps": np.array([1, 2], dtype=np.int8)},
        {"starts": np.array([0, 1, 2, 3])},
        {"starts": np.array([0, 2, 1, 3, 4, 4])},
        {"starts": np.array([0, 1, 2, 9, 3, 4])},
        {"starts": np.array([1, 1, 2, 3, 4, 4])},
        {"whole": np.ones((0, 7), dtype=np.int8)},
        {"whole": np.ones((1, 6), dtype=np.int8)},
        {"place": np.array([-1, -1, -1, -1, 1], dtype=np.int32)},
        {"place": np.array([-1, -1, -1, 0], dtype=np.int32)},
        {"scale": np.ones(2, dtype=np.float32)},
    ],
)
def test_arrays_that_do_not_belong_together_do_not_fit(wrong: dict[str, Any]) -> None:
    weights = np.eye(5, 7, dtype=np.float32)
    weights[4] = 1.0
    whole = Scores.of(weights)
    assert whole.fits(5, 7)
    assert (len(whole.tasks), len(whole.whole)) == (4, 1)
    assert not replace(whole, **wrong).fits(5, 7)


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_byte_a_weight_keeps_scores_to_the_second_digit(tasks: int) -> None:
    rng = np.random.default_rng(tasks)
    weights = rng.normal(0, 1, (BUCKETS, tasks)).astype(np.float32)
    weights[:, 0] *= 5
    buckets = np.arange(0, BUCKETS, 200)
    weight = np.full(len(buckets), 1 / np.sqrt(len(buckets)), dtype=np.float32)
    exact = weight @ weights[buckets]
    assert np.allclose(Scores.of(weights).weighted(buckets, weight), exact, atol=0.1)


def test_familiarity_is_the_mean_over_used_and_unused_buckets() -> None:
    dense = np.full((BUCKETS, 2), -4.0, dtype=np.float32)
    dense[[3, 7, 65_535], 0] = [-1.0, -0.5, -2.0]
    kept = Familiar.of(dense)
    for buckets in ([3], [3, 4], [7, 65_535], [0, 1], []):
        found = np.array(buckets, dtype=np.int64)
        for task in (0, 1):
            expected = dense[found, task].mean() if buckets else -4.0
            assert kept.mean(found, task) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_earlier_format_decides_the_same(tmp_path: Path, version: int) -> None:
    ours = toy()
    dense = np.full((BUCKETS, 2), -5.0)
    for k in (0, 1):
        own = slice(ours.familiar.starts[k], ours.familiar.starts[k + 1])
        dense[ours.familiar.buckets[own], k] += ours.familiar.steps[own] * ours.familiar.step[k]
    header = {"format": f"slmfleet/classifier/v{version}", "margin": 0.0, "tasks": [asdict(t) for t in ours.tasks]}
    del header["tasks"][1]["min_familiarity"]
    packed = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    arrays = {"idf": ours.idf.astype(np.float16), "bias": ours.bias, "header": packed}
    user, system = every_step(ours.user), every_step(ours.system)
    if version == 1:
        arrays |= {"user": (user * ours.user.scale).astype(np.float16), "familiar": dense.astype(np.float16)}
        arrays |= {"system": (system * ours.system.scale).astype(np.float16)}
    else:
        arrays |= {"user": user, "user_scale": ours.user.scale, "system": system, "system_scale": ours.system.scale}
        arrays |= {f"familiar_{part.name}": getattr(ours.familiar, part.name) for part in fields(Familiar)}
    np.savez(tmp_path / "old.npz", **arrays)
    loaded = Classifier.load(tmp_path / "old.npz", None)
    for text in ("play music", "my card", "tell me about giraffes"):
        ours_says, old_says = toy().classify(chat(text)), loaded.classify(chat(text))
        assert (old_says.label, old_says.rule) == (ours_says.label, ours_says.rule)


def every_step(scores: Scores) -> NDArray[np.int8]:
    """Buckets x tasks, as earlier formats had them."""
    dense = np.zeros((len(scores.starts) - 1, len(scores.scale)), dtype=np.int8)
    dense[np.repeat(np.arange(len(dense)), np.diff(scores.starts)), scores.tasks] = scores.steps
    dense[scores.place >= 0] = scores.whole[scores.place[scores.place >= 0]]
    return dense


def toy(**task: Any) -> Classifier:
    """Two tasks: texts with "play music", texts with "my card"."""
    user = np.zeros((BUCKETS, 2), dtype=np.float32)
    for k, text in enumerate(("play music", "my card")):
        user[features(Frame(user=text)).user, k] = 6.0
    familiar = np.where(user > 0, 0.0, -5.0).astype(np.float32)
    tasks = [Task("music", **({"min_familiarity": -4.5, "max_messages": 2} | task)), Task("card", max_messages=2)]
    return Classifier.of(
        tasks,
        idf=np.ones(BUCKETS, dtype=np.float32),
        user=user,
        system=np.zeros((SYSTEM_BUCKETS, 2), dtype=np.float32),
        bias=np.array([-4.0, -4.0], dtype=np.float32),
        familiar=familiar,
    )


@pytest.mark.parametrize(
    ("body", "label", "rule"),
    [
        (chat("play music"), "music", "classifier"),
        (chat("my card"), "card", "classifier"),
        (chat("tell me about giraffes"), None, "abstain: low score"),
        (chat(""), None, "abstain: no user text"),
        (chat("play music", tools=[{"function": {"name": "f"}}]), None, "abstain: unknown tools"),
        ({"messages": [{"role": "user", "content": "play music"}] * 3}, None, "abstain: unknown messages"),
    ],
)
def test_the_rule_says_why(body: dict[str, Any], label: str | None, rule: str) -> None:
    decision = toy(tools=((),)).classify(body)
    assert (decision.label, decision.rule) == (label, rule)


def test_a_saved_classifier_decides_the_same_and_has_one_digest(tmp_path: Path) -> None:
    first, second = toy().save(tmp_path / "a.npz"), toy().save(tmp_path / "b.npz")
    assert first == second
    loaded = Classifier.load(tmp_path / "a.npz", first)
    assert loaded.classify(chat("play music")) == toy().classify(chat("play music"))
    assert loaded.to_bytes() == toy().to_bytes()


def test_other_bytes_than_the_digest_promises_are_refused(tmp_path: Path) -> None:
    digest = toy().save(tmp_path / "a.npz")
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[100] ^= 1
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="digest is sha256:"):
        Classifier.load(tmp_path / "a.npz", digest)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY"])
def test_what_is_no_classifier_is_refused_with_its_path(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.npz"):
        Classifier.load(tmp_path / "x.npz", None)


@pytest.mark.parametrize(
    ("prompt", "known"),
    [((1, 2, 3, 4), True), ((1, 2, 3, 9), True), ((1, 2, 8, 9), False), ((), False)],
)
def test_a_task_knows_prompts_that_share_enough_words(prompt, known) -> None:
    assert Task("t", prompts=((1, 2, 3, 4),), min_prompt=0.5).knows(prompt) is known


def test_a_task_without_system_prompts_knows_only_none() -> None:
    task = Task("t", prompts=((),), min_prompt=0.5)
    assert task.knows(())
    assert not task.knows((1,))
    assert Task("older file").knows((1, 2))
