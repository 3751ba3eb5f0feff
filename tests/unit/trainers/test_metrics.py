"""What counts as right: labels, fields, text, code, and which of them a dataset asks for."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmtrain import metrics
from slmtrain.metrics import code, fields, label, text
from slmtrain.metrics.form import form_of
from slmtrain.metrics.reference import Call, Reference

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("module", [code, fields, label, text], ids=lambda module: module.__name__)
def test_the_worked_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted and result.failed == 0


@pytest.mark.parametrize(
    ("metric", "answer", "recorded", "score"),
    [
        ("exact", '{"intent": "A"}', '{"intent":"A"}', 0),
        ("exact", "a", "a", 1),
        ("label", '{"intent": "A"}', '{"intent":"A"}', 1),
        ("label", '{"intent":"B"}', '{"intent":"A"}', 0),
        ("label", '{"intent":"A"} and more', '{"intent":"A"}', 0),
        ("label", "yes ", "yes", 1),
        ("label", "1", "true", 0),
        ("fields", '{"a":1,"b":{"c":2}}', '{"a":1,"b":{"c":3}}', 0.5),
        ("fields", "no json", '{"a":1}', 0),
        ("fields", "{}", "{}", 1),
        ("fields", "[]", "{}", 0),
        ("fields", '{"a":1}', "{}", 0),
        ("fields", '{"a":[1,2,2]}', '{"a":[2,1,2]}', 1),
        ("fields", '{"a":[1,2]}', '{"a":[1,2,2]}', 0.8),
        ("fields", '{"a":1.0}', '{"a":1}', 1),
        ("fields", '{"a":true}', '{"a":1}', 0),
        ("fields", '{"a":"1"}', '{"a":1}', 0),
        ("fields", '{"a":null,"b":1}', '{"b":1}', 2 / 3),
        ("fields", '[{"n":"x","v":2},{"n":"y","v":1}]', '[{"n":"y","v":1},{"n":"x","v":2}]', 1),
        ("fields", '[{"n":"x","v":1},{"n":"y","v":2}]', '[{"n":"y","v":1},{"n":"x","v":2}]', 0.5),
        ("fields", "same text", "same text", 1),
        ("code", "def f(a):\n    return (a)  # x", "def f( a ): return a", 1),
        ("code", "def f(b): return b", "def f(a): return a", 0),
        ("code", "def f(a: return a", "def f(a): return a", 0),
        ("code", "Here it is:\n```python\nimport os\n```\nDone.", "import os", 1),
        ("code", "SELECT a,b FROM t WHERE x = 1;", "SELECT a, b\nFROM t\nWHERE x=1", 1),
        ("code", "SELECT a FROM t", "SELECT b FROM t", 0),
        ("text", "", "", 1),
        ("text", "", "a", 0),
        ("rouge_l", "你好 世界", "你好世界", 1),
        ("rouge_l", "one two three", "three two one", 1 / 3),
    ],
)
def test_what_counts_as_right(metric, answer, recorded, score):
    assert metrics.SCORES[metric](answer, Reference(recorded)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "recorded", "chrf", "rouge"),
    [  # sacrebleu 2.6 (sentence chrF2, its defaults) and rouge-score 0.1.2 (no stemming) on the same pairs
        ("the cat sat on the mat", "the cat is on the mat", 0.645779420625287, 0.8333333333333334),
        ("Refund approved.", "Your refund was approved.", 0.4837724924720154, 0.6666666666666666),
        ("x", "completely different", 0.0, 0.0),
        ("Die Rechnung ist bezahlt", "Die Rechnung wurde bezahlt", 0.6368803577423129, 0.75),
        ("a", "ab", 0.5555555555555556, 0.0),
    ],
)
def test_text_is_compared_as_the_published_programs_do(answer, recorded, chrf, rouge):
    assert text.chrf(answer, recorded) == pytest.approx(chrf)
    assert text.rouge_l(answer, recorded) == pytest.approx(rouge)


@pytest.mark.parametrize("metric", [name for name in metrics.METRICS if name != "tool_call"])
def test_an_accepted_answer_is_as_right_as_the_recorded_one(metric):
    right = ('{"a": 1, "b": 2}', '{"a": 5, "b": 6}')
    reference = Reference(right[0], accepted=right[1:])
    assert [metrics.SCORES[metric](answer, reference) for answer in right] == [1, 1]
    assert metrics.SCORES[metric]("{}", reference) < 1


@given(JSON, JSON)
def test_field_f1_is_symmetric_bounded_and_one_only_for_the_same_fields(got, want):
    forth, back = fields.field_f1(got, want), fields.field_f1(want, got)
    assert 0 <= forth <= 1
    if isinstance(got, type(want)) and isinstance(want, type(got)):
        assert forth == pytest.approx(back)
    assert fields.field_f1(want, want) == 1
    if forth == 1:
        assert fields.count(got) == fields.count(want)


@given(st.text(max_size=40), st.text(max_size=40))
def test_similarity_is_bounded_and_one_for_the_same_text(one, other):
    for similarity in (text.chrf, text.rouge_l):
        assert 0 <= similarity(one, other) <= 1 + 1e-9
        assert similarity(one, one) == pytest.approx(1)


def test_macro_f1_weighs_a_rare_label_as_much_as_a_common_one():
    common = [(True, "a", "a")] * 98
    assert label.macro_f1([*common, (False, "a", "b"), (False, "a", "b")]) == pytest.approx((2 * 98 / 198) / 2)
    assert label.macro_f1([*common, (True, "b", "b"), (True, "b", "b")]) == 1


def test_a_wrong_answer_with_the_recorded_labels_name_is_wrong_in_macro_f1_too():
    """A label in another JSON form reads like the recorded one, and is wrong by accuracy."""
    judged = label.judged('{"label":"A"}', Reference('{"intent":"A"}'))
    assert judged == (False, "A", "A")
    assert label.macro_f1([judged]) == 0


CALLED = Reference("", (Call("f", {}),))


@pytest.mark.parametrize(
    ("references", "metric"),
    [
        ([Reference('{"intent":"A"}'), Reference('{"intent":"B"}')], "label"),
        ([Reference('{"a":1,"b":2}'), Reference('{"a":1,"b":3}')], "fields"),
        ([Reference("[1]"), Reference("[2, 3]")], "fields"),
        ([Reference(t) for t in ("yes", "no", "yes", "no", "yes", "no", "yes", "yes")], "label"),
        ([Reference(f"a long answer that is never the same {n}" * 3) for n in range(9)], "text"),
        ([Reference(f"def f(x):\n    return x + {n}") for n in range(9)], "code"),
        ([Reference(f"```sql\nselect {n}\n```") for n in range(9)], "code"),
        ([CALLED, Reference("Hello, how can I help?")], "tool_call"),
        ([CALLED] + [Reference(f"some text {n} " * 9) for n in range(20)], "text"),
        ([], "label"),
    ],
)
def test_the_metric_follows_the_form_of_the_recorded_answers(references, metric):
    assert metrics.choose(references) == metric


TASK = {
    "label": ['{"intent":"A"}', '{"intent":"B"}'],
    "macro_f1": ["yes", "no"],
    "fields": ['{"a":1,"b":2}', '{"a":1}', '{"a":5,"b":1,"c":[]}'],
    "code": ["y = 2"],
    "text": ["text"],
    "exact": ['{"a":1}'],
}


@pytest.mark.parametrize(
    ("metric", "answer", "valid"),
    [
        ("label", '{"intent":"B"}', True),
        ("label", '{"intent":"unheard of"}', False),
        ("label", '{"label":"A"}', False),
        ("label", "A", False),
        ("macro_f1", "no ", True),
        ("macro_f1", "maybe", False),
        ("macro_f1", "", False),
        ("fields", '{"a":9,"c":[1]}', True),
        ("fields", '{"b":9}', False),
        ("fields", '{"a":9,"d":1}', False),
        ("fields", '{"a":9', False),
        ("code", "x = 1", True),
        ("code", "x = = 1", False),
        ("text", "other", True),
        ("text", " ", False),
        ("exact", '{"b":1}', False),
    ],
)
def test_form_is_judged_apart_from_content(metric, answer, valid):
    recorded = [Reference(text) for text in TASK[metric]]
    assert metrics.well_formed(metric, answer, recorded[0], form_of(recorded)) is valid


def test_a_key_that_nearly_every_answer_has_is_required():
    recorded = [Reference('{"a":1,"b":1}')] * 99 + [Reference('{"a":1}')]
    form = form_of(recorded)
    assert (form.required, form.allowed) == ({"a", "b"}, {"a", "b"})


def test_every_metric_that_is_shown_beside_another_exists():
    assert set(metrics.SHOWN) == set(metrics.METRICS)
    assert {name for shown in metrics.SHOWN.values() for name in shown} <= set(metrics.METRICS)
    assert json.dumps(metrics.METRICS)


LONG = {
    "text": ("word " * 20_000, "sword " * 20_000),
    "rouge_l": ("a b c " * 5_000, "c b a " * 5_000),
    "fields": (json.dumps(list(range(20_000))), json.dumps(list(range(1, 20_001)))),
    "label": ("x" * 200_000, "y"),
    "code": ("(" * 50_000, "x = 1"),
    "tool_call": ("[" * 90_000, '{"name": "f", "arguments": {}}'),
}


@pytest.mark.parametrize("metric", LONG)
def test_a_long_answer_is_scored_like_any_other(metric):
    """Tens of thousands of words, fields or brackets: nothing here may be quadratic, or end the process."""
    answer, recorded = LONG[metric]
    assert 0 <= metrics.SCORES[metric](answer, Reference(recorded, (Call("f", {}),))) <= 1
