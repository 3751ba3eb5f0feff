"""A log larger than the bounds: which conversations are held, and where the calls of the others go."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from curation_samples import lines_of, mixed, record
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from slmfleet.cli.main import app
from slmfleet.curation import discover as stage
from slmfleet.curation.report import score
from slmfleet.curation.sample import Bounds, Sample
from slmfleet.curation.sources import left_out, read_log
from slmfleet.wire.records import UsageRecord


def usage(number: int, conversation: str | None) -> UsageRecord:
    messages = [{"role": "user", "content": str(number)}]
    return UsageRecord.model_validate(record(number, messages, "yes", conversation=conversation))


def sampled(records: list[UsageRecord], bounds: Bounds, size: int = 1) -> Sample:
    sample = Sample(bounds)
    for each in records:
        assert sample.add(each, size)
    return sample


CONVERSATIONS = st.lists(st.integers(1, 6), min_size=20, max_size=80)


@given(CONVERSATIONS, st.integers(10, 60), st.randoms(use_true_random=False))
def test_a_sample_has_whole_conversations_within_the_bounds_in_whatever_order_they_come(sizes, most, rng) -> None:
    names = [f"c{k}" for k, size in enumerate(sizes) for _ in range(size)]
    records = [usage(n, name) for n, name in enumerate(names)]
    bounds = Bounds(records=max(most, 50))
    one = sampled(records, bounds)
    rng.shuffle(records)
    other = sampled(records, bounds)
    assert (one.share, set(one.records)) == (other.share, set(other.records))
    assert len(one.records) <= bounds.records
    held, all_ = Counter(r.conversation for r in one.records.values()), Counter(names)
    assert all(held[name] == all_[name] for name in held)
    assert one.left_out == len(names) - len(one.records)
    assert one.share == 1 or len(names) > bounds.records


def test_a_smaller_sample_is_a_part_of_a_larger_one() -> None:
    records = [usage(n, f"c{n // 3}") for n in range(900)]
    large, small = (sampled(records, Bounds(records=most)) for most in (400, 150))
    assert 0 < len(small.records) < len(large.records) < 900
    assert set(small.records) < set(large.records)


def test_the_bytes_of_the_lines_bound_it_too() -> None:
    records = [usage(n, f"c{n}") for n in range(200)]
    sample = sampled(records, Bounds(records=1000, bytes=5_000), size=100)
    assert 10 <= len(sample.records) <= 50


@pytest.mark.parametrize("conversation", [None, "always-the-same"])
def test_where_nothing_or_always_the_same_is_named_single_calls_are_drawn(conversation: str | None) -> None:
    sample = sampled([usage(n, conversation) for n in range(2000)], Bounds(records=500))
    assert 150 <= len(sample.records) <= 500


def test_of_two_with_one_id_the_later_counts_inside_the_sample_and_each_once_outside() -> None:
    sample = Sample(Bounds(records=100))
    assert [sample.add(usage(n, f"c{n}"), 1) for n in range(300)] == [True] * 300
    inside = next(iter(sample.records))
    again = usage(int(inside[1:]), sample.records[inside].conversation).model_copy(update={"latency_seconds": 9.0})
    assert not sample.add(again, 1)
    assert sample.records[inside].latency_seconds == 9.0
    outside = next(n for n in range(300) if f"r{n:05d}" not in sample.records)
    assert not sample.add(usage(outside, f"c{outside}"), 1)
    assert len(sample.records) + sample.left_out == 300


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    log, truth = mixed(1200, broad=300, system="Name the intent of the message. Answer in JSON.")
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [json.loads(r.model_dump_json()) for r in log.records]
    random.Random(1).shuffle(lines)
    path.write_text(lines_of([*lines, lines[0]]), "utf-8")
    return path, truth


def test_the_tasks_of_a_sample_get_the_calls_of_the_whole_log(log_file: tuple[Path, dict[str, Any]], tmp_path) -> None:
    path, truth = log_file
    log = read_log(path, bounds=Bounds(records=900))
    assert log.sample is not None and log.sample.share < 1
    assert len(log.records) <= 900
    assert len(log.records) + log.sample.left_out + log.set_aside["same id again"] == log.read == 2701
    found = stage.discover(log, stage.Settings(embedder="lexical"))
    result = stage.write(found, tmp_path, rest=left_out(log, path), sample_share=log.sample.share)

    rows = [json.loads(line) for line in (tmp_path / "assignments.jsonl").read_text().splitlines()]
    assigned = {row["id"]: row["cluster"] for row in rows}
    assert len(rows) == len(assigned) == len(truth)
    outside = {id: name for id, name in assigned.items() if id not in found.assigned}
    scores = score({id: truth[id] for id in outside}, outside)
    assert (scores.tasks_found, scores.purity > 0.99, scores.missed < 0.05) == (2, True, True)

    file = result.clusters
    counted = Counter(assigned.values())
    narrow = [c for c in file.clusters if c.narrow]
    assert {c.name: c.size for c in narrow} == {c.name: counted[c.name] for c in narrow}
    assert all(c.teachable == c.size and c.share == round(c.size / 2700, 6) for c in narrow)
    assert (file.records, file.sample_share) == (2700, log.sample.share)
    assert file.unassigned == counted[None]


def test_a_log_within_the_bounds_is_read_once_and_whole(log_file: tuple[Path, dict[str, Any]]) -> None:
    path, _ = log_file
    log = read_log(path)
    assert len(log.records) == 2700
    assert list(left_out(log, path)) == []


def test_the_command_says_that_it_took_a_sample(log_file: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = log_file
    done = CliRunner().invoke(
        app,
        ["discover", "--records", str(path), "--out", str(tmp_path), "--max-records", "1000", "--embedder", "lexical"],
    )
    assert done.exit_code == 0, done.output
    assert "a large log: tasks are sought in 25.000% of its conversations" in done.output
    assert json.loads((tmp_path / "clusters.json").read_text())["sample_share"] == 0.25
