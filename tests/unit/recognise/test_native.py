"""The C part of recognition does what numpy does: the same features, scores, best tasks and answers."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.recognise import Classifier, Frame, features, native
from slmfleet.recognise.classifier import Task
from slmfleet.recognise.features import BUCKETS, SYSTEM_BUCKETS
from slmfleet.recognise.native.build import build

TASKS = 7
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(max_codepoint=127), max_size=60),
    st.text(alphabet="aB9 _,\n\x1c\x85é漢\ud800", max_size=900),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def pair(built: Path) -> tuple[Classifier, Classifier]:
    """The same classifier, scored by numpy and by the library."""
    with pytest.MonkeyPatch.context() as environment:
        native.library.cache_clear()
        environment.setenv("SLMFLEET_NATIVE", "off")
        slow = made()
        native.library.cache_clear()
        environment.setenv("SLMFLEET_NATIVE", str(built))
        fast = made()
    native.library.cache_clear()
    assert slow._native is None
    assert fast._native is not None
    return slow, fast


def made() -> Classifier:
    rng = np.random.default_rng(5)
    familiar = np.where(rng.random((BUCKETS, TASKS)) < 0.3, rng.random((BUCKETS, TASKS)), -9.0)
    return Classifier.of(
        [Task(f"t{k}", min_logit=0.01 * k, min_familiarity=-7.0, prompts=None) for k in range(TASKS)],
        user=rng.normal(size=(BUCKETS, TASKS)) * (rng.random((BUCKETS, TASKS)) < np.linspace(0, 1, BUCKETS)[:, None]),
        system=rng.normal(size=(SYSTEM_BUCKETS, TASKS)),
        familiar=familiar,
        idf=rng.random(BUCKETS) + 0.5,
        bias=rng.normal(size=TASKS).astype(np.float32),
    )


@given(TEXTS, st.sampled_from(["", "Classify the text.", "Écris 12 mots."]))
def test_library_and_numpy_see_and_decide_the_same(pair: tuple[Classifier, Classifier], user: str, system: str) -> None:
    slow, fast = pair
    frame = Frame(system, user, 1, len(user))
    expected, found = slow.classify_frame(frame), fast.classify_frame(frame)
    if not user.strip():
        assert found == expected
        return
    seen = features(frame)
    assert fast._native is not None
    buckets = fast._native.found()
    assert sorted(buckets) == seen.user.tolist()
    assert np.allclose(fast._native.scores(), slow.logits(seen), atol=1e-4)
    for task in range(TASKS):
        assert fast._native.familiarity(task) == pytest.approx(slow.familiarity(seen, task), abs=1e-4)
    assert (found.label, found.runner_up, found.rule) == (expected.label, expected.runner_up, expected.rule)
    assert found.score == pytest.approx(expected.score, abs=1e-4)


def test_the_longest_text_fits(pair: tuple[Classifier, Classifier]) -> None:
    user = "漢字" * 5000
    slow, fast = pair
    assert fast.classify_frame(Frame("", user, 1, 1)).label == slow.classify_frame(Frame("", user, 1, 1)).label


def test_one_task_has_no_runner_up(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLEET_NATIVE", str(built))
    native.library.cache_clear()
    alone = Classifier.of(
        [Task("only", min_logit=-99.0)],
        user=np.ones((BUCKETS, 1)),
        system=np.zeros((SYSTEM_BUCKETS, 1)),
        familiar=np.zeros((BUCKETS, 1)),
        idf=np.ones(BUCKETS),
        bias=np.zeros(1, dtype=np.float32),
    )
    native.library.cache_clear()
    decision = alone.classify_frame(Frame("", "hello", 1, 5))
    assert (decision.label, decision.runner_up) == ("only", None)


@pytest.mark.parametrize("given", ["off", "nowhere.so"])
def test_without_the_library_numpy_does_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLEET_NATIVE", given)
    native.library.cache_clear()
    assert made()._native is None
    native.library.cache_clear()


def test_a_library_of_another_version_is_not_used(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_for = native.VERSION
    monkeypatch.setattr(native, "VERSION", 99)
    monkeypatch.setenv("SLMFLEET_NATIVE", str(built))
    native.library.cache_clear()
    assert native.library() is None
    native.library.cache_clear()
    assert ctypes.PyDLL(str(built)).slm_version() == built_for
