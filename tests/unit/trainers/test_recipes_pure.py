"""What the recipes decide without torch: weights, agreement, packing, when to stop, the picture and the card."""

import doctest
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmtrain import card, curve, data, files, memory, packing, stopping, train
from slmtrain.errors import Refused
from slmtrain.job import METHODS, Config, read_config
from slmtrain.recipes import RECIPES, distill, writes


def row(answer=None, **more):
    messages = [{"role": "user", "content": more.pop("asked", "play jazz")}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, **more}


def read(tmp_path, *rows, agreement=0.5):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return distill.read_weighed(path, agreement)


@pytest.mark.parametrize("module", [curve, packing, stopping, distill, data, memory])
def test_the_worked_examples_in_the_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


def test_every_method_has_a_recipe():
    assert list(RECIPES) == list(METHODS)
    assert all(recipe.WRITES in ("adapter", "model") and recipe.__doc__ for recipe in RECIPES.values())


def test_what_a_recipe_would_write_whole_can_be_an_adapter():
    written = {name: (writes(name, extract_adapter=False), writes(name, extract_adapter=True)) for name in RECIPES}
    adapter, model = ("adapter", "adapter"), ("model", "adapter")
    assert written == {"lora": adapter, "qlora": adapter, "dora": model, "full": model, "distill": adapter}
    assert [name for name, recipe in RECIPES.items() if hasattr(recipe, "changes")] == ["dora", "full"]


@pytest.mark.parametrize("method", ["lora", "qlora", "distill"])
def test_an_adapter_is_not_extracted_from_an_adapter(tmp_path, monkeypatch, method):
    places = [f"--dataset={tmp_path / 'data'}", f"--base={tmp_path / 'base'}", f"--out={tmp_path / 'out'}"]
    monkeypatch.setattr("sys.argv", ["train", *places, "--method", method, "--extract-adapter"])
    with pytest.raises(Refused, match=f"--extract-adapter is for --method full or dora; {method} writes an adapter"):
        train.main()


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({}, False),
        ({"extract_adapter": True}, True),
        ({"extract_adapter": True, "seed": 4}, False),
        ({"extract_adapter": True, "teacher_digest": "sha256:t"}, False),
    ],
)
def test_finished_work_is_known_by_all_it_was_made_of(tmp_path, asked, same):
    made = {"method": "full", "seed": 3, "config": {"rank": 4}, "base_digest": "b", "dataset_digest": "d"}
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    result = {**made, "extract_adapter": True, "artifact_digest": files.artifact_digest(tmp_path)}
    files.write_json(tmp_path / files.RESULT, result)
    assert train.finished(tmp_path, {**made, **asked}) == (result if same else None)


def test_full_fine_tuning_that_has_no_chance_is_refused_with_its_figures():
    enough = 2 * memory.least_bytes(1_000_000_000, 600_000_000)
    memory.refuse_too_large(1_000_000_000, 600_000_000, 2, enough, "this container")
    memory.refuse_too_large(1_000_000_000, 600_000_000, 2, None, "this container")
    with pytest.raises(Refused) as refusal:
        memory.refuse_too_large(1_000_000_000, 600_000_000, 2, enough - 1, "this container")
    assert (refusal.value.reason, refusal.value.retry) == ("TooLarge", False)
    assert "(600,000,000 of them trained) by 2 workers needs 20.9 GiB" in refusal.value.message
    assert "this container has 20.9 GiB" in refusal.value.message


@pytest.mark.parametrize(
    ("limits", "bytes_"),
    [
        ({}, 8 << 30),
        ({"memory.max": "4294967296\n"}, 4 << 30),
        ({"memory.max": "max\n"}, 8 << 30),
        ({"memory/memory.limit_in_bytes": "2147483648\n"}, 2 << 30),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 << 30),
    ],
)
def test_the_limit_is_the_containers_or_the_machines(tmp_path, limits, bytes_):
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemTotal:        8388608 kB\n", "utf-8")
    (tmp_path / "memory").mkdir()
    for name, text in limits.items():
        (tmp_path / name).write_text(text, "utf-8")
    assert memory.host_limit(tmp_path, tmp_path / "meminfo") == bytes_


def test_where_nothing_says_how_much_there_is_nothing_is_refused(tmp_path):
    assert memory.host_limit(tmp_path, tmp_path / "absent") is None


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


def made_of(method):
    return {
        "method": method,
        "seed": 3,
        "base_digest": "sha256:b",
        "dataset_digest": "sha256:d",
        "config": {"rank": 4},
    }


REPORT = {
    "examples": 90, "left_out": 2, "precision": "float32", "steps": 40, "loss": 0.1,
    "measured": [[20, 0.5], [40, 0.6]], "best_step": 20, "validation_examples": 10, "no_majority": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "share", "told"),
    [
        ("full", 0.9312, ["extracted from full fine-tuning of the linear layers of `tiny`", "keeps 93.1%",
                          "rank 4", "least in `model.layers.1.q_proj`: 12.5%", "norms and biases were not trained"]),
        ("dora", 0.31, ["extracted from a DoRA on `tiny`", "keeps 31.0%", "place for all of it",
                        "**the adapter keeps only 31% of what was trained", "raise the rank"]),
    ],
)  # fmt: skip
def test_the_card_of_an_extracted_adapter_says_what_it_keeps_and_what_it_cannot_hold(method, share, told):
    kept = {"rank": 4, "layers": 14, "kept_share": share, "least_kept_share": 0.125,
            "least_kept_layer": "model.layers.1.q_proj"}  # fmt: skip
    text = card.model_card(Path("/bases/tiny"), made_of(method), {**REPORT, "extraction": kept}, "adapter")
    assert "library_name: peft" in text
    assert all(part in text for part in told), text
    assert ("**" in text) == (share < card.LOW_SHARE)


def test_the_card_says_what_it_is_and_what_it_was_made_of():
    text = card.model_card(Path("/bases/tiny"), made_of("dora"), {**REPORT, "extraction": None}, "model")
    assert "extracted" not in text
    assert "library_name: transformers" in text
    assert "A DoRA, merged and written as a whole model" in text
    assert "0.5000 at step 20, whose weights these are" in text
    assert "license: unknown" in text
