"""Declared tasks: datasets from a manifest and a log, with no discovery before; and a discovery that leaves them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from curation_samples import HOME, SHOP, lines_of, log_of, record, utterance
from typer.testing import CliRunner

from slmfleet.cli.curate import curate
from slmfleet.cli.discover import discover
from slmfleet.curation import curate as dataset
from slmfleet.curation import discover as stage
from slmfleet.curation.calls import call_of
from slmfleet.curation.detect import Detector
from slmfleet.curation.examine import Task
from slmfleet.wire.declared import parse_tasks
from slmfleet.wire.records import UsageRecord

PROMPTS = {"home": "You route commands of {customer}. JSON only.", "shop": "You sort the shop's letters. JSON only."}
MANIFEST = """
apiVersion: slmfleet.dev/v1alpha1
kind: TaskCluster
metadata: {name: commands}
spec:
  router: agents
  description: Which command it is.
  signature: {systemPrompt: "You route commands of {customer}.\\n  JSON only."}
  outputFormat: {type: json}
"""


def traffic(count: int) -> list[dict[str, Any]]:
    """Commands and letters by turns, each under its own prompt; every tenth command's prompt was reworded."""
    rng, lines = random.Random(0), []
    for number in range(count):
        task, forms = (("home", HOME), ("shop", SHOP))[number % 2]
        label = rng.choice(sorted(forms))
        system = "Name the command." if number % 20 == 0 else PROMPTS[task].format(customer=f"Ann {number} Smith")
        messages = [{"role": "system", "content": system}, {"role": "user", "content": utterance(forms, label, rng)}]
        lines.append(record(number, messages, json.dumps({"intent": label})))
    return lines


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_text(lines_of(traffic(120)), "utf-8")
    return path


def call(log: Path, manifest: str, out: Path, *more: str) -> Any:
    task = out.parent / f"{out.name}.yaml"
    task.write_text(manifest, "utf-8")
    app = typer.Typer()
    app.command()(curate)
    options = ["--min-examples", "10", "--model", "none", "--quiet-seconds", "0", *more]
    return CliRunner().invoke(app, ["--records", str(log), "--clusters", str(task), "--out", str(out), *options])


def test_a_dataset_has_the_declared_tasks_calls_and_no_others(log: Path, tmp_path: Path) -> None:
    done = call(log, MANIFEST, tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out/report.json").read_text())
    by_stage = {stage["name"]: stage for stage in report["funnel"]}
    assert by_stage["task"]["dropped"] == {"another task": 66}
    lineage = map(json.loads, (tmp_path / "out/lineage.jsonl").read_text().splitlines())
    records = [i for row in lineage for i in row["records"]]
    assert records and all(int(i[1:]) % 2 == 0 and int(i[1:]) % 20 for i in records)
    card = (tmp_path / "out/card.md").read_text()
    assert "# Dataset of commands" in card and "Which command it is." in card


def test_a_task_that_asks_for_more_takes_its_calls_away(log: Path, tmp_path: Path) -> None:
    """With the other task in the file, both datasets are as the gateway would route."""
    wide = MANIFEST.replace("name: commands", "name: all").replace("You route commands of {customer}.\\n  ", "{x} ")
    assert call(log, f"{MANIFEST}---{wide}", tmp_path / "both", "--cluster", "all").exit_code == 0
    assert call(log, wide, tmp_path / "alone").exit_code == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("both", "alone")]
    assert [report["answered"]["llm"] for report in reports] == [60, 114]


REFUSED = [
    ("  signature: {systemPrompt: \"You route commands of {customer}.\\n  JSON only.\"}\n", "", (), "NoSignature"),
    ("kind: TaskCluster", "kind: Router", (), "holds no TaskCluster"),
    ("systemPrompt", "prompt", (), "spec.signature.prompt"),
    ("name: x", "", ("--cluster", "other"), "no cluster 'other' among: commands"),
]  # fmt: skip


@pytest.mark.parametrize("old, new, options, said", REFUSED, ids=[row[3] for row in REFUSED])
def test_what_cannot_be_curated_is_refused_in_one_line(
    log: Path, tmp_path: Path, old: str, new: str, options: tuple[str, ...], said: str
) -> None:
    done = call(log, MANIFEST.replace(old, new), tmp_path / "out", *options)
    assert done.exit_code == 1
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_of_several_tasks_one_is_named(log: Path, tmp_path: Path) -> None:
    done = call(log, f"{MANIFEST}---{MANIFEST.replace('name: commands', 'name: more')}", tmp_path / "out")
    assert done.exit_code == 2
    assert "--cluster is needed" in done.stderr and "commands, more" in done.stderr


# --- beside discovery ---

COMMANDS = parse_tasks(MANIFEST)
SETTINGS = stage.Settings(min_size=20, embedder="lexical", detector=Detector(None))


@pytest.fixture(scope="module")
def without() -> stage.Findings:
    return stage.discover(log_of(traffic(240)), SETTINGS)


@pytest.fixture(scope="module")
def beside(without: stage.Findings) -> stage.Findings:
    """The same log, once somebody declared the commands."""
    return stage.discover(log_of(traffic(240)), replace(SETTINGS, declared=COMMANDS), without.likeness)


def test_discovery_makes_no_second_task_of_declared_calls(without: stage.Findings, beside: stage.Findings) -> None:
    declared = {i for i, name in beside.assigned.items() if name == "commands"}
    assert declared == {f"r{n:05d}" for n in range(0, 240, 2) if n % 20}
    found = {c.name: c for c in beside.clusters.clusters}
    assert found["commands"].declared and found["commands"].size == 108
    assert [c.declared for name, c in found.items() if name != "commands"] == [False] * (len(found) - 1)
    letters = {i for i, name in without.assigned.items() if name == without.assigned["r00001"]}
    kept = {i for i, name in beside.assigned.items() if name == without.assigned["r00001"]}
    assert kept == letters - declared, "the other task keeps its name and its calls"


def test_the_classifier_is_not_taught_a_declared_task(beside: stage.Findings) -> None:
    assert beside.trained is not None
    assert "commands" not in beside.trained.classifier.labels


def test_a_declared_task_is_counted_and_judged_as_a_found_one(beside: stage.Findings) -> None:
    (commands,) = (c for c in beside.clusters.clusters if c.declared)
    assert commands.signature.system_prompt == COMMANDS[0].signature.system_prompt
    assert commands.output_format == COMMANDS[0].output_format
    assert commands.description == "Which command it is."
    assert commands.suitability is not None and commands.suitability.verdict == "Wait"
    assert commands.teachable == 108 and commands.input_tokens_p99


def test_whose_a_found_tasks_calls_became_is_said(without: stage.Findings, beside: stage.Findings) -> None:
    was = without.assigned["r00002"]
    told = [(c.kind, c.before, c.now) for c in beside.clusters.changes]
    assert told == [("Merged", [was], ["commands"])]
    again = stage.discover(log_of(traffic(240)), replace(SETTINGS, declared=COMMANDS), beside.likeness)
    assert again.clusters.changes == []


def test_what_discovery_leaves_is_curated_by_the_same_rule(beside: stage.Findings, tmp_path: Path) -> None:
    """Calls that came after the run: a declared task's never go to another task by the classifier."""
    stage.write(beside, tmp_path)
    read = dataset.read_clusters(tmp_path)
    later = call_of(UsageRecord.model_validate(traffic(3)[2] | {"id": "later"}))
    owners = [c.name for c in read.file.clusters
              if Task(c, read.assigned, read.classifier, declared=read.declared).owns(later)]  # fmt: skip
    assert owners == ["commands"]


def test_the_rest_of_a_sampled_log_is_sorted_by_the_same_rule(beside: stage.Findings, tmp_path: Path) -> None:
    more = [UsageRecord.model_validate(line | {"id": f"more-{n}"}) for n, line in enumerate(traffic(4)[1:])]
    stage.write(beside, tmp_path, rest=more, sample_share=0.5)
    lines = map(json.loads, (tmp_path / "assignments.jsonl").read_text().splitlines())
    assigned = {line["id"]: line["cluster"] for line in lines}
    assert assigned["more-1"] == "commands" and assigned["more-0"] not in (None, "commands")
    file = dataset.read_clusters(tmp_path).file
    assert {c.name: c.size for c in file.clusters}["commands"] == 109


def test_the_command_takes_the_manifests(log: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(MANIFEST.replace("signature", "sign"), "utf-8")
    app = typer.Typer()
    app.command()(discover)
    done = CliRunner().invoke(app, ["--records", str(log), "--out", str(tmp_path / "out"), "--declared",
                                    str(tmp_path / "tasks.yaml")])  # fmt: skip
    assert done.exit_code == 1 and "spec.sign" in done.stderr
