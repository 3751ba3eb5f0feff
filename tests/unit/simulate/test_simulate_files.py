"""Traces and fleet files: what is read, and what is refused by line and by name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from slmfleet.simulate.fleetfile import Fleet, rates, read_fleet
from slmfleet.simulate.problem import InputProblem
from slmfleet.simulate.trace import read_trace

GOLDEN = Path(__file__).parents[2] / "golden" / "simulate"
LINE = '{"time": 1, "specialist": "a", "input_tokens": 3, "output_tokens": 4}'


def write(folder: Path, text: str, name: str = "t.jsonl") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_every_form_of_a_trace_is_the_same_trace(tmp_path: Path) -> None:
    lines = ['{"time": "2026-03-02T08:00:05+00:00", "specialist": "b", "input_tokens": 7, "output_tokens": 0}',
             '{"time": "2026-03-02T09:00:03.5+01:00", "specialist": "a", "input_tokens": 3, "output_tokens": 4}']
    table = "specialist,time,output_tokens,input_tokens\nb,101.5,0,7\na,100,4,3\n"
    files = [write(tmp_path, "\n".join(lines)), write(tmp_path, table, "t.csv")]
    for file in list(files):
        packed = file.with_name(file.name + ".gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        files.append(packed)
    for file in files:
        found = read_trace(file)
        assert found.specialists == ("b", "a")
        assert (found.times, found.specialist) == ([0.0, 1.5], [1, 0])
        assert (found.input_tokens, found.output_tokens) == ([3, 7], [4, 0])


WRONG_TRACES = [
    ("t.jsonl", f"{LINE}\n{{nonsense", "t.jsonl:2: not JSON"),
    ("t.jsonl", f"{LINE}\n\n[1]", "t.jsonl:3: not an object"),
    ("t.jsonl", LINE.replace("}", ', "model": "m"}'), "t.jsonl:1: unknown key model"),
    ("t.jsonl", LINE.replace(', "output_tokens": 4', ""), "t.jsonl:1: output_tokens is missing"),
    ("t.jsonl", LINE.replace("3", "-3"), "t.jsonl:1: input_tokens: must be a whole number from 0"),
    ("t.jsonl", LINE.replace("4}", "4.5}"), "t.jsonl:1: output_tokens: must be"),
    ("t.jsonl", LINE.replace("4}", "true}"), "t.jsonl:1: output_tokens: must be"),
    ("t.jsonl", LINE.replace('"a"', "null"), "t.jsonl:1: specialist: must be a name"),
    ("t.jsonl", LINE.replace("1,", '"yesterday",'), "time: 'yesterday' is neither RFC 3339 nor"),
    ("t.jsonl", LINE.replace("1,", '"2026-03-02T08:00:00",'), "has no zone; write 2026-03-02T08:00:00Z"),
    ("t.jsonl", LINE.replace("1,", "null,"), "time: None is neither"),
    ("t.jsonl", f"{LINE}\n" + LINE.replace("1,", '"2026-03-02T08:00:00Z",'), "t.jsonl:2: time: a date here and"),
    ("t.jsonl", "\n", "t.jsonl: no calls in it"),
    ("t.csv", "", "t.csv: empty"),
    ("t.csv", "time,specialist,input_tokens\n", "t.csv:1: output_tokens is missing"),
    ("t.csv", "time,specialist,input_tokens,output_tokens,x\n", "t.csv:1: unknown key x"),
    ("t.csv", "time,specialist,input_tokens,output_tokens\n1,a,2\n", "t.csv:2: 3 fields, and 4 columns"),
    ("t.csv", "time,specialist,input_tokens,output_tokens\nnan,a,2,3\n", "t.csv:2: time: nan is neither"),
    ("t.txt", LINE, "t.txt: a trace is .jsonl"),
    ("t.jsonl.gz", LINE, "t.jsonl.gz: not gzip"),
]


@pytest.mark.parametrize("name, text, said", WRONG_TRACES, ids=[row[2] for row in WRONG_TRACES])
def test_a_wrong_trace_is_refused_by_line_and_field(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(InputProblem) as refused:
        read_trace(write(tmp_path, text, name))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The golden fleet with one key set, or taken out where the value is None."""
    content: Any = yaml.safe_load((GOLDEN / "fleet.yaml").read_text())
    *way, last = path.split(".")
    here = content
    for part in way:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if value is None:
        del here[last]
    else:
        here[last] = value
    return dict(content)


WRONG_FLEETS: list[tuple[str, Any, str]] = [
    ("pool", [], "pool: unknown key"),
    ("pools.0.pool.minReplica", 1, "pools.0.pool.minReplica: unknown key"),
    ("pools.0.pool.prices", {"input": 1}, "pools.0.pool.prices.input: unknown key"),
    ("pools.0.service.kvCache", 1, "pools.0.service.kvCache: unknown key"),
    ("llm.prices.inputPerMilion", 1, "llm.prices.inputPerMilion: unknown key"),
    ("pools.0.service.slots", None, "pools.0.service.slots: Field required"),
    ("pools.0.service.slots", 0, "pools.0.service.slots: Input should be greater"),
    ("pools.0.service.prefillTokensPerSecond", float("nan"), "prefillTokensPerSecond: Input should be a finite"),
    ("pools.0.service.decodeTokensPerSecond", {}, "decodeTokensPerSecond: Dictionary should have at least 1"),
    ("pools.0.service.decodeTokensPerSecond", {0: 5}, "decodeTokensPerSecond"),
    ("pools.0.pool.minReplicas", 9, "pools.0: pool.minReplicas must not exceed pool.maxReplicas"),
    ("adapters.0.pool", "huge", "adapters: extract-invoice is on 'huge', which is no pool here"),
    ("adapters.0.specialist", "label-intent", "adapters: 'label-intent' is there twice"),
    ("pools", [], "pools: List should have at least 1"),
]


@pytest.mark.parametrize("path, value, said", WRONG_FLEETS, ids=[row[2] for row in WRONG_FLEETS])
def test_a_wrong_fleet_file_is_refused_by_key(tmp_path: Path, path: str, value: Any, said: str) -> None:
    file = write(tmp_path, yaml.safe_dump(changed(path, value)), "fleet.yaml")
    with pytest.raises(InputProblem) as refused:
        read_fleet(file)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text, said", [("{", "not YAML"), ("- 1", "not a mapping"), ("", "not a mapping")])
def test_a_fleet_file_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputProblem, match=said):
        read_fleet(write(tmp_path, text, "fleet.yaml"))


def test_a_specialist_without_an_adapter_is_refused_by_name() -> None:
    declared = read_fleet(GOLDEN / "fleet.yaml")
    with pytest.raises(InputProblem, match="'guess' of the trace has no entry in adapters"):
        declared.adapters_of(["label-intent", "guess"])


def test_without_adapters_every_specialist_is_on_the_only_pool() -> None:
    content = changed("adapters", None)
    assert Fleet.model_validate(content).adapters_of(["x"])["x"].pool == "tiny"
    content["pools"].append({**content["pools"][0], "name": "other"})
    with pytest.raises(ValueError, match="with more than one pool"):
        Fleet.model_validate(content)


def test_a_batchs_speed_is_linear_between_what_was_measured() -> None:
    service = read_fleet(GOLDEN / "fleet.yaml").pools[0].service.model_copy(
        update={"slots": 6, "decode_tokens_per_second": {2: 100, 4: 300}})
    assert [round(rate * batch, 6) for batch, rate in enumerate(rates(service))] == [0, 50, 100, 200, 300, 300, 300]
