"""The agent against the replayed LLM: everything sent comes back once, nothing is retried, nothing is hidden."""

import json
import math
import os
import signal

import pytest
from demo.agent import (
    Agent,
    Settings,
    drive,
    is_streamed,
    label_of,
    parse_route,
    read_calls,
    read_recorded,
    same_answer,
)
from demo.replay_llm import Recordings, Server, start
from demo.replay_llm import Settings as LlmSettings
from demo.traffic import write_lines


@pytest.fixture
def calls(traffic):
    from dataclasses import asdict

    return [asdict(call) for call in traffic.calls if call.phase == "later" and call.round == 1]


@pytest.fixture
def answers(traffic):
    found = {}
    for row in traffic.answers:
        found.setdefault(row["key"], []).append(row["content"])
    return found


async def sent(calls, answers, tmp_path, llm=LlmSettings(latency_scale=0), repeats=1, server=Server, **settings):
    server = server(Recordings(answers), llm)
    listening = await start(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        recorded = {key: set(each) for key, each in answers.items()}
        settings = Settings(url, **{"speedup": math.inf, **settings})
        progress = await drive(settings, calls, recorded, tmp_path / "results.jsonl", repeats)
    finally:
        listening.close()
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text("utf-8").split("\n") if line]
    return server, progress, rows


async def test_every_call_comes_back_once_with_its_recorded_answer(calls, answers, tmp_path):
    calls = calls[:100]
    server, progress, rows = await sent(calls, answers, tmp_path, stage="before")
    assert sorted(row["id"] for row in rows) == sorted(call["id"] for call in calls)
    assert all(row["equals_recorded"] and row["status"] == 200 and row["stage"] == "before" for row in rows)
    assert (progress.errors, progress.done, server.stats.calls) == (0, 100, 100)
    assert server.stats.streamed == sum(is_streamed(call["id"]) for call in calls) > 0
    assert all(row["input_tokens"] and row["output_tokens"] for row in rows)
    assert all((row["first_token_seconds"] is not None) == row["streamed"] for row in rows)


async def test_a_failing_llm_is_counted_and_never_retried(calls, answers, tmp_path):
    calls = calls[:60]
    server, progress, rows = await sent(calls, answers, tmp_path, LlmSettings(latency_scale=0, fail_rate=0.5))
    assert server.stats.calls == 60
    assert progress.errors == server.stats.refused == sum(row["error"] is not None for row in rows) > 10
    assert all("503" in row["error"] for row in rows if row["error"])


async def test_a_closed_port_is_an_error_a_line(calls, tmp_path):
    progress = await drive(Settings("http://127.0.0.1:9/v1", speedup=math.inf), calls[:3], {}, tmp_path / "r.jsonl")
    assert progress.errors == 3


async def test_repeats_are_new_conversations(calls, answers, tmp_path):
    _, _, rows = await sent(calls[:10], answers, tmp_path, repeats=2)
    assert len(rows) == 20
    first = {row["conversation"] for row in rows if not row["conversation"].endswith("-r1")}
    assert {f"{each}-r1" for each in first} == {row["conversation"] for row in rows} - first


async def test_a_conversation_waits_for_its_last_answer(answers, calls, tmp_path):
    one = [{**call, "conversation": "same"} for call in calls[:5]]
    server, _, rows = await sent(one, answers, tmp_path, LlmSettings(latency_scale=0.02))
    assert [row["id"] for row in rows] == [call["id"] for call in one]
    assert server.stats.most_in_flight == 1


async def test_never_more_calls_at_once_than_asked(answers, calls, tmp_path):
    server, _, _ = await sent(calls[:40], answers, tmp_path, LlmSettings(latency_scale=0.02), concurrency=3)
    assert server.stats.most_in_flight == 3


async def test_stopping_waits_for_the_answers_under_way(answers, calls, tmp_path):
    class Watched(Server):
        async def _chat(self, request, writer):
            if self.stats.calls == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            await super()._chat(request, writer)

    server, progress, rows = await sent(calls[:50], answers, tmp_path, max_rate=50, server=Watched)
    assert 4 < len(rows) == progress.sent == server.stats.calls < 50
    assert progress.errors == 0


def due(calls, repeats=1, **settings):
    agent = Agent(None, Settings("http://llm/v1", **settings), {}, None)
    return [(round(at, 3), suffix) for at, suffix, _ in agent._schedule(calls, repeats)]


def test_arrivals_keep_the_traces_rhythm_and_the_highest_rate():
    calls = [{"at_seconds": at} for at in (100, 101, 103, 103.1)]
    assert due(calls, speedup=10) == [(0, ""), (0.1, ""), (0.3, ""), (0.31, "")]
    assert due(calls, speedup=10, max_rate=10) == [(0.1, ""), (0.2, ""), (0.4, ""), (0.5, "")]
    assert due(calls[:2], 2, speedup=math.inf, max_rate=2) == [(0.5, ""), (1.0, ""), (1.5, "-r1"), (2.0, "-r1")]


def test_the_gateways_reason_is_taken_apart():
    route = parse_route("tier=specialist; specialist=voice; rule=classifier; score=0.981; arm=candidate; revision=ab12")
    assert (route["tier"], route["rule"], route["arm"], route["revision"]) == (
        "specialist", "classifier", "candidate", "ab12",
    )  # fmt: skip
    assert parse_route(None) == {}


@pytest.mark.parametrize(
    ("answer", "label"),
    [('{"intent": "PlayMusic"}', "PlayMusic"), ('{ "intent":"PlayMusic" }\n', "PlayMusic"), ("PlayMusic", None),
     ('{"intent": "PlayMusic", "sure": 1}', None), ('{"intent": 3}', None), ("", None), (None, None)],
)  # fmt: skip
def test_only_strict_json_names_a_label(answer, label):
    assert label_of(answer) == label


def test_narrow_answers_are_compared_as_values_and_free_text_as_it_is():
    assert same_answer("snips", '{"intent":"A"}', {'{"intent": "A"}'})
    assert not same_answer("snips", "A", {'{"intent": "A"}'})
    assert not same_answer("metagpt", "text ", {"text"})


def test_calls_are_chosen_by_phase_round_task_and_number(traffic, tmp_path):
    from dataclasses import asdict

    write_lines(tmp_path / "calls.jsonl", map(asdict, traffic.calls))
    assert len(read_calls(tmp_path / "calls.jsonl", "later", [2], ["snips"])) == 60
    assert len(read_calls(tmp_path / "calls.jsonl", "train", limit=7)) == 7
    write_lines(tmp_path / "answers.jsonl", traffic.answers)
    assert len(read_recorded(tmp_path / "answers.jsonl")) > 1000
