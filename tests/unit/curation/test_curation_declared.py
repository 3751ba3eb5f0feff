"""Datasets of declared tasks: from a manifest and a log, with no discovery before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from curation_samples import HOME, SHOP, record, utterance
from typer.testing import CliRunner

from slmfleet.cli.curate import curate

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


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands and letters by turns, each under its own prompt; every tenth command's prompt was reworded."""
    import random

    rng, lines = random.Random(0), []
    for number in range(120):
        task, forms = (("home", HOME), ("shop", SHOP))[number % 2]
        label = rng.choice(sorted(forms))
        system = "Name the command." if number % 20 == 0 else PROMPTS[task].format(customer=f"Ann {number} Smith")
        messages = [{"role": "system", "content": system}, {"role": "user", "content": utterance(forms, label, rng)}]
        lines.append(json.dumps(record(number, messages, json.dumps({"intent": label}))))
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    path.write_text("\n".join(lines), "utf-8")
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
