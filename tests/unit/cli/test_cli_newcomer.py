"""What a newcomer does wrong: each is one line that says what, where and what to do, and nothing is lost by it."""

from __future__ import annotations

import gzip
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slmfleet.cli.examples import EXAMPLES
from slmfleet.cli.main import COMMANDS, app

LINES = [{"id": str(i), "text": f"Write to anna.meier{i}@example.org on time"} for i in range(30)]


def slmfleet(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], prog_name="slmfleet")


def refused(*arguments: object, code: int = 2) -> str:
    done = slmfleet(*arguments)
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("slmfleet: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return str(lines[0])


def text_of(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def redacted(folder: Path, data: bytes, name: str = "in.jsonl") -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    (folder / name).write_bytes(data)
    out, report = folder / "out.jsonl", folder / "report.json"
    done = slmfleet("redact", "--records", folder / name, "--out", out, "--report", report, "--model", "None", "--json")
    assert done.exit_code == 0, done.output
    return done, [json.loads(x) for x in out.read_text().splitlines()], json.loads(report.read_text())


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["discover", "--zzz"], "No such option: --zzz; see slmfleet discover --help"),
        (["discover", "--out", "x"], "Missing option '--records'; see slmfleet discover --help"),
        (["discover", "--records", "x", "--out", "y", "--min-size", "one"], "'--min-size'"),
        (["curate", "--heldout-share", "7"], "'--heldout-share'"),
        (["discoverr"], "No such command 'discoverr'"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], said: str) -> None:
    done = slmfleet(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("slmfleet: ") and said in line


@pytest.mark.parametrize("command", sorted(EXAMPLES))
def test_help_ends_with_examples_that_the_command_takes(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"], prog_name="slmfleet", env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    for example in EXAMPLES[command]:
        assert " ".join(example.split()) in " ".join(done.stdout.split())
        words = shlex.split(example)
        assert words[:2] == ["slmfleet", command] or words[:3] == ["kubectl", "slm", command]
        if command in ("train", "evaluate"):
            continue
        shown = CliRunner().invoke(app, [command, *words[2:3], "--help"]).stdout if "rewrap" in words else done.stdout
        assert all(f"{word} " in shown for word in words if word.startswith("-"))


@pytest.mark.parametrize(("command", "option"), [("train", "--checkpoints"), ("evaluate", "--require-reports")])
@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_a_recipes_options_are_shown_without_torch(command: str, option: str, asked: str) -> None:
    done = slmfleet(command, asked)
    assert done.exit_code == 0 and option in done.stdout and EXAMPLES[command][0] in done.stdout


def test_every_command_for_people_has_an_example() -> None:
    assert set(COMMANDS) - set(EXAMPLES) == {"operator", "follow-routes", "uninstall"}


def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"candidate": 1, "baseline": 0.5}\n')
    command = [sys.executable, "-m", "slmfleet.cli", "verdict", "--pairs", str(tmp_path / "pairs.jsonl")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "slmfleet: output: No space left on device\n")


def test_without_a_command_the_help_is_shown() -> None:
    done = slmfleet()
    assert done.exit_code == 0 and " discover " in done.stdout


def test_choices_are_read_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    arguments = ["--records", tmp_path / "log.jsonl", "--out", tmp_path / "out"]
    assert slmfleet("discover", *arguments, "--source", "LiteLLM", "--embedder", "Lexical").exit_code == 0


def test_a_log_without_a_call_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"hello": 1}\n')
    done = slmfleet("discover", "--records", tmp_path / "log.jsonl", "--out", tmp_path / "out")
    assert done.exit_code == 0 and "1 lines, none of them a call" in done.stderr


@pytest.mark.parametrize("option", ["--previous", "--in-use"])
def test_what_is_no_earlier_run_is_refused(tmp_path: Path, option: str) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    (tmp_path / "centroids.json").write_text('{"tasks": [{"name": 1}]}')
    given = tmp_path if option == "--previous" else tmp_path / "centroids.json"
    line = refused("discover", "--records", tmp_path / "log.jsonl", "--out", tmp_path / "out", option, given, code=1)
    assert f"{option} " in line and "ClustersNotReadable" in line


@pytest.mark.parametrize(
    "option, given, said",
    [("--previous", "gone", "no such folder"), ("--previous", "log.jsonl", "no such folder"),
     ("--trained", "task=gone", "no such folder"), ("--in-use", "gone/classifier.npz", "no such file"),
     ("--in-use", ".", "no such file")],
)  # fmt: skip
def test_an_earlier_run_that_is_not_there_is_refused_unless_that_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, given: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.jsonl").write_bytes(b"")
    arguments = ["discover", "--records", "log.jsonl", "--out", "out", option, given]
    line = refused(*arguments)
    assert line.startswith(f"slmfleet: {option} {given}: ") and said in line and not Path("out").exists()
    done = slmfleet(*arguments, "--missing-ok")
    assert done.exit_code == 0 and f"{option} {given}" in done.stderr


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    arguments = ["--records", tmp_path / "log.jsonl", "--out", tmp_path / "out", "--previous", tmp_path / "empty"]
    done = slmfleet("discover", *arguments)
    assert done.exit_code == 0 and "holds no task of an earlier run" in done.stderr


@pytest.mark.parametrize("command", ["discover", "redact"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path: Path, command: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(text_of(LINES))
    (tmp_path / "file").write_bytes(b"")
    wrong, rest = (
        (tmp_path / "file", []) if command == "discover" else (tmp_path, ["--report", tmp_path / "r.json"])
    )
    line = refused(command, "--records", log, "--out", wrong, *rest, code=1)
    assert f"{wrong}: " in line and ".tmp" not in line
    assert not (tmp_path / "r.json").exists()


def test_a_language_that_cannot_be_told_is_refused(tmp_path: Path) -> None:
    arguments = ["--records", tmp_path, "--clusters", tmp_path, "--cluster", "a", "--out", tmp_path / "out"]
    assert "--languages english: not one that can be told" in refused("curate", *arguments, "--languages", "en,english")


# --- files as other programs leave them ---


@pytest.mark.parametrize(
    "name, data",
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + text_of(LINES)),
        ("crlf.jsonl", text_of(LINES).replace(b"\n", b"\r\n")),
        ("gzip-by-content.jsonl", gzip.compress(text_of(LINES))),
        ("plain-by-content.jsonl.gz", text_of(LINES)),
        ("two-members.jsonl.gz", gzip.compress(text_of(LINES[:10])) + gzip.compress(text_of(LINES[10:]))),
        ("padded.jsonl.gz", gzip.compress(text_of(LINES)) + b"\0" * 512),
        ("document.json", json.dumps(LINES, indent=1).encode()),
    ],
)
def test_a_file_is_read_by_what_it_holds(tmp_path: Path, name: str, data: bytes) -> None:
    done, lines, report = redacted(tmp_path, data, name)
    assert [x["id"] for x in lines] == [x["id"] for x in LINES]
    assert report["set_aside"] == {} and report["replaced"] == {"email": 30}
    assert json.loads(done.stdout) == report


def test_a_cut_gzip_file_gives_what_came_before_the_cut(tmp_path: Path) -> None:
    texts = [{"id": str(i), "text": random.Random(i).randbytes(400).hex()} for i in range(60)]
    done, lines, report = redacted(tmp_path, gzip.compress(text_of(texts))[:-9_000], "cut.jsonl.gz")
    assert 20 < len(lines) < 60
    assert report["set_aside"]["file not readable to its end"] == 1
    assert "set aside 1: file not readable to its end (first: cut.jsonl.gz: " in done.stderr


def test_what_is_set_aside_is_said_with_its_place(tmp_path: Path) -> None:
    deep = b'{"id": "d", "text": ' + b"[" * 400 + b"]" * 400 + b"}\n"
    done, lines, report = redacted(tmp_path, text_of(LINES[:2]) + b"{oops\n" + deep + b'{"id": 1, "txt": "x"}\n')
    assert len(lines) == 2
    assert report["set_aside"] == {
        "nested deeper than 250 levels": 1, "neither a usage record nor id and text": 1, "not JSON": 1,
    }  # fmt: skip
    assert "redact: set aside 1: not JSON (first: in.jsonl:3)" in done.stderr


def test_utf_16_is_named_as_such(tmp_path: Path) -> None:
    done, lines, report = redacted(tmp_path, text_of(LINES).decode().encode("utf-16"))
    assert lines == [] and report["set_aside"] == {"UTF-16 text; logs are UTF-8": 1}
    assert "nothing was redacted" in done.stderr


def test_output_and_report_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(text_of(LINES))
    one = tmp_path / "one"
    line = refused("redact", "--records", tmp_path / "in.jsonl", "--out", one, "--report", one)
    assert "is the file of --out" in line and not one.exists()


# --- verdict, explain-route, simulate ---


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_pairs_may_begin_with_a_mark_and_hold_any_line_separator(tmp_path: Path, mark: bytes) -> None:
    file = tmp_path / "pairs.jsonl"
    line = json.dumps({"candidate": 1, "baseline": 0.5, "conversation": "a\u2028b\x85"}, ensure_ascii=False)
    file.write_bytes(mark + (line + "\r\n").encode() * 3)
    done = slmfleet("verdict", "--pairs", file, "--json")
    assert (done.exit_code, json.loads(done.stdout)["lines"]) == (0, 3)


@pytest.mark.parametrize(
    "line, said",
    [('{"candidate": 1, "baseline": 1, "conversation": ["a"]}', "conversation must be a text"),
     ("[" * 100_000, "not JSON")],
)  # fmt: skip
def test_a_line_of_pairs_that_cannot_be_used_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(line + "\n")
    assert f"pairs.jsonl:1: {said}" in refused("verdict", "--pairs", file)


def test_a_request_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("version: 1\nrouter: a/b\nllm: {url: https://llm.example/v1}\n")
    (tmp_path / "call.json").write_text("[" * 100_000)
    line = refused("explain-route", "--table", tmp_path / "table.yaml", "--request", tmp_path / "call.json")
    assert "call.json: not JSON" in line


def test_a_file_that_is_no_classifier_is_not_called_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_text("hello")
    line = refused("explain-route", "--classifier", tmp_path / "c.npz", "--prompt", "a", code=1)
    assert "not a file that discovery wrote" in line and "pickle" not in line


def test_crds_say_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "crds"
    assert slmfleet("crds", "--out", folder).stdout == f"4 CustomResourceDefinitions in {folder}\n"
