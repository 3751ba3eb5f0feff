"""The dataset of one task: who teaches, what is left out, how it is split."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from curation_samples import START, log_of, record
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.curation import curate as stage
from slmfleet.curation import duplicates
from slmfleet.curation.failures import CurationError, report
from slmfleet.wire.discovery import ClustersFile, FoundCluster, Signature
from slmfleet.wire.jobs import CurationResult, JobFailure
from slmfleet.wire.routes import OutputFormat
from slmtrain.dataset import refuse_unfit
from slmtrain.errors import Refused
from slmtrain.files import dataset_digest
from slmtrain.heldout import read_reports

SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string", "enum": ["a", "b"]}},
    "required": ["intent"],
    "additionalProperties": False,
}


def lines(count: int = 40) -> list[dict[str, Any]]:
    return [
        record(
            i,
            [{"role": "user", "content": f"question number {chr(97 + i % 26)}{i}"}],
            json.dumps({"intent": "ab"[i % 2]}),
        )
        for i in range(count)
    ]


def clusters(rows: list[dict[str, Any]]) -> stage.Clusters:
    cluster = FoundCluster(
        name="ask",
        version="sha256:1",
        description="d",
        size=len(rows),
        share=1,
        signature=Signature(),
        output_format=OutputFormat(type="json", json_schema=SCHEMA),
    )
    file = ClustersFile(records=len(rows), records_digest="sha256:0", clusters=[cluster])
    return stage.Clusters(file, {r["id"]: "ask" for r in rows}, None)


def made(rows: list[dict[str, Any]], **settings: Any) -> stage.Dataset:
    chosen: dict[str, Any] = {"min_examples": 1, "quiet_seconds": 0} | settings
    return stage.curate(log_of(rows), clusters(rows), stage.Settings("ask", **chosen))


def test_the_latest_conversations_are_held_out_and_none_is_shared() -> None:
    done = made(lines())
    train, held = ({r["conversation"] for r in part} for part in (done.train, done.heldout))
    assert not train & held
    assert 6 <= len(done.heldout) <= 11
    assert max(r["time"] for r in done.train) < min(r["time"] for r in done.heldout)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 502}, "failed"),
        ({"truncated": True}, "truncated"),
        ({"outcome": {"success": False}, "conversation": "alone"}, "the workflow failed"),
        ({"tier": "specialist", "specialist": "s"}, "answered by a specialist"),
        ({"tier": "generalist"}, "answered by a generalist"),
        ({"tier": None, "specialist": "s"}, "answered by a specialist"),
        ({"response": {"choices": [{"message": {"content": "not json"}}]}}, "format: not JSON"),
        (
            {"response": {"choices": [{"message": {"content": '{"intent": "c"}'}}]}},
            "format: $.intent is not one of the values",
        ),
        (
            {"response": {"choices": [{"message": {"content": '{"intent": "a"}'}, "finish_reason": "length"}]}},
            "the answer was cut short",
        ),
        ({"response": None}, "no answer"),
    ],
)
def test_what_does_not_teach_is_left_out_with_its_reason(change: dict[str, Any], reason: str) -> None:
    rows = lines()
    rows[5] |= change
    done = made(rows)
    assert done.dropped == {reason: 1}
    assert rows[5]["id"] not in {r["id"] for r in [*done.train, *done.heldout]}


def test_of_an_escalation_the_answer_of_the_llm_teaches() -> None:
    rows = lines()
    rows[4] |= {"tier": "specialist", "specialist": "s"}
    rows[5] |= {"escalated_from": rows[4]["id"], "request": rows[4]["request"]}
    done = made(rows)
    assert rows[5]["id"] in {r["id"] for r in done.train}


def test_a_prompt_that_comes_again_later_is_never_held_out() -> None:
    rows = lines()
    rows[38]["request"]["messages"][0]["content"] = rows[2]["request"]["messages"][0]["content"].upper() + "!"
    done = made(rows)
    assert done.dropped == {"duplicate": 1}
    prompts = [r["messages"][0]["content"] for r in done.heldout]
    assert not any(p.lower().startswith(rows[2]["request"]["messages"][0]["content"]) for p in prompts)


def test_near_copies_of_a_long_prompt_are_one() -> None:
    text = "please read the following report about the harbour and tell me which of the two classes fits it best " * 3
    assert duplicates.groups([text, text + " thanks", "something else entirely"]) == [0, 0, 2]
    assert duplicates.groups(["play jazz", "play jazz now", "Play  jazz!"]) == [0, 1, 0]


@given(st.lists(st.text("ab c", max_size=12), max_size=20))
def test_every_text_is_in_the_group_of_its_first_copy(texts: list[str]) -> None:
    found = duplicates.groups(texts)
    assert all(g <= i and found[g] == g for i, g in enumerate(found))


def test_since_and_until_bound_the_log() -> None:
    done = made(lines(), since=START + timedelta(seconds=70), until=START + timedelta(seconds=210))
    assert {r["id"] for r in [*done.train, *done.heldout]} == {f"r{i:05d}" for i in range(10, 30)}


def test_too_few_examples_say_how_many_and_why() -> None:
    with pytest.raises(CurationError, match=r"TooFewExamples: 40 of 500 examples for ask .* or wait for more traffic"):
        made(lines(), min_examples=500)


def test_an_unknown_cluster_names_the_known() -> None:
    with pytest.raises(CurationError, match="no cluster 'other' among: ask"):
        stage.curate(log_of([]), clusters([]), stage.Settings("other"))


def test_files_are_in_trl_form_with_digests_and_the_report_last(tmp_path: Path) -> None:
    rows = lines()
    rows[3]["request"]["messages"].insert(0, {"role": "system", "content": "S of anna@corp.com"})
    log = log_of(rows)
    settings = stage.Settings("ask", min_examples=1, quiet_seconds=0)
    done = stage.curate(log, clusters(rows), settings)
    result = stage.write(done, log, settings, tmp_path)
    row = json.loads((tmp_path / "train.jsonl").read_text("utf-8").splitlines()[3])
    assert set(row) == {"id", "conversation", "time", "messages"}
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
    assert "anna" not in (tmp_path / "train.jsonl").read_text("utf-8")
    assert CurationResult.model_validate_json((tmp_path / "report.json").read_bytes()) == result
    assert (result.train + result.heldout, result.leaks, result.output_labels) == (40, 0, 2)
    assert result.redacted == {"email": 1}
    assert result.dataset_digest in (tmp_path / "card.md").read_text("utf-8")
    assert result.dataset_digest == dataset_digest(tmp_path)  # what training and evaluation call it
    refuse_unfit(tmp_path)
    again = stage.write(stage.curate(log, clusters(rows), settings), log, settings, tmp_path / "again")
    assert again == result


def test_the_card_states_its_terms_as_the_gate_reads_them(tmp_path: Path) -> None:
    rows = lines()
    log, settings = log_of(rows), stage.Settings("ask", min_examples=1)
    stage.write(stage.curate(log, clusters(rows), settings), log, settings, tmp_path)
    reports = read_reports(tmp_path)
    assert reports.terms == "LicenseRef-LLM-Provider-Terms"
    assert reports.licence is not None and "The prompts belong to whoever runs the agents" in reports.licence


def test_a_row_says_its_language_where_that_can_be_told(tmp_path: Path) -> None:
    rows = lines()
    rows[0]["request"]["messages"][0]["content"] = "Ich kann die Rechnung von gestern nicht finden, bitte hilf mir"
    log, settings = log_of(rows), stage.Settings("ask", min_examples=1, quiet_seconds=0)
    stage.write(stage.curate(log, clusters(rows), settings), log, settings, tmp_path)
    told = [json.loads(line).get("language") for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()]
    assert (told[0], set(told[1:])) == ("de", {None})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Det är för sent och jag vill ha väckning om {n} minuter", True),
        ("Stelle bitte den Wecker auf {n} Minuten", False),
        ("set the alarm to {n} minutes, please", False),
    ],
)
def test_that_the_default_model_was_not_made_for_a_language_is_said(text: str, said: bool) -> None:
    calls = [[{"role": "user", "content": text.format(n=i)}] for i in range(20)]
    rows = [record(i, call, json.dumps({"intent": "ab"[i % 2]})) for i, call in enumerate(calls)]
    lines: list[str] = []
    stage.curate(log_of(rows), clusters(rows), stage.Settings("ask", min_examples=1, quiet_seconds=0), lines.append)
    assert any("languages that the default model of redaction was not made for" in line for line in lines) is said


def test_rows_too_short_to_tell_their_language_stay_and_are_counted() -> None:
    asked = ["What is the balance of my account, please?", "Wie ist der Stand von meinem Konto, bitte?", "ok"]
    calls = [[{"role": "user", "content": f"{asked[i % 3]} {i}"}] for i in range(30)]
    rows = [record(i, call, json.dumps({"intent": "ab"[i % 2]})) for i, call in enumerate(calls)]
    lines: list[str] = []
    settings = stage.Settings("ask", min_examples=1, quiet_seconds=0, languages=("de",))
    done = stage.curate(log_of(rows), clusters(rows), settings, lines.append)
    assert done.dropped["language: en"] == 10
    assert "10 of 20 rows are too short to tell their language, and stay" in lines


def _written_as_they_are(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], *, leaking: int) -> stage.Dataset:
    """A dataset of a redaction that does nothing to the mail addresses in the first `leaking` rows."""
    for i in range(leaking):
        rows[i]["request"]["messages"][0]["content"] = f"write to anna{i}@corp.com"
    monkeypatch.setattr(stage.Redactor, "redact", lambda self, conversation, text: text)
    return made(rows)


def test_leaks_in_several_rows_are_reported_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = lines()
    for name in ("train.jsonl", "heldout.jsonl"):
        (tmp_path / name).write_text("of an earlier run")
    done = _written_as_they_are(monkeypatch, rows, leaking=2)
    with pytest.raises(CurationError, match=r"RedactionLeak: redaction left 2 values.* in 2 rows") as raised:
        stage.write(done, log_of(rows), stage.Settings("ask"), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["leaks"] == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["card.md", "lineage.jsonl", "report.json"]
    assert "anna" not in str(raised.value) + "".join(file.read_text() for file in tmp_path.iterdir())
    with pytest.raises(Refused, match=r"report\.json: leaks is 2"):
        refuse_unfit(tmp_path)


def test_a_leak_in_one_row_costs_the_row_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = lines()
    done = _written_as_they_are(monkeypatch, rows, leaking=1)
    result = stage.write(done, log_of(rows), stage.Settings("ask"), tmp_path)
    assert result.leaks == 0 and result.dropped == {"a value of the log left after redaction": 1}
    assert (result.funnel[-1].name, result.funnel[-1].kept) == ("redaction", result.train + result.heldout)
    assert result.train + result.heldout == len(rows) - 1
    for name in ("train.jsonl", "heldout.jsonl", "lineage.jsonl"):
        assert "anna" not in (tmp_path / name).read_text() and rows[0]["id"] not in (tmp_path / name).read_text()
    assert "1 a value of the log left after redaction" in (tmp_path / "card.md").read_text()


def test_a_redaction_that_leaves_values_everywhere_is_refused_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = lines()
    done = _written_as_they_are(monkeypatch, rows, leaking=len(rows))
    assert len(done.train) == len(done.heldout) == 0
    with pytest.raises(CurationError, match="RedactionLeak"):
        stage.write(done, log_of(rows), stage.Settings("ask"), tmp_path)


def test_a_failure_in_a_pod_is_one_small_object(tmp_path: Path) -> None:
    path = tmp_path / "log"
    failure = CurationError("TooFewExamples", "x" * 9000, details={"a": "b" * 9000}).failure
    report(failure, {"SLMFLEET_TERMINATION_LOG": str(path)})
    assert len(path.read_bytes()) <= 4096
    assert JobFailure.model_validate_json(path.read_bytes()).reason == "TooFewExamples"
    report(failure, {})
