"""Logs that other programs wrote, in the one form that the stages read. The samples are made by those programs."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import zstandard
from curation_samples import lines_of, record
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.curation import normal
from slmfleet.curation.calls import call_of
from slmfleet.curation.failures import CurationError
from slmfleet.curation.sources import Log, Reader, read_log

GOLDEN = Path(__file__).resolve().parents[2] / "golden/sources"
ASK = [{"role": "user", "content": "hi"}]
SAMPLES = (
    "otel-attributes",
    "otel-events",
    "otel-upload",
    "litellm/callback.jsonl",
    "litellm/spend.jsonl",
    "openai.json",
)


def shown(log: Log) -> dict[str, Any]:
    """A log as its golden file has it."""
    return {
        "read": log.read,
        "joined": log.joined,
        "set_aside": dict(sorted(log.set_aside.items())),
        "records": [r.model_dump(mode="json", exclude_defaults=True) for r in log.records],
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_what_a_program_wrote_reads_as_its_golden_file_says(name: str) -> None:
    path = (
        GOLDEN / f"{Path(name).as_posix().replace('/', '-').removesuffix('.jsonl').removesuffix('.json')}.normal.json"
    )
    found = shown(read_log(GOLDEN / name))
    if os.environ.get("SLMFLEET_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    assert found == json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["otel-attributes", "otel-events", "otel-upload"])
def test_every_generation_of_the_conventions_tells_the_same_calls(name: str) -> None:
    calls = [call_of(r) for r in read_log(GOLDEN / name).records if r.api == "chat.completions"]
    answers = [(c.answer, c.tool_calls) for c in calls if c.set_aside is None]
    tool = (("order_status", '{"order":"1234"}'),)
    assert [(a, tuple((n, x.replace(" ", "")) for n, x in t)) for a, t in answers[:4]] == [
        ('{"intent": "refund"}', ()),
        ("", tool),
        ("Order 1234 left the warehouse on Monday.", ()),
        ('{"intent": "refund"}', ()),
    ]
    assert calls[0].frame.system == "You sort the customer's message. Answer with JSON."
    assert calls[2].frame.user == "Where is my order 1234?"
    assert calls[1].conversation == calls[2].conversation != calls[0].conversation
    assert [c.record.status for c in calls if c.set_aside == "failed"] == [500]
    assert calls[0].tokens == (42, 7)


def test_our_own_spans_are_known_and_carry_no_content(tmp_path: Path) -> None:
    from slmfleet.gateway.spans import attributes

    known = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "big", "slmfleet.tier": "llm"}
    client = {"traceId": "a" * 32, "spanId": "b" * 16, "startTimeUnixNano": "1", "attributes": attributes(known)}
    server = client | {"spanId": "c" * 16, "attributes": attributes({"http.request.method": "POST"})}
    line = {"resourceSpans": [{"scopeSpans": [{"spans": [server, client]}]}]}
    (tmp_path / "traces.json").write_text(json.dumps(line))
    log = read_log(tmp_path / "traces.json")
    assert not log.records
    assert log.set_aside == {
        "otel: a span of no model call": 1,
        "otel: a call without its messages (content was not captured)": 1,
    }


def test_uploaded_content_is_found_where_it_was_moved_to_or_said_to_be_missing(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "otel-upload", tmp_path / "log")
    assert len(read_log(tmp_path / "log").records) == 7
    shutil.rmtree(tmp_path / "log/genai")
    log = read_log(tmp_path / "log")
    assert log.set_aside == {"otel: content in files that are not here": 6}
    assert [r.api for r in log.records] == ["embeddings"]


def test_a_log_cannot_name_any_file_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('[{"role": "user", "parts": [{"type": "text", "content": "s"}]}]')
    known = [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.input.messages_ref", "value": {"stringValue": f"file://{tmp_path}/secret.json"}},
    ]
    span = {"traceId": "a", "spanId": "b", "startTimeUnixNano": "1", "attributes": known}
    (tmp_path / "t.jsonl").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    assert read_log(tmp_path / "t.jsonl").set_aside == {"otel: a reference to no file of an upload hook": 1}


def test_numbered_attributes_of_openllmetry_are_read(tmp_path: Path) -> None:
    known = {
        "llm.request.type": "chat", "gen_ai.request.model": "m", "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "hi", "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.tool_calls.0.name": "look", "gen_ai.completion.0.tool_calls.0.arguments": "{}",
        "llm.request.functions.0.name": "look", "llm.request.functions.0.parameters": '{"type": "object"}',
    }  # fmt: skip
    attributes = [{"key": k, "value": {"stringValue": v}} for k, v in known.items()]
    span = {"traceId": "a", "spanId": "b", "startTimeUnixNano": "1772438400000000000", "attributes": attributes}
    (tmp_path / "t.jsonl").write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    call = call_of(read_log(tmp_path / "t.jsonl").records[0])
    assert (call.frame.user, call.tool_calls, call.frame.tools) == ("hi", (("look", "{}"),), ("look",))


def test_one_log_of_many_kinds_zips_and_patterns(tmp_path: Path) -> None:
    ours = lines_of([record(1, ASK, "x")]).encode()
    (tmp_path / "a.jsonl").write_bytes(ours)
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(lines_of([record(2, ASK, "x")]).encode()))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress((GOLDEN / "litellm/callback.jsonl").read_bytes()))
    shutil.copytree(GOLDEN / "otel-events", tmp_path / "deep/otel")
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(ours * 900)[:30])
    whole = read_log(tmp_path)
    assert whole.kinds == {"records": 2, "litellm": 6, "otel": 6}
    assert whole.set_aside["file not readable to its end"] == 1
    assert read_log(tmp_path / "*.jsonl*").kinds == {"records": 2}
    assert read_log(tmp_path / "**/traces.jsonl").read == 6


def test_a_named_source_takes_every_line_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines_of([record(1, ASK, "x")]))
    assert read_log(tmp_path / "a.jsonl", source="records").kinds == {"records": 1}
    assert not read_log(tmp_path / "a.jsonl", source="litellm").records
    with pytest.raises(CurationError, match="--source sql: one of auto, records, otel, litellm, openai"):
        read_log(tmp_path / "a.jsonl", source="sql")


def test_what_is_set_aside_is_listed_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines_of([record(1, ASK, "x")]) + '{"id": "anna@corp.com"}\nnot json\n')
    log = read_log(tmp_path / "a.jsonl", rejected=tmp_path / "aside/rejected.jsonl")
    rows = [json.loads(x) for x in (tmp_path / "aside/rejected.jsonl").read_text().splitlines()]
    assert [(r["where"], r["reason"], r["bytes"]) for r in rows] == [
        ("a.jsonl:2", "not a usage record: time", 23),
        ("a.jsonl:3", "not JSON", 8),
    ]
    assert "anna" not in (tmp_path / "aside/rejected.jsonl").read_text()
    assert len(log.records) + sum(log.set_aside.values()) == log.read


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": [{"role": "user", "content": "redacted-by-litellm"}]}, "litellm: no messages in it"),
        ({"messages": "{}"}, "litellm: no messages in it"),
        ({"call_type": "aimage_generation"}, "litellm: a call of another kind than a model's answer"),
        ({"startTime": None}, "litellm: no startTime"),
        ({"litellm_call_id": "", "id": None}, "not a usage record: id"),
    ],
)
def test_a_litellm_line_that_tells_nothing_says_why(change: dict[str, Any], reason: str) -> None:
    line = json.loads((GOLDEN / "litellm/callback.jsonl").read_text().splitlines()[0]) | change
    assert list(normal.elements(json.dumps(line).encode(), "litellm")) == [normal.Aside(reason)]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab ", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted({
        "id", "time", "request", "response", "messages", "content", "role", "parts", "type", "object", "data",
        "choices",
        "resourceSpans", "scopeSpans", "spans", "attributes", "key", "value", "traceId", "spanId", "stringValue",
        "kvlistValue", "values", "events", "call_type", "startTime", "metadata", "litellm_call_id", "created", "body",
        "resourceLogs", "scopeLogs", "logRecords", "eventName", "startTimeUnixNano",
    })), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(_VALUES, max_size=6), st.sampled_from([None, *normal.KINDS]))
def test_no_line_is_fatal_and_none_is_lost(values: list[Any], kind: normal.Kind | None) -> None:
    parts: dict[tuple[str, str], list[Any]] = {}
    for value in values:
        for element in normal.elements(json.dumps(value).encode(), kind):
            assert isinstance(element, normal.Whole | normal.Aside | normal.Part)
            if isinstance(element, normal.Part):
                parts.setdefault((element.kind, element.key), []).append(element.body)
    for (name, key), bodies in parts.items():
        assert isinstance(normal.joined(name, key, bodies, GOLDEN), normal.Whole | normal.Aside)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_normal_form_of_a_normal_form_is_itself(name: str, tmp_path: Path) -> None:
    reader = Reader(GOLDEN / name)
    lines = [r.record.model_dump_json(exclude_defaults=True) for r in reader]
    assert len(lines) + reader.log.joined + sum(reader.log.set_aside.values()) == reader.log.read
    (tmp_path / "again.jsonl").write_text("\n".join(lines))
    assert [r.record.model_dump_json(exclude_defaults=True) for r in Reader(tmp_path / "again.jsonl")] == lines


@pytest.mark.parametrize("named", ["usage/1.seg", "usage/*.seg", "usage"])
def test_sealed_segments_are_read_by_name_by_pattern_and_by_folder(tmp_path: Path, named: str) -> None:
    import pyrage

    from slmfleet.store import segments

    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    (tmp_path / "usage").mkdir()
    for number in (1, 2):
        line = json.dumps(record(number, ASK, "yes")).encode()
        sealed = segments.seal([line], [str(identity.to_public())], meta={})
        (tmp_path / "usage" / f"{number}.seg").write_bytes(sealed)
    log = read_log(tmp_path / named, tmp_path / "key.txt")
    assert [r.id for r in log.records] == (["r00001"] if named.endswith("1.seg") else ["r00001", "r00002"])
    assert not log.set_aside
    with pytest.raises(CurationError, match="IdentityMissing"):
        read_log(tmp_path / named)


def test_one_broken_segment_among_those_named_is_set_aside(tmp_path: Path) -> None:
    import pyrage

    from slmfleet.store import segments

    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    sealed = segments.seal([json.dumps(record(1, ASK, "yes")).encode()], [str(identity.to_public())], meta={})
    (tmp_path / "1.seg").write_bytes(sealed[:-9])
    (tmp_path / "2.seg").write_bytes(sealed)
    log = read_log(tmp_path / "*.seg", tmp_path / "key.txt")
    assert (len(log.records), log.set_aside.total()) == (1, 1)
    (tmp_path / "2.seg").write_bytes(sealed[:-9])
    with pytest.raises(CurationError, match="NoSegmentOpens: none of 2 segments"):
        read_log(tmp_path / "*.seg", tmp_path / "key.txt")


def test_keys_that_nobody_reads_are_counted_by_name(tmp_path: Path) -> None:
    rows = [record(i, [{"role": "user", "content": "a"}], "b") for i in range(20)]
    for i, row in enumerate(rows):
        row |= {"colour": "red"} if i < 12 else {}
        row |= {"outcome": {"success": True, "scores": 1}} if i < 3 else {"outcome": {"success": True}}
        row |= {"Anna Meier <anna@corp.com>": 1, "_": 2} if i < 2 else {}
    (tmp_path / "log.jsonl").write_text(lines_of(rows), "utf-8")
    log = read_log(tmp_path / "log.jsonl")
    assert len(log.records) == 20 and not log.set_aside
    assert log.ignored == {"colour": 12, "outcome.scores": 3, "other keys": 4}
    (line,) = log.said_of_ignored()
    assert line == (
        "ignored keys of usage records: colour (12 records), other keys (4 records), outcome.scores (3 records)"
    )


def test_of_many_ignored_keys_the_commonest_are_named(tmp_path: Path) -> None:
    row = record(1, [{"role": "user", "content": "a"}], "b") | {f"k{i}": i for i in range(1_000)}
    (tmp_path / "log.jsonl").write_text(lines_of([row]), "utf-8")
    log = read_log(tmp_path / "log.jsonl")
    assert (len(log.ignored), log.ignored["other keys"], log.ignored.total()) == (101, 900, 1_000)
    (line,) = log.said_of_ignored()
    assert line.count("(1 record)") == 9 and line.endswith(" and 91 more")
    assert Log().said_of_ignored() == []


def test_a_long_log_is_read_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmfleet.curation.sources.TELL", 20)
    (tmp_path / "log.jsonl").write_text(lines_of([record(i, ASK, "yes") for i in range(50)]))
    said: list[str] = []
    read_log(tmp_path / "log.jsonl", say=said.append)
    assert said == ["20 records read", "40 records read"]
