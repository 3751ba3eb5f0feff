"""The model that ships: what it finds, how it is called, and who else may take its place."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.curation.detect import Detector, plausible
from slmfleet.curation.entities import DEFAULT, KINDS, EntityModel, default_model, features_of, tokens_of
from slmfleet.curation.failures import CurationError
from slmfleet.curation.models import default_detector, model_of
from slmfleet.curation.spans import Span
from slmfleet.curation.tenant import deny_list, detector_of, rules_of, tenant_patterns

FOUND = [
    ("Yesterday I had lunch with Ottilie Brandvold and her brother.", "Ottilie Brandvold"),
    ("The report was written by Takumi Fujimori in May.", "Takumi Fujimori"),
    ("Is Svetlana coming to the party?", "Svetlana"),
    ("We moved to Ljubljana two years ago.", "Ljubljana"),
    ("She works for Wexford Analytics Ltd in Dublin.", "Wexford Analytics Ltd"),
    ("Please deliver it to 27 Harcourt Road, Leeds.", "27 Harcourt Road, Leeds"),
    ("Ich wohne in der Lindenstraße 14 in Hamburg.", "Lindenstraße 14"),
    ('{"customer": "Maria Lopez", "city": "Sevilla"}', "Maria Lopez"),
    ("the parcel for john whitfield never came", "john whitfield"),
]
PLAIN = [
    "How do I change the password of my account?",
    "The results show that short prompts are cheaper than long ones.",
    "Return a JSON object with the keys intent and score.",
    "My card was declined at the cash machine, what should I do?",
    "## Next Steps\n- Write the tests\n- Update the documentation",
    "def total(prices):\n    return sum(prices)",
]


def values(text: str) -> list[str]:
    return [s.value for s in default_detector().find([text])[0]]


@pytest.mark.parametrize(("text", "value"), FOUND)
def test_what_nothing_announces_is_found_by_the_model(text: str, value: str) -> None:
    covered = {i for s in default_detector().find([text])[0] for i in range(s.start, s.end)}
    at = text.index(value)
    assert covered >= {i for i in range(at, at + len(value)) if text[i].isalnum()}


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_without_personal_data_stays(text: str) -> None:
    assert values(text) == []


@given(st.lists(st.text(max_size=80), max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_texts_give_ordered_spans_that_say_what_they_cover(texts: list[str]) -> None:
    found = default_detector().find(texts)
    assert len(found) == len(texts)
    for text, spans in zip(texts, found, strict=True):
        assert all(a.end <= b.start for a, b in pairwise(spans))
        assert all(text[s.start : s.end] == s.value and s.value for s in spans)


def test_a_text_gets_the_same_labels_alone_and_in_a_batch() -> None:
    texts = [t for t, _ in FOUND] + PLAIN
    together = default_model().spans(texts)
    assert together == [default_model().spans([t])[0] for t in texts]
    assert together == EntityModel.load().spans(texts)


def test_a_text_longer_than_a_batch_is_read_to_its_end() -> None:
    text = "The weather is fine. " * 2_500 + "It was written by Takumi Fujimori in May."
    assert "Takumi Fujimori" in values(text)


def test_the_weights_are_small_and_hold_no_words() -> None:
    assert DEFAULT.stat().st_size < 5_000_000
    with np.load(DEFAULT, allow_pickle=False) as file:
        assert {file[k].dtype.kind for k in file.files} <= {"i", "f"}


def test_tokens_are_runs_of_letters_runs_of_digits_and_marks() -> None:
    tokens = tokens_of("Anna's A12\n3")
    assert [k[2:] for k in tokens.keys] == ["Anna", "'", "s", "A", "\x0012", "\x0011"]
    assert [k[1] for k in tokens.keys] == ["^", "=", "=", " ", "=", "^"]
    assert len(features_of(tokens.keys[0])) > len(features_of(tokens.keys[1]))


@pytest.mark.parametrize(
    ("kind", "value", "is_one"),
    [
        ("phone", "150", False),
        ("phone", "0170 123 45 67", True),
        ("record_number", "2023", True),
        ("record_number", "12", False),
        ("name", "something", False),
        ("name", "Quandt", True),
        ("date_of_birth", "2022", False),
        ("address", "7UM9YTHJYHo7Ipr2Hgreawb09Xx0KovgzBSgJYpqRNwVRFTf", False),
    ],
)
def test_what_a_model_guesses_must_have_the_form_of_its_kind(kind: str, value: str, is_one: bool) -> None:
    assert plausible(Span(0, len(value), kind, value)) is is_one


class Everything:
    """A model that takes every word for a name."""

    def spans(self, texts: list[str]) -> list[list[tuple[int, int, str]]]:
        return [[(0, len(t), "name")] for t in texts]


def test_keys_of_objects_and_kept_words_are_never_taken() -> None:
    detector = Detector(Everything(), keep=frozenset({"playmusic"}))
    found = detector.find(['{"Owner": "Quandt", "intent": "PlayMusic"}'])[0]
    assert [s.value for s in found] == ["Quandt"]


def test_a_pattern_with_a_checksum_beats_the_model() -> None:
    found = Detector(Everything()).find(["Quandt 4111 1111 1111 1111 Xaver"])[0]
    assert [(s.kind, s.value) for s in found] == [
        ("name", "Quandt"),
        ("card", "4111 1111 1111 1111"),
        ("name", "Xaver"),
    ]


def test_a_tenants_rules_come_first(tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("# ours\nProject Basalt\nZeta-9\tproject\n", "utf-8")
    (tmp_path / "own.yaml").write_text("patterns:\n- kind: ticket\n  regex: 'TCK-(?P<v>[0-9]+)'\n", "utf-8")
    detector = detector_of("none", [tmp_path / "deny.txt"], tmp_path / "own.yaml")
    found = detector.find(["see project basalt, ZETA-9 and TCK-4471"])[0]
    assert [(s.kind, s.value) for s in found] == [
        ("deny_list", "project basalt"),
        ("project", "ZETA-9"),
        ("ticket", "4471"),
    ]


def test_a_report_says_what_was_asked_for_and_nothing_of_the_denied_values(tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("Project Basalt\n", "utf-8")
    (tmp_path / "more.txt").write_text("Zeta-9\nEta\u20281\n", "utf-8")
    (tmp_path / "own.yaml").write_text("patterns:\n- kind: ticket\n  regex: 'TCK-[0-9]+'\n", "utf-8")
    both = rules_of(detector_of("none", [tmp_path / "deny.txt", tmp_path / "more.txt"], tmp_path / "own.yaml"))
    assert (both.model, both.denied, both.patterns) == ("none", 3, ["ticket"])
    assert both.digest == rules_of(detector_of("none", (), tmp_path / "own.yaml")).digest
    assert both.digest != rules_of(detector_of("none")).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patterns:\n- kind: X\n  regex: a\n", "patterns.0.kind"),
        ("patterns:\n- kind: x\n  regex: '('\n", "patterns.0.regex"),
        ("patterns:\n- kind: x\n  regex: 'a*'\n", "matches the empty text"),
        ("patterns:\n- kind: x\n  regex: a\n  color: red\n", "patterns.0.color"),
        ("pattern: []\n", "pattern"),
        ("a: [", "--patterns"),
    ],
)
def test_a_file_of_patterns_is_refused_by_the_name_of_its_fault(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.yaml").write_text(text, "utf-8")
    with pytest.raises(CurationError, match="PatternsInvalid") as raised:
        tenant_patterns(tmp_path / "own.yaml")
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("line", ["x", "!!!", "value\tBad Kind"])
def test_a_deny_list_is_refused_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "deny.txt").write_text(f"fine value\n{line}\n", "utf-8")
    with pytest.raises(CurationError, match=r"DenyListInvalid: .* line 2"):
        deny_list(tmp_path / "deny.txt")
    with pytest.raises(CurationError, match="RulesNotReadable"):
        deny_list(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("flair:big", "ModelUnknown"),
        ("spacy", "ModelUnknown"),
        ("gliner:some/model", "ModelMissing: --model gliner:some/model: gliner is not installed"),
        ("spacy:en_core_web_sm", "ModelMissing: --model spacy:en_core_web_sm: spacy is not installed"),
    ],
)
def test_a_model_that_is_not_there_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(CurationError, match=reason):
        model_of(setting)


def test_models_of_other_libraries_are_asked_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spacy.py").write_text(
        "class Ent:\n"
        "    def __init__(self, a, b, k): self.start_char, self.end_char, self.label_ = a, b, k\n"
        "class Doc:\n"
        "    ents = [Ent(0, 5, 'PERSON'), Ent(6, 8, 'CARDINAL')]\n"
        "def load(name):\n"
        "    if name != 'tiny': raise OSError(\"[E050] Can't find model 'x'.\")\n"
        "    return lambda text: Doc()\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = model_of("spaCy:tiny")
    assert model is not None and model.spans(["Xaver 12"]) == [[(0, 5, "name")]]
    with pytest.raises(CurationError, match="ModelMissing: --model spacy:other: other could not be read"):
        model_of("spacy:other")
    monkeypatch.delitem(__import__("sys").modules, "spacy")
    assert model_of("none") is None


def test_the_kinds_of_the_model_are_those_that_surrogates_know() -> None:
    from slmfleet.curation.surrogates import MAKERS

    assert set(KINDS) - set(MAKERS) == {"record_number"}
