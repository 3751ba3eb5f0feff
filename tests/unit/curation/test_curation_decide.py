"""What needs more than one call: signs in the conversation, steps, copies, origins, the split; and that it adds up."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from curation_samples import lines_of, log_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from test_curation_curate import clusters, lines, made

from slmfleet.curation import curate as stage
from slmfleet.curation import signs
from slmfleet.curation.duplicates import groups
from slmfleet.curation.language import language_of
from slmfleet.curation.origins import cap
from slmfleet.curation.repair import repaired
from slmfleet.curation.rows import new_text
from slmfleet.curation.sources import Reader
from slmfleet.wire.routes import OutputFormat

A = json.dumps({"intent": "a"})
B = json.dumps({"intent": "b"})


def ids(done: stage.Dataset) -> set[str]:
    return {r["id"] for r in [*done.train, *done.heldout]}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("No, that's wrong, I meant the hall", True),
        ("that is not what I asked", True),
        ("Das stimmt nicht.", True),
        ("Eso no es correcto", True),
        ("不对,我要的是另一个", True),
        ("No", False),
        ("no thanks, that is all", False),
        ("Yes, and turn on the light", False),
    ],
)
def test_a_correction_speaks_against_the_answer_before_it(text: str, wrong: bool) -> None:
    rows = lines()
    later = [*rows[3]["request"]["messages"], said(json.dumps({"intent": "b"})), user(text)]
    rows.append(record(40, later, A, conversation=rows[3]["conversation"]))
    done = made(rows)
    assert (rows[3]["id"] not in ids(done)) == wrong
    assert done.dropped[signs.CORRECTED] == int(wrong)


@pytest.mark.parametrize(
    ("content", "failed"),
    [
        ('{"error": "no such order"}', True),
        ('{"success": false, "reason": "x"}', True),
        ("Error: unknown argument", True),
        ("Traceback (most recent call last):", True),
        ("HTTP 404 not found", True),
        ('{"error": null, "state": "sent"}', False),
        ("The error rate is 3 %", False),
        ("12 results", False),
    ],
)
def test_a_tool_that_refuses_speaks_against_its_call(content: str, failed: bool) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    rows = lines()
    rows[3]["response"]["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages = [*rows[3]["request"]["messages"], asked, {"role": "tool", "tool_call_id": "1", "content": content}]
    rows.append(record(40, messages, A, conversation=rows[3]["conversation"]))
    done = made(rows)
    assert (rows[3]["id"] not in ids(done)) == failed
    assert rows[3]["id"] in ids(made(rows, signs=False))


def test_the_last_declared_outcome_holds_for_the_steps_before_it() -> None:
    rows = lines()
    rows[5]["outcome"] = {"success": False}
    done = made(rows)
    assert done.dropped == {"the workflow failed": 3}
    assert not {rows[i]["id"] for i in (3, 4, 5)} & ids(done)
    rows[5]["outcome"] = {"success": True}
    assert made(rows).dropped == {}


def test_a_prompt_asked_again_keeps_the_later_answer() -> None:
    rows = lines()
    rows[4]["request"] = rows[3]["request"]
    done = made(rows)
    assert done.dropped == {"asked again": 1}
    assert rows[3]["id"] not in ids(done) and rows[4]["id"] in ids(done)


def test_every_step_of_a_loop_stays_and_the_same_loop_again_is_a_copy() -> None:
    history: list[dict[str, Any]] = [user("please find out where my parcel with the blue kettle in it is right now")]
    steps = []
    found = (
        "the parcel left the depot at noon and is on its way to the city by train",
        "it stands in the yard behind the station since two and waits there for its van and driver",
    )
    for n, text in enumerate(found):
        steps.append(list(history))
        history += [said("ab"[n]), {"role": "tool", "tool_call_id": str(n), "content": text}]
    steps.append(list(history))
    texts = [new_text(s) for s in steps]
    assert groups([*texts, *texts]) == [0, 1, 2, 0, 1, 2]
    assert groups(["\n".join(m["content"] for m in s) for s in steps][1:] * 2)[:2] == [0, 1]


def test_of_copies_the_answer_of_most_stays_and_its_row_stands_for_all(tmp_path: Path) -> None:
    rows = lines()
    for i, answer in ((0, B), (6, A), (9, A)):
        rows[i]["request"] = rows[0]["request"]
        rows[i]["response"]["choices"][0]["message"]["content"] = answer
    log = log_of(rows)
    done = stage.curate(log, clusters(rows), stage.Settings("ask", min_examples=1, quiet_seconds=0))
    assert done.dropped == {"duplicate": 2}
    stage.write(done, log, stage.Settings("ask"), tmp_path)
    lineage = {r["id"]: r for r in map(json.loads, (tmp_path / "lineage.jsonl").read_text().splitlines())}
    assert lineage["r00006"]["records"] == ["r00006", "r00000", "r00009"]
    assert set(lineage) == ids(done)


@pytest.mark.parametrize(
    ("answer", "expected", "made"),
    [
        ('```json\n{"intent": "a"}\n```', "json", '{"intent": "a"}'),
        ('Sure! {"intent": "a"} Anything else?', "json", '{"intent": "a"}'),
        ('{"intent": "a",}', "json", '{"intent": "a"}'),
        ('{"intent": "a"} or {"intent": "b"}', "json", None),
        ('{"intent": "z"}', "json", None),
        ('"Refund".', "label", "refund"),
        ("refund or exchange", "label", None),
    ],
)
def test_an_answer_is_mended_in_its_wrapping_only(answer: str, expected: str, made: str | None) -> None:
    schema = {"type": "object", "properties": {"intent": {"enum": ["a", "b"]}}, "required": ["intent"]}
    form = OutputFormat(type="json", json_schema=schema)
    if expected == "label":
        form = OutputFormat(type="label", labels=["refund", "exchange"])
    found = repaired(answer, form)
    assert (found[0] if found else None) == made


def test_a_mended_answer_is_written_and_counted() -> None:
    rows = lines()
    rows[3]["response"]["choices"][0]["message"]["content"] = 'Here you are: {"intent": "b"}'
    done = made(rows)
    assert done.repaired == {"JSON: text around it": 1}
    assert next(r for r in done.train if r["id"] == rows[3]["id"])["messages"][-1]["content"] == '{"intent": "b"}'


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (("look", '{"order": "7"}'), None),
        (("look", '{"order": 7}'), "format: arguments of a tool: $.order is no string"),
        (("look", "{broken"), "format: arguments of a tool: not JSON"),
        (("other", "{}"), "format: a tool that was not offered"),
    ],
)
def test_a_call_of_a_tool_is_checked_against_what_was_offered(call: tuple[str, str], reason: str | None) -> None:
    rows = lines()
    schema = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
    rows[3]["request"]["tools"] = [{"type": "function", "function": {"name": "look", "parameters": schema}}]
    function = {"name": call[0], "arguments": call[1]}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    rows[3]["response"]["choices"][0]["message"] = message
    done = made(rows)
    assert done.dropped == ({reason: 1} if reason else {})
    if reason is None:
        row = next(r for r in done.train if r["id"] == rows[3]["id"])
        assert row["messages"][-1]["tool_calls"][0]["function"]["arguments"] == {"order": "7"}
        assert row["tools"] == rows[3]["request"]["tools"]


def test_a_loop_is_the_same_example_whichever_api_it_went_through() -> None:
    schema = {"type": "object", "properties": {"order": {"type": "string"}}}
    asked, arguments = "Where is my order 7?", {"order": "7"}
    chat = {
        "messages": [
            {"role": "system", "content": "S"}, user(asked),
            {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "look", "arguments": json.dumps(arguments)}}]},
            {"role": "tool", "content": "sent"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "", "parameters": schema}}],
    }  # fmt: skip
    responses = {
        "instructions": "S",
        "input": [
            user(asked), {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "1", "name": "look", "arguments": json.dumps(arguments)},
            {"type": "function_call_output", "call_id": "1", "output": "sent"},
        ],
        "tools": [{"type": "function", "name": "look", "parameters": schema}],
    }  # fmt: skip
    messages = {
        "system": "S",
        "messages": [
            user(asked),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "look", "input": arguments}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "sent"}]},
        ],
        "tools": [{"name": "look", "input_schema": schema}],
    }
    found = []
    for request in (chat, responses, messages):
        rows = lines()
        rows[3] |= {"request": {"model": "m"} | request}
        row = next(r for r in made(rows).train if r["id"] == rows[3]["id"])
        found.append((row["messages"], row["tools"]))
    assert found[0] == found[1] == found[2]
    assert found[0][0][2]["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
            "content other than text",
        ),
        ({"role": "user", "content": [{"type": "text", "text": "a text"}]}, None),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "{"}}]},
            "a broken call of a tool in its history",
        ),
    ],
)
def test_what_no_text_can_stand_for_is_left_out(message: dict[str, Any], reason: str | None) -> None:
    rows = lines()
    rows[3]["request"]["messages"].insert(0, message)
    assert made(rows).dropped == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Can you please tell me where the parcel that I sent to my sister is?", "en"),
        ("Können Sie mir bitte sagen, wo das Paket ist, das ich nicht bekommen habe?", "de"),
        ("Je voudrais savoir où est le colis que vous avez envoyé pour mon frère", "fr"),
        ("¿Cómo puedo saber dónde está el paquete que envié a mi hermana?", "es"),
        ("请告诉我我的包裹在哪里", "zh"),
        ("荷物はどこにありますか", "ja"),
        ("Где моя посылка", "ru"),
        ("kettle 42", "und"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


def test_other_languages_and_long_calls_leave_and_are_named() -> None:
    rows = lines()
    rows[3]["request"]["messages"][0]["content"] = "Können Sie mir bitte sagen, wo das Paket ist und wann es kommt?"
    rows[4]["request"]["messages"][0]["content"] = "word " * 900
    done = made(rows, languages=("en",), max_tokens=500)
    assert done.dropped == {"language: de": 1, "longer than 500 tokens": 1}


def test_no_origin_gives_more_than_its_share() -> None:
    rows = lines(100)
    for i, row in enumerate(rows):
        row["origin"] = "big" if i < 80 else f"o{i % 4}"
    done = made(rows)
    assert done.dropped == {"over the share of one origin": 60}
    kept = Counter(next(r["origin"] for r in rows if r["id"] == i) for i in ids(done))
    assert kept["big"] == 20 == sum(kept.values()) - kept["big"]
    assert (done.origins, done.origin_share, done.largest_origin) == (5, 0.5, 0.5)
    one = made([r | {"origin": "one"} for r in rows])
    assert (one.dropped, one.origins, one.origin_share, one.largest_origin) == ({}, 1, 1.0, 1.0)
    none = made(lines(100))
    assert (none.dropped, none.origins, none.origin_share, none.largest_origin) == ({}, 0, None, None)


@pytest.mark.parametrize(
    ("sizes", "free", "asked", "share", "limit"),
    [
        ([60, 20, 20], 0, 0.5, 0.5, 40),
        ([60, 20, 20], 0, 0.34, 0.34, 20),
        ([95, 5], 0, 0.5, 0.5, 5),  # asked for, so it is what one gets
        ([95, 5], 0, 0.9, 0.9, 45),
        ([40, 30, 20], 0, 0.1, 1 / 3, 20),  # the least that can hold
        ([7, 7, 7], 0, 0.2, 1 / 3, 7),
        ([100], 0, 0.5, 1.0, 100),
        ([100], 100, 0.5, 0.5, 100),  # rows of no origin fill the rest
        ([100], 20, 0.2, 0.2, 5),
        ([], 50, 0.5, 1.0, 0),
        ([100], 0, None, 1.0, 100),
        ([95, 5], 0, None, 1.0, 95),
        ([80, 20, 20], 0, None, 2 / 3, 80),
        ([90, 20, 20], 0, None, 2 / 3, 80),
        ([80, 5, 5, 5, 5], 0, None, 0.5, 20),
        ([95, 2, 1, 1, 1], 0, None, 1.0, 95),  # a cap would leave 10 of 100 rows
    ],
)
def test_a_share_of_an_origin_is_kept_to_where_it_can_hold(
    sizes: list[int], free: int, asked: float | None, share: float, limit: int
) -> None:
    found = cap(sizes, free, asked)
    assert (found.share, found.limit) == (pytest.approx(share), limit)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 30), st.floats(0.01, 0.99))
def test_the_limit_of_an_origin_is_its_share_and_no_less(sizes: list[int], free: int, asked: float) -> None:
    found = cap(sizes, free, asked)
    left = lambda n: free + sum(min(s, n) for s in sizes)  # noqa: E731
    assert found.share == asked or (found.share == 1 / len(sizes) > asked and not free)
    assert found.limit <= found.share * left(found.limit) + 1e-6
    assert found.limit >= max(sizes) or found.limit + 1 > found.share * left(found.limit + 1) + 1e-12


def test_the_share_that_was_kept_to_is_said(tmp_path: Path) -> None:
    rows = [row | {"origin": f"o{i % 4 // 3}"} for i, row in enumerate(lines(100))]  # 75 and 25
    log, chosen = log_of(rows), stage.Settings("ask", min_examples=1, quiet_seconds=0, max_origin_share=0.2)
    said: list[str] = []
    done = stage.curate(log, clusters(rows), chosen, said.append)
    result = stage.write(done, log, chosen, tmp_path)
    assert result.dropped == {"over the share of one origin": 50}
    assert (result.origins, result.origin_share, result.largest_origin_share) == (2, 0.5, 0.5)
    assert "--max-origin-share 0.2 cannot hold here: 0.5000 is kept to" in said
    card = (tmp_path / "card.md").read_text()
    assert "| origins | of 2, the largest gives 50.0% of the rows; at most 50.0% was let in |" in card


def test_escalations_keep_their_share_of_the_traffic_in_what_is_held_out() -> None:
    rows = lines(120)
    for i in range(0, 120, 2):
        rows[i] |= {"tier": "specialist", "specialist": "s"}
    for i in (101, 105, 109, 111):
        rows[i]["escalated_from"] = rows[i - 1]["id"]
    done = made(rows)
    assert done.dropped == {"answered by a specialist": 60, "escalations over their share of the traffic": 3}
    assert (done.escalations, done.harder, done.answered) == (1, False, {"llm": 60, "specialist": 60})
    for i in range(95, 120, 2):
        rows[i]["escalated_from"] = rows[i - 1]["id"]
    assert made(rows).harder


def test_the_card_says_what_was_left_out_and_who_answered(tmp_path: Path) -> None:
    rows = lines(120)
    for i in range(0, 60, 2):
        rows[i] |= {"tier": "specialist", "specialist": "s"}
    rows[3]["escalated_from"] = rows[2]["id"]
    log, chosen = log_of(rows), stage.Settings("ask", min_examples=1, quiet_seconds=0)
    stage.write(stage.curate(log, clusters(rows), chosen), log, chosen, tmp_path)
    card = (tmp_path / "card.md").read_text()
    assert "| answered by | 120 | 30 answered by a specialist | 90 |" in card
    assert "Calls of this task: 90 llm, 30 specialist." in card
    assert "Corrected: 1 rows are escalations" in card
    assert "every training row is earlier than every held-out row" in card
    assert json.loads((tmp_path / "report.json").read_text())["lineage_digest"] in card


def test_more_than_the_most_is_a_sample_that_does_not_depend_on_the_order() -> None:
    rows = lines(80)
    first, again = made(rows, max_examples=20), made(rows[::-1], max_examples=20)
    assert len(first.train) == 20 and ids(first) == ids(again)
    assert first.dropped == {"over --max-examples": 80 - len(ids(first))}


def test_calls_that_overlap_the_held_out_time_leave_where_they_are_few() -> None:
    rows = lines(60)
    rows[59]["conversation"] = rows[0]["conversation"]
    done = made(rows)
    assert done.dropped == {"later than the first held-out call": 1} and done.overlap == 0
    mixed = [r | {"conversation": f"c{i % 7}"} for i, r in enumerate(lines(60))]
    assert made(mixed).overlap > 10


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),  # conversation
        st.integers(0, 6),  # prompt
        st.sampled_from([A, B, "not json", f"```json\n{A}\n```", ""]),
        st.sampled_from([None, "llm", "specialist", "generalist"]),
        st.sampled_from([200, 200, 500]),
        st.sampled_from([None, True, False]),
        st.sampled_from(["ask", "ask", None]),
        st.sampled_from([None, "x", "y", "z"]),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(_ROWS, st.lists(st.sampled_from(["{", '{"id": 1}', "[]"]), max_size=3))
def test_what_is_read_is_what_is_kept_and_what_left(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Any], broken: list[str]
) -> None:
    rows, assigned = [], {}
    for i, (conversation, prompt, answer, tier, status, success, cluster, origin) in enumerate(drawn):
        row = record(
            i % 20, [user(f"question {prompt} {'of the day ' * prompt}")], answer, conversation=f"c{conversation}"
        )
        row |= {"tier": tier, "status": status, "origin": origin}
        rows.append(row | ({"outcome": {"success": success}} if success is not None else {}))
        assigned[row["id"]] = cluster
    path = tmp_path_factory.mktemp("log") / "a.jsonl"
    path.write_text(lines_of(rows) + "\n".join(broken))
    reader = Reader(path)
    known = stage.Clusters(clusters([]).file, assigned, None)
    try:
        done = stage.curate(reader, known, stage.Settings("ask", min_examples=0))
    finally:
        read = reader.log.read
    assert read == len(rows) + len(broken) == done.funnel[0].read
    for step, after in zip(done.funnel, done.funnel[1:], strict=False):
        assert step.read - sum(step.dropped.values()) == step.kept == after.read
    assert done.funnel[-1].kept == len(done.train) + len(done.heldout)
    other = done.funnel[1].dropped.get("another task", 0)
    assert read == len(done.train) + len(done.heldout) + other + sum(done.dropped.values())
    train, held = ({r["conversation"] for r in side} for side in (done.train, done.heldout))
    assert not train & held
    assert not {r["messages"][0]["content"] for r in done.train} & {r["messages"][0]["content"] for r in done.heldout}
    if not done.overlap and held and train:
        assert max(r["time"] for r in done.train) < min(r["time"] for r in done.heldout)
