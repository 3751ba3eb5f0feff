"""Files: whole or not there, durable when the call returns, and one digest a folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from slmfleet.store.files import atomic_write, digest_tree, sha256_file


def test_an_atomic_write_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file"
    atomic_write(target, b"one")
    atomic_write(target, b"two")
    assert target.read_bytes() == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_content_is_durable_before_its_name_and_its_name_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which the kernel is asked; that it then keeps its word is the file system's."""
    told: list[tuple[str, bool, int]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix()
        stat = os.fstat(descriptor)
        told.append((name, (tmp_path / "new/day/file").exists(), stat.st_mode & 0o777 if stat.st_size == 4 else -1))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic_write(tmp_path / "new" / "day" / "file", b"four", mode=0o640)
    names = [name for name, _, _ in told]
    assert names[:2] == [".", "new"]
    assert names[2].startswith("new/day/.file.")
    assert names[3] == "new/day"
    assert [(renamed, mode) for _, renamed, mode in told[2:3]] == [(False, 0o640)]
    assert told[3][1] is True


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write(tmp_path / "file", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_folders_digest_is_of_names_and_content_but_not_of_its_result(tmp_path: Path) -> None:
    for root in ("x", "y"):
        atomic_write(tmp_path / root / "sub" / "b", b"2")
        atomic_write(tmp_path / root / "a", b"1")
    atomic_write(tmp_path / "y" / "result.json", json.dumps({"digest": "…"}).encode())
    assert digest_tree(tmp_path / "x") == digest_tree(tmp_path / "y")
    expected = digest_tree(tmp_path / "x")
    atomic_write(tmp_path / "y" / "sub" / "result.json", b"counts")
    assert digest_tree(tmp_path / "y") != expected
    assert sha256_file(tmp_path / "x" / "a") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
