"""Sources, shapes, formats, names and scores."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyrage
import pytest
from curation_samples import lines_of, record
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.curation import formats, naming, router
from slmfleet.curation.calls import call_of
from slmfleet.curation.failures import CurationError
from slmfleet.curation.report import score, upper_limit
from slmfleet.curation.shapes import Shape, shape_of_text
from slmfleet.curation.sources import read_log
from slmfleet.store import segments
from slmfleet.wire.records import UsageRecord
from slmfleet.wire.routes import OutputFormat

ASK = [{"role": "user", "content": "hi"}]


def test_broken_lines_are_counted_with_their_place(tmp_path: Path) -> None:
    good = [record(i, ASK, "x") for i in range(3)]
    bad = ["{", '{"id": "x"}', json.dumps(record(9, ASK, "x") | {"time": "yesterday"}), json.dumps(good[0]), ""]
    (tmp_path / "a.jsonl").write_text(lines_of(good) + "\n".join(bad), "utf-8")
    log = read_log(tmp_path / "a.jsonl")
    assert [r.id for r in log.records] == ["r00000", "r00001", "r00002"]
    assert log.set_aside == {"not JSON": 1, "not a usage record: time": 2, "same id again": 1}
    assert log.examples["not JSON"] == "a.jsonl:4"


def test_a_folder_of_plain_and_zipped_files_is_one_log(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(lines_of([record(2, ASK, "x")]), "utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines_of([record(1, ASK, "x")]).encode()))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines_of([record(3, ASK, "x")] * 50).encode())[:60])
    log = read_log(tmp_path)
    assert [r.id for r in log.records][:2] == ["r00001", "r00002"]
    assert log.set_aside["file not readable to its end"] == 1


def test_sealed_segments_open_with_their_identity_and_broken_ones_are_counted(tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    sealed = segments.seal([json.dumps(record(1, ASK, "x")).encode()], [str(identity.to_public())], meta={})
    (tmp_path / "log").mkdir()
    (tmp_path / "log/1.seg").write_bytes(sealed)
    (tmp_path / "log/2.seg").write_bytes(sealed[:-3] + b"abc")
    (tmp_path / "key").write_text(f"# key\n{identity}\n")
    log = read_log(tmp_path / "log", tmp_path / "key")
    assert [r.id for r in log.records] == ["r00001"]
    assert sum(log.set_aside.values()) == 1
    with pytest.raises(CurationError, match="IdentityMissing"):
        read_log(tmp_path / "log")


def test_every_damaged_segment_is_set_aside_with_its_reason_and_the_rest_is_read(tmp_path: Path) -> None:
    ours, other = (pyrage.x25519.Identity.generate() for _ in range(2))

    def sealed(number: int, to: Any = ours, **more: Any) -> bytes:
        line = json.dumps(record(number, ASK, "x", **more)).encode()
        return segments.seal([line], [str(to.to_public())], meta={})

    whole = sealed(0)
    damaged = {
        "Truncated": [whole[:200], whole[:9], b""],
        "Corrupt": [whole[:-1] + bytes([whole[-1] ^ 4]), whole[:-40]],
        "NotForUs": [sealed(1, other)],
        "NotASegment": [b"a text that somebody put here", b"\x00" * 300],
        "UnknownFormat": [whole.replace(b"SLMSEG2", b"SLMSEG9"), whole.replace(b'"zstd"', b'"zst7"')],
    }
    folder = tmp_path / "log" / "2026-03-02"
    (folder / "a-folder.seg").mkdir(parents=True)
    (folder / "gone.seg").symlink_to(tmp_path / "nothing")
    for reason, files in damaged.items():
        for number, data in enumerate(files):
            (folder / f"{reason}-{number}.seg").write_bytes(data)
    (folder / "good-1.seg").write_bytes(whole)
    (folder / "good-2.seg").write_bytes(sealed(2, time="yesterday"))
    (folder / ".good-3.seg.x1.tmp").write_bytes(whole[:50])
    (tmp_path / "key").write_text(f"{ours}\n")
    log = read_log(tmp_path / "log", tmp_path / "key")
    assert [r.id for r in log.records] == ["r00000"]
    expected = {f"segment: {reason}": len(files) for reason, files in damaged.items()}
    assert log.set_aside == {**expected, "segment: Unreadable": 2, "not a usage record: time": 1}
    assert log.examples["segment: NotForUs"].startswith("NotForUs-0.seg: ")


def test_an_identity_that_opens_no_segment_is_a_failure_and_no_empty_log(tmp_path: Path) -> None:
    ours, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    (tmp_path / "log").mkdir()
    (tmp_path / "log/1.seg").write_bytes(segments.seal([b"{}"], [str(ours.to_public())], meta={}))
    (tmp_path / "key").write_text(f"{other}\n")
    with pytest.raises(CurationError, match=r"NoSegmentOpens: none of 1 segments"):
        read_log(tmp_path / "log", tmp_path / "key")
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1NOPE\n")
    with pytest.raises(CurationError, match=r"IdentityNotReadable: .*key 1 of 1"):
        read_log(tmp_path / "log", tmp_path / "key")


def test_a_missing_log_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"LogNotFound: .*--records"):
        read_log(tmp_path / "none")


@pytest.mark.parametrize(
    ("answer", "kind", "keys"),
    [
        ('{"b": 1, "a": "x"}', "json", ("a", "b")),
        ('```json\n{"a": 1}\n```', "json", ("a",)),
        ("[1, 2]", "json", ("[]",)),
        ("PlayMusic", "label", ()),
        ("{broken", "label", ()),
        ("A sentence that has rather more than the eight words of a label.", "text", ()),
        ("```python\nx = 1\n```", "code", ()),
    ],
)
def test_the_shape_of_an_answer(answer: str, kind: str, keys: tuple[str, ...]) -> None:
    shape = shape_of_text(answer)
    assert (shape.kind, shape.keys) == (kind, keys)


@given(st.text(max_size=80))
def test_every_answer_has_a_shape_and_a_verdict(answer: str) -> None:
    shape_of_text(answer)
    formats.fault(answer, OutputFormat(type="json", json_schema={"type": "object"}))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ('{"n": 3, "t": ["a"]}', None),
        ('{"n": true, "t": []}', "$.n is no integer"),
        ('{"t": []}', "$ lacks n"),
        ('{"n": 3, "x": 1}', "$ has another key"),
        ('{"n": 3, "t": [1]}', "$.t[0] is no string"),
        ("[]", "$ is no object"),
        ("nothing", "not JSON"),
    ],
)
def test_an_answer_that_breaks_its_schema_says_where(answer: str, fault: str | None) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "t": {"type": "array", "items": {"type": "string"}}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert formats.fault(answer, OutputFormat(type="json", json_schema=schema)) == fault


def test_a_task_of_tool_calls_has_that_format_and_a_plain_answer_breaks_it() -> None:
    shapes = [Shape("tool", ("play",))] * 3 + [Shape("text")]
    assert formats.infer([], shapes, None) == OutputFormat(type="tool")
    assert formats.fault("I would play jazz.", OutputFormat(type="tool")) == "no tool call"


@given(st.lists(st.text(max_size=30), max_size=6))
def test_every_slug_is_a_name_for_kubernetes(parts: list[str]) -> None:
    name = naming.slug(parts)
    assert 0 < len(name) <= 63 and name.strip("-") == name and name == name.lower() and name.isascii()


def test_one_cluster_of_two_tasks_and_two_of_one_are_both_seen() -> None:
    truth = {f"a{i}": "a" for i in range(10)} | {f"b{i}": "b" for i in range(10)} | {"x": None, "y": None}
    merged = score(truth, dict.fromkeys(truth, "one") | {"x": None, "y": None})
    assert (merged.tasks_found, merged.purity, merged.foreign) == (1, 0.5, 0.0)
    split = score(
        truth, {k: k[0] + ("1" if k[1:] < "5" else "2") for k in truth if len(k) > 1} | {"x": "a1", "y": None}
    )
    assert split.splits == {"a": 2, "b": 2}
    assert (split.purity, split.missed, split.foreign) == (20 / 21, 0.5, 0.5)


@pytest.mark.parametrize(("hits", "trials", "limit"), [(0, 100, 0.0295), (0, 0, 1.0), (5, 100, 0.1023), (3, 3, 1.0)])
def test_the_upper_limit_is_clopper_pearsons(hits: int, trials: int, limit: float) -> None:
    assert upper_limit(hits, trials) == pytest.approx(limit, abs=1e-3)


def test_a_task_with_several_wordings_asks_less_of_the_next_one() -> None:
    one = ((1, 2, 3, 4),)
    several = ((1, 2, 3, 4), (1, 2, 5, 6), (1, 2, 7, 8))
    assert router._likeness_asked(one, [[1, 2, 3, 4]] * 50) == 0.5
    asked = router._likeness_asked(several, [list(p) for p in several] * 20)
    assert asked < 2 / 6  # what each shares with the next
    unlike = ((1, 2), (3, 4), (5, 6))
    assert router._likeness_asked(unlike, [[1, 2]]) == router.PROMPT_LIKENESS_LEAST


def test_a_task_that_is_new_at_the_end_of_the_log_is_in_every_part() -> None:
    calls = [call_of(UsageRecord.model_validate(record(n, ASK, "x"))) for n in range(300)]
    task = [0] * 270 + [1] * 30
    part = router.conversation_parts(calls, task, (0.65, 0.82)).tolist()
    assert {p for p, t in zip(part, task, strict=True) if t == 1} == {0, 1, 2}
    assert part[:270] == sorted(part[:270])
    assert part[270:] == sorted(part[270:])
    together: dict[str, set[int]] = {}
    for call, number in zip(calls, part, strict=True):
        together.setdefault(call.conversation, set()).add(number)
    assert all(len(parts) == 1 for parts in together.values())
