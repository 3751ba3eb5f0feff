"""The command line as a program sees it: exit codes, one line on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from slmfleet.cli.main import COMMANDS, app
from slmfleet.cli.operator import _liveness

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def slmfleet(*args: object) -> Done:
    """In this process: a command of its own costs a second."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="slmfleet")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def as_process(*args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"})


def refused(*args: object) -> str:
    """The one line that says what is wrong."""
    done = slmfleet(*args)
    assert done.returncode != 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    done = as_process("-X", "importtime", "-m", "slmfleet.cli", "--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    for heavy in ("kopf", "kubernetes", "numpy", "sklearn", "torch", "cryptography"):
        assert f" {heavy}\n" not in done.stderr


def test_a_failure_of_the_program_itself_is_one_line_and_no_traceback() -> None:
    done = as_process("-m", "slmfleet.cli", "verdict", "--pairs", "gone.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "slmfleet: --pairs gone.jsonl: No such file or directory\n"


def test_an_unknown_command_is_refused_by_name() -> None:
    done = slmfleet("promote")
    assert done.returncode == 2
    assert "promote" in done.stderr


def test_an_unknown_option_is_refused_by_name() -> None:
    done = slmfleet("verdict", "--pears", "x")
    assert done.returncode == 2
    assert "--pears" in done.stderr


# --- verdict -----------------------------------------------------------------------------------------------------

def pairs(folder: Path, *lines: Any) -> Path:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return file


BETTER, SAME, WORSE = ({"candidate": c, "baseline": 0.5} for c in (0.8, 0.5, 0.1))


@pytest.mark.parametrize("line, count, verdict", [(BETTER, 200, "promote"), (WORSE, 200, "rollback"),
                                                  (SAME, 5, "continue")])  # fmt: skip
def test_a_verdict_is_an_object_with_five_keys_and_always_exits_0(
    tmp_path: Path, line: Any, count: int, verdict: str
) -> None:
    done = slmfleet("verdict", "--pairs", pairs(tmp_path, *[line] * count), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert list(found) == ["verdict", "after", "estimate", "interval", "lines"]
    assert (found["verdict"], found["lines"]) == (verdict, count)
    low, high = found["interval"]
    assert low <= found["estimate"] <= high
    assert found["after"] <= count


def test_a_verdict_for_people_is_one_sentence(tmp_path: Path) -> None:
    done = slmfleet("verdict", "--pairs", pairs(tmp_path, *[BETTER] * 200))
    assert done.stdout.startswith("promote after ")
    assert len(done.stdout.splitlines()) == 1


WRONG_LINES: list[tuple[Any, str]] = [
    ("{not json", "pairs.jsonl:2: not JSON"),
    ("[1]", "pairs.jsonl:2: not an object"),
    ({"candidate": 1, "baselin": 0}, "pairs.jsonl:2: unknown key baselin"),
    ({"candidate": 1.2, "baseline": 0}, "pairs.jsonl:2: candidate must be a number from 0 to 1, not 1.2"),
    ({"candidate": True, "baseline": 0}, "candidate must be a number"),
    ({"candidate": 1, "baseline": "0"}, "baseline must be a number"),
]


@pytest.mark.parametrize("line, told", WRONG_LINES)
def test_a_wrong_line_is_refused_by_its_number_and_key(tmp_path: Path, line: Any, told: str) -> None:
    assert told in refused("verdict", "--pairs", pairs(tmp_path, SAME, line))


def test_the_widest_margin_is_no_error(tmp_path: Path) -> None:
    done = slmfleet("verdict", "--pairs", pairs(tmp_path, *[SAME] * 40), "--margin", 1, "--json")
    assert json.loads(done.stdout)["verdict"] == "promote"


# --- select ------------------------------------------------------------------------------------------------------

SPEC = {"source": {"storePath": "bases/x"}, "parameters": 1000, "contextTokens": 512, "licence": "MIT", "memory": "1Gi"}


def models(folder: Path, **specs: Any) -> Path:
    for name, spec in specs.items():
        document = {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "BaseModel", "metadata": {"name": name},
                    "spec": {**SPEC, **spec}}  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    (folder / "other.yaml").write_text("kind: ConfigMap\nmetadata: {name: not-a-model}\n---\n")
    return folder


def test_models_are_ranked_best_first_with_reasons(tmp_path: Path) -> None:
    folder = models(tmp_path, large={"parameters": 2000}, gpl={"licence": "GPL-3.0"}, small={}, fat={"memory": "64Gi"})
    done = slmfleet("select", "--cluster", "intents", "--models", folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[1:3] for line in lines] == [["small", "yes"], ["large", "yes"], ["fat", "no"], ["gpl", "no"]]
    assert "needs 64Gi of memory" in lines[2]
    assert "licence GPL-3.0 is not among" in lines[3]


def test_the_ranking_is_an_object_for_programs(tmp_path: Path) -> None:
    folder = models(tmp_path, small={}, gpl={"licence": "GPL-3.0"})
    found = json.loads(slmfleet("select", "--cluster", "intents", "--models", folder, "--json").stdout)
    assert found["cluster"] == "intents"
    assert [(r["name"], r["suitable"]) for r in found["ranking"]] == [("small", True), ("gpl", False)]
    assert all(r["reason"] for r in found["ranking"])


def test_limits_are_given_as_options(tmp_path: Path) -> None:
    folder = models(tmp_path, small={}, large={"parameters": 2000}, gpl={"licence": "GPL-3.0"})
    found = json.loads(slmfleet("select", "--cluster", "c", "--models", folder, "--json", "--max-parameters", 1500,
                                "--licence", "GPL-3.0", "--licence", "MIT").stdout)  # fmt: skip
    assert {r["name"]: r["suitable"] for r in found["ranking"]} == {"small": True, "gpl": True, "large": False}


def test_the_tasks_own_prompts_must_fit(tmp_path: Path) -> None:
    (tmp_path / "clusters.json").write_text(json.dumps({"clusters": [{"name": "long", "input_tokens_p95": 500}]}))
    folder = models(tmp_path, small={})
    found = json.loads(slmfleet("select", "--cluster", "long", "--models", folder, "--clusters", tmp_path,
                                "--json").stdout)  # fmt: skip
    assert "the task needs 562" in found["ranking"][0]["reason"]
    told = refused("select", "--cluster", "short", "--models", folder, "--clusters", tmp_path)
    assert "--cluster short: not in" in told


def test_a_declared_task_is_ranked_by_what_its_manifest_says(tmp_path: Path) -> None:
    folder = models(tmp_path, small={}, long={"contextTokens": 4096})
    task = {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "TaskCluster", "metadata": {"name": "tickets"},
            "spec": {"signature": {"systemPrompt": "sort " * 400}}}  # fmt: skip
    (tmp_path / "task.yml").write_text(yaml.safe_dump(task))
    asked = ("select", "--models", folder, "--clusters", tmp_path / "task.yml", "--cluster")
    found = {r["name"]: r for r in json.loads(slmfleet(*asked, "tickets", "--json").stdout)["ranking"]}
    assert found["long"]["suitable"] and "the task needs 562" in found["small"]["reason"]
    assert "--cluster other: not in" in refused(*asked, "other")
    (tmp_path / "task.yml").write_text(yaml.safe_dump(task | {"speck": {}}))
    assert "speck" in refused(*asked, "tickets")


def test_a_wrong_model_is_refused_by_its_field(tmp_path: Path) -> None:
    assert "bad.yaml: spec.parameters" in refused("select", "--cluster", "c", "--models", models(
        tmp_path, bad={"parameters": 0}))  # fmt: skip


NO_MANIFESTS = {"no YAML": "{", "no name": yaml.safe_dump({"kind": "BaseModel", "spec": SPEC}),
                "no spec": "kind: BaseModel\nmetadata: {name: a}\n"}  # fmt: skip


@pytest.mark.parametrize("text", NO_MANIFESTS.values(), ids=NO_MANIFESTS)
def test_a_file_that_is_no_manifest_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert "bad.yaml: " in refused("select", "--cluster", "c", "--models", tmp_path)


def test_a_wrong_limit_is_refused_by_its_name(tmp_path: Path) -> None:
    assert "--max-memory" in refused("select", "--cluster", "c", "--models", models(tmp_path, small={}),
                                     "--max-memory", "lots")  # fmt: skip


# --- files that are not there ------------------------------------------------------------------------------------

ABSENT = [
    ("verdict", "--pairs", "gone.jsonl"),
    ("select", "--cluster", "c", "--models", "gone"),
    ("operator", "--config", "gone.yaml"),
]


@pytest.mark.parametrize("command", ABSENT, ids=lambda command: command[0])
def test_a_file_that_is_not_there_is_one_line_that_names_it(command: tuple[str, ...]) -> None:
    assert command[-1] in refused(*command)


UNREADABLE = {"no text": b"\xff\xfe\x00", "no JSON": b"{", "a list": b"[]", "no names": b'{"clusters": [{"name": 1}]}'}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_clusters_that_are_none_are_refused_by_their_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clusters.json").write_bytes(content)
    folder = models(tmp_path, small={})
    told = refused("select", "--cluster", "c", "--models", folder, "--clusters", tmp_path)
    assert f"--clusters {tmp_path / 'clusters.json'}: " in told


def test_what_is_no_text_is_refused_by_its_file(tmp_path: Path) -> None:
    for name in ("pairs.jsonl", "bad.yaml"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    assert "pairs.jsonl: not UTF-8" in refused("verdict", "--pairs", tmp_path / "pairs.jsonl")
    assert "bad.yaml: not UTF-8" in refused("select", "--cluster", "c", "--models", tmp_path)
    (tmp_path / "bad.yaml").unlink()
    (tmp_path / "bad.yaml").mkdir()
    assert "bad.yaml: Is a directory" in refused("select", "--cluster", "c", "--models", tmp_path)


def test_crds_go_nowhere_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file' / 'x'}: Not a directory" in refused("crds", "--out", tmp_path / "file" / "x")


# --- the operator's settings -------------------------------------------------------------------------------------

SETTINGS: list[tuple[str, str]] = [
    ("namespace: demo\nstorMount: /x\n", "storMount: Extra inputs are not permitted"),
    ("storeMount: /x\n", "namespace: Field required"),
    ("namespace: demo\nkubeRay: perhaps\n", "kubeRay: "),
    ("namespace: demo\ntrainer: {volumes: [{claimName: c}]}\n", "trainer.volumes.0.mountPath: Field required"),
    ("namespace: demo\nimages: {gateway: x}\n", "images.gateway: "),
    ("", "config.yaml"),
    ("namespace: [\n", "config.yaml"),
]


@pytest.mark.parametrize("text, told", SETTINGS)
def test_a_wrong_setting_is_refused_by_its_field(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert told in refused("operator", "--config", file)


@pytest.mark.parametrize(
    ("pod_address", "url"),
    [
        ("", "http://0.0.0.0:8080/healthz"),
        ("10.0.0.9", "http://0.0.0.0:8080/healthz"),
        ("fd00::9", "http://[::]:8080/healthz"),
    ],
)
def test_the_operator_answers_the_kubelet_by_the_family_of_its_pod(pod_address: str, url: str) -> None:
    assert _liveness(pod_address) == url
