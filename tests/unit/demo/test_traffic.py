"""The demo's input is honest: split before anything learns, wrong where it says so, the same every time."""

import json
from collections import Counter, defaultdict

import pytest
from demo import sample
from demo.keys import content_text, normal, request_key
from demo.traffic import SIZES, WRONG_SHARE, build


def prompts(calls, phase):
    return {normal(content_text(m["content"])) for c in calls if c.phase == phase for m in c.request["messages"]
            if m["role"] == "user"}  # fmt: skip


def pairs(traffic, phase):
    answers = defaultdict(set)
    for row in traffic.answers:
        answers[row["key"]].add(normal(row["content"]))
    return {
        (normal(content_text(call.request["messages"][-1]["content"])), answer)
        for call in traffic.calls if call.phase == phase
        for answer in answers[request_key(call.request["messages"])]
    }  # fmt: skip


def said_in(lines, roles):
    return {normal(m["content"]) for line in lines for m in line["messages"] if m["role"] in roles}


def assert_nothing_held_out_is_learned(traffic):
    held_out = prompts(traffic.calls, "later")
    assert not held_out & prompts(traffic.calls, "train")
    assert not held_out & said_in(traffic.pretrain, {"user", "assistant", "system"})
    assert not pairs(traffic, "later") & pairs(traffic, "train")
    shown = {
        (normal(a["content"]), normal(b["content"]))
        for line in traffic.pretrain for a, b in zip(line["messages"], line["messages"][1:], strict=False)
    }  # fmt: skip
    assert not pairs(traffic, "later") & shown


def test_no_held_out_prompt_or_answer_pair_is_in_any_training_input(traffic):
    assert_nothing_held_out_is_learned(traffic)


@pytest.mark.parametrize("setting", ["shared", "none", "reworded"])
def test_nothing_held_out_is_learned_under_any_system_prompt(setting):
    assert_nothing_held_out_is_learned(build(SIZES["small"], setting, seed=8))


@pytest.mark.timeout(60)
def test_nothing_held_out_is_learned_in_the_traffic_of_the_demo_itself():
    assert_nothing_held_out_is_learned(build(SIZES["demo"], "own", seed=7))


def test_the_tail_of_a_held_out_prompt_is_not_in_the_text_of_the_base(traffic):
    later = [c.request["messages"][-1]["content"] for c in traffic.calls if c.phase == "later"]
    tails = {normal(content_text(content)[-600:]) for content in later}
    assert not tails & said_in(traffic.pretrain, {"user"})


@pytest.mark.parametrize("setting", ["own", "reworded"])
def test_what_the_gate_judges_on_is_not_in_the_text_of_the_base(setting):
    """Curation keeps the latest fifth of a task's conversations for the gate."""
    traffic = build(SIZES["small"], setting, seed=7)
    shown = said_in(traffic.pretrain, {"user", "assistant"})
    for task in WRONG_SHARE:
        calls = [call for call in traffic.calls if call.phase == "train" and call.task == task]
        by_end = sorted({c.conversation: c.at_seconds for c in calls}.items(), key=lambda item: item[1])
        kept = {conversation for conversation, _ in by_end[int(0.8 * len(by_end)) :]}
        held_out = {normal(c.request["messages"][-1]["content"]) for c in calls if c.conversation in kept}
        assert len(held_out) > 50 and not held_out & shown


def test_no_conversation_is_in_two_phases_or_two_tasks(traffic):
    homes = defaultdict(set)
    for call in traffic.calls:
        homes[call.conversation].add((call.phase, call.round, call.task))
    assert all(len(each) == 1 for each in homes.values())


def test_no_two_rounds_share_a_narrow_utterance(traffic):
    seen = Counter(
        normal(call.request["messages"][-1]["content"]) for call in traffic.calls if call.task in WRONG_SHARE
    )
    assert max(seen.values()) == 1


def test_every_later_call_comes_after_every_training_call(traffic):
    last = max(call.at_seconds for call in traffic.calls if call.phase == "train")
    assert all(call.at_seconds >= last for call in traffic.calls if call.phase == "later")


def test_exactly_the_stated_share_of_recorded_answers_is_wrong_in_each_phase(traffic):
    phase = {call.id: (call.phase, call.round) for call in traffic.calls}
    wrong, total = Counter(), Counter()
    for row in traffic.truth:
        total[row["task"], phase[row["id"]]] += 1
        wrong[row["task"], phase[row["id"]]] += row["true"] != row["recorded"]
    for (task, part), calls in total.items():
        assert wrong[task, part] == round(WRONG_SHARE[task] * calls), (task, part)


def test_a_wrong_answer_is_another_label_of_the_same_task(traffic):
    labels = defaultdict(set)
    for row in traffic.truth:
        labels[row["task"]].add(row["true"])
    assert {len(each) for each in labels.values()} == {7, 77}
    assert all(row["recorded"] in labels[row["task"]] for row in traffic.truth)


def test_every_call_has_a_recorded_answer_and_narrow_ones_are_strict_json(traffic):
    recorded = {row["key"]: row["content"] for row in traffic.answers}
    for call in traffic.calls:
        answer = recorded[request_key(call.request["messages"])]
        if call.task in WRONG_SHARE:
            assert set(json.loads(answer)) == {"intent"}


def test_a_request_does_not_say_which_task_it_is(traffic):
    for call in traffic.calls:
        assert set(call.request) <= {"model", "messages", "temperature", "max_tokens", "response_format"}
        assert call.task not in call.conversation


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another():
    one, same, other = (build(SIZES["small"], "reworded", seed) for seed in (1, 1, 2))
    assert one == same
    assert one.calls != other.calls


def test_system_prompts_are_as_the_setting_says():
    def systems(setting):
        calls = build(SIZES["small"], setting, 3).calls
        found = defaultdict(set)
        for call in calls:
            for message in call.request["messages"]:
                if call.task in WRONG_SHARE and message["role"] == "system":
                    found[call.task].add(message["content"])
        return found

    own, shared, none, reworded = (systems(setting) for setting in ("own", "shared", "none", "reworded"))
    assert len(own["snips"]) == len(own["banking"]) == 1 and not own["snips"] & own["banking"]
    assert shared["snips"] == shared["banking"] and len(shared["snips"]) == 1
    assert none == {}
    assert len(reworded["snips"]) > 4 and not reworded["snips"] & reworded["banking"]


def test_a_conversation_keeps_its_wording():
    wordings = defaultdict(set)
    for call in build(SIZES["small"], "reworded", 3).calls:
        if call.task in WRONG_SHARE:
            wordings[call.conversation].add(call.request["messages"][0]["content"])
    assert all(len(each) == 1 for each in wordings.values())


def test_a_base_that_may_not_see_the_task_sees_every_label_and_word_but_no_pair():
    traffic = build(SIZES["small"], "own", 7, task_share=0.0)
    shown = {tuple(normal(m["content"]) for m in line["messages"][-2:]) for line in traffic.pretrain}
    narrow = {pair for pair in pairs(traffic, "train") if pair[1].startswith("intent ")}
    assert not shown & narrow
    words = said_in(traffic.pretrain, {"user", "assistant"})
    recorded = {row["true"] for row in traffic.truth if row["task"] == "snips"}
    assert {f"intent {normal(label)}" for label in recorded} <= words


def test_the_sample_names_source_and_licence_of_every_file():
    facts = json.loads((sample.HERE / "SOURCES.json").read_text("utf-8"))
    for each in facts.values():
        assert len(sample.read(each["file"])) == each["rows"]
        assert (sample.HERE / each["text"]).stat().st_size > 500
    held = {path.name for path in sample.HERE.glob("*.gz")}
    assert held == {each["file"] for each in facts.values()}
