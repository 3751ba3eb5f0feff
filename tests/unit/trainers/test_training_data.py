"""Conversations become token ids with a loss on the answer only, and a plan of steps that all workers share."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.wire import toolcalls
from slmtrain import data
from slmtrain.errors import Refused


class Letters:
    """A tokenizer of one id a character; `~` is its end-of-text."""

    eos_token_id = ord("~")

    def apply_chat_template(self, messages, tokenize, add_generation_prompt=False):
        text = "".join(f"<{m['role']}>{m['content']}~" for m in messages)
        return text + ("<assistant>" if add_generation_prompt else "")

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(c) for c in text]}


def example(answer="yes", **changes):
    messages = ({"role": "user", "content": "ask"}, {"role": "assistant", "content": answer})
    return data.Example(**{"id": "e1", "conversation": "c1", "messages": messages, **changes})


def write(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def test_the_loss_is_on_the_answer_and_its_end_only():
    encoded = data.encode(Letters(), example("yes"))
    labels = data.labels_of(encoded)
    assert [chr(i) for i in labels if i != data.IGNORED] == ["y", "e", "s", "~"]
    assert labels[: encoded.answer_start] == [data.IGNORED] * encoded.answer_start
    assert "".join(map(chr, encoded.ids[: encoded.answer_start])) == "<user>ask~<assistant>"


def test_an_answer_without_an_end_gets_one_and_text_after_its_end_is_cut():
    assert data.end_at_eos([1, 2], eos=9) == [1, 2, 9]
    assert data.end_at_eos([1, 9, 2], eos=9) == [1, 9]


def test_a_template_that_rewrites_the_prompt_is_refused_with_the_example():
    class Rewriting(Letters):
        def apply_chat_template(self, messages, tokenize, add_generation_prompt=False):
            return f"{len(messages)}" + super().apply_chat_template(messages, tokenize, add_generation_prompt)

    with pytest.raises(Refused, match="e1") as refusal:
        data.encode(Rewriting(), example())
    assert refusal.value.reason == "BadTemplate"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not an object"),
        ({"messages": []}, "list of two or more"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "assistant's answer"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}, "not empty"),
        ({"messages": [{"content": "a"}, {"role": "assistant", "content": "b"}]}, "needs `role`"),
        ({"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "b"}]}, "must be text"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, said):
    with pytest.raises(Refused, match=said):
        data.read_examples(write(tmp_path / "train.jsonl", line))


def tool_row(*calls):
    answer = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": c} for c in calls]}
    return {"id": "1", "messages": [{"role": "user", "content": "play"}, answer]}


def test_tool_calls_are_learned_as_the_text_that_the_gateway_reads(tmp_path):
    play = {"name": "play", "arguments": '{"what": "jazz \u00e9"}'}
    stop = {"name": "stop", "arguments": {}}
    one, two = data.read_examples(write(tmp_path / "d.jsonl", tool_row(play), tool_row(play, stop)))
    assert one.answer == '{"name": "play", "arguments": {"what": "jazz é"}}'
    for example, names in ((one, ["play"]), (two, ["play", "stop"])):
        calls = toolcalls.calls_of(example.answer)
        assert [call.name for call in calls] == names
        assert example.answer == toolcalls.text_of(calls)


@pytest.mark.parametrize("name", ["f", None])
@pytest.mark.parametrize("arguments", ["[]", "{", 3])
def test_a_tool_call_that_is_none_is_refused(tmp_path, name, arguments):
    with pytest.raises(Refused, match="tool call"):
        data.read_examples(write(tmp_path / "d.jsonl", tool_row({"name": name, "arguments": arguments})))


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(Refused, match="slmfleet curate"):
        data.read_examples(tmp_path / "train.jsonl")


def test_lists_of_text_parts_are_joined_and_a_call_without_conversation_is_its_own(tmp_path):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    line = {"id": "x", "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}]}
    [read] = data.read_examples(write(tmp_path / "train.jsonl", line))
    assert read.messages[0]["content"] == "ab"
    assert read.conversation == "x"


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_every_epoch_of_the_plan_sees_every_example_once(lengths, batch_size, epochs, seed):
    a_epoch = -(-len(lengths) // batch_size)
    plan = data.plan_steps(lengths, batch_size, a_epoch * epochs, seed)
    seen = [index for step in plan for index in step]
    assert sorted(seen) == sorted(list(range(len(lengths))) * epochs)
    assert plan == data.plan_steps(lengths, batch_size, a_epoch * epochs, seed)


@given(step=st.lists(st.integers(), unique=True, max_size=20), workers=st.integers(1, 5))
def test_workers_share_a_step_without_loss_or_overlap(step, workers):
    shares = [data.share_of(step, worker, workers) for worker in range(workers)]
    assert sorted(i for share in shares for i in share) == sorted(step)


def test_a_tool_call_is_an_answer_with_nothing_beside_it(tmp_path):
    call = {"type": "function", "function": {"name": "find", "arguments": '{"id": 7}'}}
    lines = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": said, "tool_calls": [call]}]}
        for said in (None, "Looking.")
    ]
    answers = [e.answer for e in data.read_examples(write(tmp_path / "train.jsonl", *lines))]
    assert answers == ['{"name": "find", "arguments": {"id": 7}}'] * 2


@pytest.mark.parametrize(
    "call", [{"function": "find"}, {"function": {"name": "f", "arguments": "{"}}, "find"]
)
def test_a_broken_tool_call_is_refused_with_its_line(tmp_path, call):
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    with pytest.raises(Refused, match=r"line 1.*every tool call of `tool_calls` must be a function"):
        data.read_examples(write(tmp_path / "train.jsonl", line))


def test_of_a_row_with_samples_only_the_first_counts_as_recorded(tmp_path):
    line = {"messages": [{"role": "user", "content": "a"}], "samples": ["b", "c"]}
    (read,) = data.read_examples(write(tmp_path / "train.jsonl", line))
    assert read.answer == "b"
