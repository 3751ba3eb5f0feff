"""Folders that were named go, whole; nothing else does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slmfleet.cli.main import app
from slmfleet.store.cleanup import Removed, remove

OLD = "artifacts/intents-0123456789"


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    put(tmp_path / OLD / "adapter.safetensors", "12345")
    put(tmp_path / OLD / "deep" / "card.md", "123")
    put(tmp_path / "artifacts/other-0123456789/adapter.safetensors")
    return tmp_path


def test_a_folder_goes_with_all_that_is_in_it(store: Path) -> None:
    assert remove(store, OLD) == Removed(OLD, True, files=2, bytes=8)
    assert [path.name for path in (store / "artifacts").iterdir()] == ["other-0123456789"]
    assert remove(store, OLD) == Removed(OLD, False)


def test_a_dry_run_says_what_would_go(store: Path) -> None:
    assert remove(store, OLD, dry_run=True) == Removed(OLD, True, files=2, bytes=8)
    assert (store / OLD / "deep/card.md").is_file()


def test_a_removal_that_was_killed_half_way_is_finished(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> None:
        (path / "adapter.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(store, OLD)
    assert not (store / OLD).exists(), "no reader finds half of it"
    assert remove(store, OLD) == Removed(OLD, True, files=1, bytes=3)
    assert [path.name for path in (store / "artifacts").iterdir()] == ["other-0123456789"]


@pytest.mark.parametrize("path", ["artifacts", "artifacts/intents", "../artifacts/x-0123456789",
                                  "usage/agents-0123456789",
                                  "artifacts/../x-0123456789", "/artifacts/x-0123456789", ""])  # fmt: skip
def test_what_the_operator_did_not_name_is_refused(store: Path, path: str) -> None:
    with pytest.raises(ValueError, match="no folder of the operator"):
        remove(store, path)


def test_links_are_not_followed(store: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "keep.txt")
    (store / OLD / "link").symlink_to(outside.parent)
    (store / "artifacts/linked-0123456789").symlink_to(outside.parent)
    assert remove(store, OLD).found
    assert not remove(store, "artifacts/linked-0123456789").found
    assert outside.is_file()


def test_the_command_prints_what_went_and_refuses_by_name(store: Path) -> None:
    run = CliRunner()
    dry = run.invoke(app, ["clean", "--store", str(store), "--folder", OLD, "--dry-run", "--json"])
    assert json.loads(dry.output) == {
        "dry_run": True, "folders": [{"path": OLD, "found": True, "files": 2, "bytes": 8}]}  # fmt: skip
    done = run.invoke(app, ["clean", "--store", str(store), "--folder", OLD, "--folder", "datasets/none-0123456789"])
    assert done.output.splitlines() == [f"removed {OLD}: 2 files, 8 bytes", "datasets/none-0123456789: is not there"]
    bad = run.invoke(app, ["clean", "--store", str(store), "--folder", "usage"])
    assert bad.exit_code == 2
    assert "--folder 'usage' is no folder of the operator" in bad.output
