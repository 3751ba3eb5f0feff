"""What the recipes decide without torch: weights, agreement, packing, when to stop, the picture and the card."""

import doctest
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmtrain import card, curve, data, packing, stopping
from slmtrain.errors import Refused
from slmtrain.job import METHODS, Config, read_config
from slmtrain.recipes import RECIPES, distill


def row(answer=None, **more):
    messages = [{"role": "user", "content": more.pop("asked", "play jazz")}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, **more}


def read(tmp_path, *rows, agreement=0.5):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return distill.read_weighed(path, agreement)


@pytest.mark.parametrize("module", [curve, packing, stopping, distill, data])
def test_the_worked_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_every_method_has_a_recipe():
    assert list(RECIPES) == list(METHODS)
    assert all(recipe.WRITES in ("adapter", "model") and recipe.__doc__ for recipe in RECIPES.values())


def test_recorded_answers_weigh_as_much_as_agree_with_them(tmp_path):
    examples, left_out = read(
        tmp_path, row('{"a":1}'), row('{"a": 1}'), row("no"), row("no", asked="other", weight=0.5)
    )
    assert [round(e.weight, 3) for e in examples] == [0.667, 0.667, 0.333, 0.5]
    assert left_out == 0


@pytest.mark.parametrize(
    ("samples", "answer", "weight"),
    [
        (["yes", "no", "yes"], "yes", 2 / 3),
        ([{"role": "assistant", "content": "yes"}, [{"role": "assistant", "content": "yes"}]], "yes", 1.0),
        (['{"b": 1, "a": 2}', '{"a":2,"b":1}', "x"], '{"b": 1, "a": 2}', 2 / 3),
    ],
)
def test_the_answer_that_most_samples_give_teaches(tmp_path, samples, answer, weight):
    (example,), left_out = read(tmp_path, row(None, samples=samples))
    assert (example.answer, example.weight, left_out) == (answer, pytest.approx(weight), 0)
    assert [m["role"] for m in example.messages] == ["user", "assistant"]


def test_samples_replace_the_recorded_answer(tmp_path):
    (example,), _ = read(tmp_path, row("old", completions=["new", "new"]))
    assert [m["content"] for m in example.messages] == ["play jazz", "new"]


@pytest.mark.parametrize(("samples", "agreement"), [(["a", "b"], 0.5), (["", "", "a"], 0.5), (["a", "a", "b"], 0.7)])
def test_samples_without_enough_agreement_are_left_out_and_counted(tmp_path, samples, agreement):
    examples, left_out = read(tmp_path, row("kept"), row(None, samples=samples), agreement=agreement)
    assert ([e.answer for e in examples], left_out) == (["kept"], 1)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(None, samples=[]), "line 1: `samples` must be a list"),
        (row(None, samples=[3]), "line 1: `samples`: `content` must be text"),
        (row("a", weight=0), "line 1: `weight` must be"),
        ({"samples": ["a"]}, "list of two or more"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, bad, said):
    with pytest.raises(Refused, match=said):
        read(tmp_path, bad)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 64))
def test_bins_hold_every_example_once_and_no_more_than_fits(lengths, limit):
    bins = packing.bins_of(lengths, limit)
    assert sorted(i for chosen in bins for i in chosen) == list(range(len(lengths)))
    assert all(len(chosen) == 1 or sum(lengths[i] for i in chosen) <= limit for chosen in bins)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=6), st.integers(0, 4))
def test_a_packed_row_has_each_examples_ids_positions_and_targets(sizes, frame):
    beginning = list(range(100, 100 + frame))
    examples = [
        data.Encoded(tuple(beginning + [10 * n + i for i in range(asked + answered)]), frame + asked, 0.5 + n)
        for n, (asked, answered) in enumerate(sizes)
    ]
    made = packing.pack(examples, frame)
    assert len(made.ids) == len(made.positions) == len(made.segments)
    for segment, example in enumerate(examples, 1):
        seen = [c for c, s in enumerate(made.segments) if s in (packing.SHARED, segment)]
        assert tuple(made.ids[c] for c in seen) == example.ids
        assert [made.positions[c] for c in seen] == list(range(len(example.ids)))
    wanted = [i for e in examples for i in e.ids[e.answer_start :]]
    assert made.targets == wanted
    for column, target, weight in zip(made.predicting, made.targets, made.weights, strict=True):
        owner = examples[made.segments[column] - 1]
        place = made.positions[column] + 1
        assert owner.ids[place] == target and place >= owner.answer_start and weight == owner.weight


@given(st.lists(st.integers(), max_size=40), st.integers(1, 12))
def test_pieces_are_the_share_in_order(share, count):
    pieces = data.pieces_of(share, count)
    assert [i for piece in pieces for i in piece] == share
    assert len(pieces) <= count and all(pieces)


def test_validation_takes_whole_conversations_and_the_same_ones_every_time():
    message = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    examples = [data.Example(str(i), f"c{i // 3}", message) for i in range(3000)]
    train, kept = data.split_validation(examples, 0.05, 256)
    assert {e.conversation for e in train}.isdisjoint({e.conversation for e in kept})
    assert 90 < len(kept) < 210
    assert data.split_validation(examples, 0.05, 256) == (train, kept)
    assert len(data.split_validation(examples, 0.5, 60)[1]) < 120


@pytest.mark.parametrize(
    ("config", "examples", "patience"),
    [
        (Config(), 5000, stopping.PATIENCE),
        (Config(), stopping.FEWEST_EXAMPLES - 1, 0),
        (Config(max_steps=300), 5000, 0),
        (Config(max_steps=300, patience=2), 50, 2),
        (Config(patience=0), 5000, 0),
        (Config(patience=3, validation_share=0), 5000, 0),
    ],
)
def test_when_early_stop_is_on(config, examples, patience):
    assert stopping.patience_of(config, examples) == patience


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"packing": "yes"}, "packing must be true or false"),
        ({"dtype": "float16"}, "dtype must be one of auto, float32, bfloat16"),
        ({"patience": -1}, "patience must be a whole number"),
        ({"patience": 1.5}, "patience must be a whole number"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be a number above 0"),
        ({"teacher_share": 1}, "teacher_share must be a share"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, said):
    with pytest.raises(Refused, match=said):
        read_config(json.dumps(setting))


def test_the_curve_is_a_picture_with_its_losses_and_measurements():
    losses = [3 / (1 + step / 50) for step in range(1000)]
    root = ET.fromstring(curve.svg(losses, [(100, 1.2), (200, 0.8)], 200))
    lines = [e.get("points").split() for e in root if e.tag.endswith("polyline")]
    assert [len(line) for line in lines] == [334, 334]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights), "a falling loss goes down the page"
    dots = [e.get("fill") for e in root if e.tag.endswith("circle")]
    assert dots == ["#fff", "#d45500"]


@pytest.mark.parametrize("losses", [[0.0], [float("nan")], [float("inf"), 1.0], [1e-9] * 3])
def test_the_curve_of_a_strange_training_is_still_a_picture(losses):
    ET.fromstring(curve.svg(losses, []))


def test_the_card_says_what_it_is_and_what_it_was_made_of():
    inputs = {
        "method": "dora",
        "seed": 3,
        "base_digest": "sha256:b",
        "dataset_digest": "sha256:d",
        "config": {"rank": 4},
    }
    report = {
        "examples": 90, "left_out": 2, "precision": "float32", "steps": 40, "loss": 0.1,
        "measured": [[20, 0.5], [40, 0.6]], "best_step": 20, "validation_examples": 10, "no_majority": 0,
    }  # fmt: skip
    text = card.model_card(Path("/bases/tiny"), inputs, report, "model")
    assert "library_name: transformers" in text
    assert "A DoRA, merged and written as a whole model" in text
    assert "0.5000 at step 20, whose weights these are" in text
    assert "license: unknown" in text
