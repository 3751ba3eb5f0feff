"""Digests name what decides an artifact; files appear whole; a failure is one line."""

import json
import pickle
import re
import sys
from types import SimpleNamespace

import pytest

from slmtrain import data, files
from slmtrain.errors import OneLine, Refused, run_command
from slmtrain.frame import frame_length
from slmtrain.job import Config, read_config


def adapter(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", "utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_an_artifact_keeps_its_name_when_only_its_result_changes(tmp_path):
    folder = adapter(tmp_path / "a")
    name = files.artifact_digest(folder)
    (folder / files.RESULT).write_text('{"seconds": 3}', "utf-8")
    assert files.artifact_digest(folder) == name
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", name)


@pytest.mark.parametrize("change", ["content", "name", "extra", "moved"])
def test_any_other_change_gives_an_artifact_another_name(tmp_path, change):
    folder = adapter(tmp_path / "a")
    name = files.artifact_digest(folder)
    weights = folder / "adapter_model.safetensors"
    if change == "content":
        weights.write_bytes(b"weightz")
    if change == "name":
        weights.rename(folder / "adapter_model2.safetensors")
    if change == "extra":
        (folder / "more.txt").write_bytes(b"")
    if change == "moved":
        (folder / "sub").mkdir()
        weights.rename(folder / "sub" / "adapter_model.safetensors")
    assert files.artifact_digest(folder) != name


def test_a_base_keeps_its_name_when_its_card_changes(tmp_path):
    (tmp_path / "config.json").write_text("{}", "utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"w")
    name = files.base_digest(tmp_path)
    (tmp_path / "README.md").write_text("new", "utf-8")
    assert files.base_digest(tmp_path) == name
    (tmp_path / "model.safetensors").write_bytes(b"v")
    assert files.base_digest(tmp_path) != name


def test_a_published_folder_is_readable_by_all_and_replaces_nothing(tmp_path):
    out = tmp_path / "out"
    staged = files.staging_folder(out)
    (staged / "w").write_bytes(b"1")
    (staged / "w").chmod(0o600)
    files.publish(staged, out)
    assert (out / "w").stat().st_mode & 0o777 == 0o644
    again = files.staging_folder(out)
    (again / "w").write_bytes(b"2")
    with pytest.raises(Refused, match="holds something else"):
        files.publish(again, out)
    assert (out / "w").read_bytes() == b"1"


def test_an_empty_output_folder_may_exist(tmp_path):
    (tmp_path / "out").mkdir()
    staged = files.staging_folder(tmp_path / "out")
    (staged / "w").write_bytes(b"1")
    files.publish(staged, tmp_path / "out")
    assert (tmp_path / "out" / "w").exists()


def test_a_base_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"no config\.json"):
        files.resolve_base(str(tmp_path))
    with pytest.raises(Refused, match="does not exist"):
        files.resolve_base(str(tmp_path / "absent"))


def test_settings_refuse_an_unknown_key_by_name(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"rank": 8, "lerning_rate": 1}', "utf-8")
    with pytest.raises(Refused, match="unknown key lerning_rate"):
        read_config(str(path))
    path.write_text('{"rank": 8}', "utf-8")
    assert read_config(str(path)) == read_config('{"rank": 8}') == Config(rank=8)


def test_a_setting_out_of_range_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"batch_size": 0}', "utf-8")
    with pytest.raises(Refused, match="batch_size must be a number above 0"):
        read_config(str(path))


def test_settings_that_are_no_json_are_refused():
    with pytest.raises(Refused, match="--config is not JSON"):
        read_config("{rank: 8}")


def test_a_failure_is_one_line_and_an_object_for_kubernetes(tmp_path, monkeypatch, capsys):
    log = tmp_path / "termination-log"
    log.write_text("", "utf-8")
    monkeypatch.setenv("SLMTRAIN_TERMINATION_LOG", str(log))

    def failing():
        raise Refused("TooFewExamples", "3 examples\nin train.jsonl; collect 100", retry=True)

    with pytest.raises(SystemExit) as stop:
        run_command("train", failing)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "slmtrain train: TooFewExamples: 3 examples in train.jsonl; collect 100\n"
    said = json.loads(log.read_text("utf-8"))
    assert (said["reason"], said["retry"]) == ("TooFewExamples", True)


@pytest.mark.parametrize(
    ("rows", "limit", "length"),
    [
        ([[1] * 20 + [2], [1] * 20 + [3]], 15, 15),
        ([[1] * 20 + [2], [1] * 20 + [3], [1] * 10 + [4]], 50, 10),
        ([[1] * 20], 15, 0),
        ([[1, 2, 3], [1, 2, 4]], 3, 0),
    ],
)
def test_a_frame_is_what_all_rows_begin_with(rows, limit, length):
    assert frame_length(rows, limit) == length


@pytest.mark.parametrize("base, asked", [("a/b", ("a/b", None)), ("a/b@v1.0", ("a/b", "v1.0"))])
def test_a_base_of_the_hub_is_fetched_at_its_revision(base, asked, monkeypatch, tmp_path):
    seen = []

    def download(name, *, revision, allow_patterns):
        seen.append((name, revision))
        return str(tmp_path)

    errors = dict.fromkeys(("HfHubHTTPError", "LocalEntryNotFoundError", "RepositoryNotFoundError"), OSError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", SimpleNamespace(**errors))
    assert files.resolve_base(base) == tmp_path
    assert seen == [asked]


@pytest.mark.parametrize(
    "line", [b'{"messages": "\xff"}', b"{", b"[" * 100_000, b"\x1f\x8b\x00"], ids=["not utf-8", "cut", "deep", "binary"]
)
def test_a_line_of_a_dataset_that_cannot_be_read_is_named(tmp_path, line):
    (tmp_path / "train.jsonl").write_bytes(b'{"id": 1}\n' + line + b"\n")
    with pytest.raises(Refused, match=r"train\.jsonl line 2 is not JSON"):
        list(data.read_lines(tmp_path / "train.jsonl"))


def test_a_dataset_may_begin_with_a_mark(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "\xc3\xa4"}\r\n')
    assert [value for _, value in data.read_lines(tmp_path / "train.jsonl")] == [{"id": "ä"}]


@pytest.mark.parametrize("value", ['"x"', "-1", "NaN"])
def test_a_weight_decay_that_is_none_is_refused(value):
    with pytest.raises(Refused, match="weight_decay must be a number from 0 on"):
        read_config(f'{{"weight_decay": {value}}}')


def test_a_wrong_option_of_a_recipe_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        OneLine(prog="slmtrain.train").parse_args(["--nope"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "slmtrain.train: unrecognized arguments: --nope; see --help\n"


def test_a_refusal_comes_whole_out_of_another_process():
    """As Ray brings a worker's error to the command."""
    told = pickle.loads(pickle.dumps(Refused("TooLarge", "does not fit", retry=True)))
    assert (told.reason, told.message, told.retry, str(told)) == ("TooLarge", "does not fit", True, "does not fit")
