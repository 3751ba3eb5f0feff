"""The commands as a newcomer calls them, against golden files; and their documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from slmfleet.cli.curate import curate
from slmfleet.cli.discover import discover
from slmfleet.cli.explain import explain_route
from slmfleet.cli.redact import redact

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/curation"
COMMANDS = {"discover": discover, "redact": redact, "curate": curate, "explain-route": explain_route}


def call(name: str, *arguments: object) -> Any:
    app = typer.Typer()
    app.command()(COMMANDS[name])
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found")
    result = call("discover", "--records", GOLDEN / "records.jsonl", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    return out


def test_discover_finds_what_the_golden_files_say(found: Path) -> None:
    expected = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))
    clusters = json.loads((found / "clusters.json").read_text("utf-8"))["clusters"]
    shown = [{k: c[k] for k in ("name", "size", "description", "signature", "output_format")} for c in clusters]
    assert shown == expected
    assert (found / "assignments.jsonl").read_bytes() == (GOLDEN / "assignments.jsonl").read_bytes()


def test_a_run_that_a_specialist_learned_from_is_named_by_its_task(found: Path, tmp_path: Path) -> None:
    task = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    command = ["discover", "--records", GOLDEN / "records.jsonl", "--out", tmp_path, "--previous", found]
    done = call(*command, "--trained", f"{task}={found}", "--trained", f"another={found}")
    assert done.exit_code == 0, done.output
    assert f"--trained another={found}: that run holds no task another" in done.output
    clusters = json.loads((tmp_path / "clusters.json").read_text("utf-8"))["clusters"]
    assert [c["drift_trained"] == c["drift"] for c in clusters if c["name"] == task] == [True]
    assert all(c["drift_trained"] is None for c in clusters if c["name"] != task)
    refused = call(*command, "--trained", found)
    assert refused.exit_code == 2 and "TASK=FOLDER" in refused.output and "Traceback" not in refused.output


def test_curate_writes_the_golden_report(found: Path, tmp_path: Path) -> None:
    name = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    done = call(
        "curate", "--records", GOLDEN / "records.jsonl", "--clusters", found, "--cluster", name,
        "--out", tmp_path, "--min-examples", 10, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads((GOLDEN / "report.json").read_text())


def test_curate_replaces_what_two_lists_name_and_reports_it(found: Path, tmp_path: Path) -> None:
    name = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    (tmp_path / "a.txt").write_text("kettle\tgoods\n", "utf-8")
    (tmp_path / "b.txt").write_text("bedroom\n", "utf-8")
    done = call(
        "curate", "--records", GOLDEN / "records.jsonl", "--clusters", found, "--cluster", name, "--out", tmp_path,
        "--min-examples", 10, "--model", "none", "--deny", tmp_path / "a.txt", "--deny", tmp_path / "b.txt",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["redaction"]["model"], report["redaction"]["denied"]) == ("none", 2)
    assert report["redacted"]
    written = (tmp_path / "train.jsonl").read_text() + (tmp_path / "heldout.jsonl").read_text()
    assert "kettle" not in written and "bedroom" not in written
    assert "model `none`, 2 denied values" in (tmp_path / "card.md").read_text()


def test_too_few_examples_fail_in_one_line_and_one_object(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    monkeypatch.setenv("SLMFLEET_TERMINATION_LOG", str(tmp_path / "termination"))
    done = call(
        "curate", "--records", GOLDEN / "records.jsonl", "--clusters", found, "--cluster", name,
        "--out", tmp_path / "out", "--min-examples", 9999,
    )  # fmt: skip
    assert done.exit_code == 1
    assert "slmfleet: TooFewExamples: " in done.stderr.splitlines()[-1]
    assert json.loads((tmp_path / "termination").read_text())["reason"] == "TooFewExamples"
    assert not (tmp_path / "out/report.json").exists()


def test_ignored_keys_of_records_are_said(found: Path, tmp_path: Path) -> None:
    name = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    rows = [json.loads(line) for line in (GOLDEN / "records.jsonl").read_text("utf-8").splitlines()]
    text = "".join(json.dumps(row | {"colour": "red"}) + "\n" for row in rows[:60])
    (tmp_path / "log.jsonl").write_text(text, "utf-8")
    given = ["--records", tmp_path / "log.jsonl", "--out", tmp_path / "out"]
    said = "ignored keys of usage records: colour (60 records)"
    assert f"discover: {said}" in call("discover", *given).stderr
    done = call("curate", *given, "--clusters", found, "--cluster", name, "--min-examples", 1, "--quiet-seconds", 0)
    assert done.exit_code == 0 and f"curate: {said}" in done.stderr


def test_redact_writes_the_golden_output(tmp_path: Path) -> None:
    arguments = ["--records", GOLDEN / "texts.jsonl", "--out", tmp_path / "o.jsonl", "--report", tmp_path / "r.json"]
    assert call("redact", *arguments).exit_code == 0
    assert (tmp_path / "o.jsonl").read_bytes() == (GOLDEN / "texts.redacted.jsonl").read_bytes()
    assert (tmp_path / "r.json").read_bytes() == (GOLDEN / "texts.report.json").read_bytes()


def test_explain_route_says_why(found: Path) -> None:
    done = call("explain-route", "--classifier", found / "classifier.npz", "--prompt", "lock the hall door", "--json")
    assert json.loads(done.stdout)["label"] is not None
    done = call("explain-route", "--classifier", found / "classifier.npz", "--prompt", "")
    assert done.stdout.startswith("abstain: ")
    assert call("explain-route", "--classifier", found / "classifier.npz").exit_code == 2


@pytest.mark.parametrize(("text", "said"), [("", "nothing to read"), ("{}\n{}\n", "2 lines, none of them a call")])
def test_a_log_without_a_call_is_named(found: Path, tmp_path: Path, text: str, said: str) -> None:
    name = json.loads((GOLDEN / "clusters.json").read_text("utf-8"))[0]["name"]
    log = tmp_path / "log.jsonl"
    log.write_text(text, "utf-8")
    done = call("curate", "--records", log, "--clusters", found, "--cluster", name, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "redacting" not in done.stderr
    assert f"TooFewExamples: 0 of 100 examples for {name}: {log} holds {said}" in done.stderr


@pytest.mark.parametrize(
    ("option", "reason"),
    [("--source", "SourceUnknown"), ("--model", "ModelUnknown"), ("--embedder", "EmbedderNotFound")],
)
def test_a_value_that_is_none_of_an_options_choices_is_a_wrong_command_line(
    tmp_path: Path, option: str, reason: str
) -> None:
    done = call("discover", "--records", GOLDEN / "records.jsonl", "--out", tmp_path, option, "banana")
    assert done.exit_code == 2 and done.stderr.splitlines()[-1].startswith(f"slmfleet: {reason}: ")


def test_every_reason_of_a_failure_is_documented() -> None:
    source = "".join(file.read_text("utf-8") for file in (ROOT / "operator/slmfleet/curation").glob("*.py"))
    reasons = set(re.findall(r'CurationError\(\s*"([A-Za-z]+)"', source))
    section = (ROOT / "docs/curation.md").read_text("utf-8").split("## Failures")[1]
    assert "TooFewExamples" in reasons and not sorted(r for r in reasons if f"`{r}`" not in section)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_is_documented(name: str) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(COMMANDS[name])
    options = {o for p in typer.main.get_command(app).params for o in p.opts} - {"--help"}
    text = (ROOT / "docs/curation.md").read_text("utf-8")
    section = text.split(f"## `slmfleet {name}`")[1].split("\n## ")[0]
    assert not sorted(o for o in options if not re.search(rf"`?{re.escape(o)}\b", section))
