"""Rotation: old segments get new readers, and no kill, repeat or bad file costs one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyrage
import pytest
from typer.testing import CliRunner

from slmfleet.cli.main import app
from slmfleet.store import rotation
from slmfleet.store.files import atomic_write
from slmfleet.store.rotation import rewrap_directory
from slmfleet.store.segments import SegmentError, open_segment, read_directory, rewrap, seal

OLD, NEW, THIRD = (pyrage.x25519.Identity.generate() for _ in range(3))


def public(*identities: Any) -> list[str]:
    return [str(identity.to_public()) for identity in identities]


def readable(folder: Path, identity: Any) -> list[bytes]:
    return list(read_directory(folder, [str(identity)]))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for number in range(5):
        data = seal([b"%d" % number], public(OLD), meta={"n": number})
        atomic_write(tmp_path / "usage" / "r" / f"2026-01-0{number + 1}" / "a.seg", data)
    return tmp_path


def test_only_the_wrap_changes() -> None:
    before = seal([b"x" * 100], public(OLD), meta={"router": "r"})
    after = rewrap(before, [str(OLD)], public(OLD, NEW))
    assert after is not None
    content = before[before.index(b'{"compression"') - 4 :]
    assert after.endswith(content)
    assert open_segment(after, [str(OLD)]) == open_segment(after, [str(NEW)]) == [b"x" * 100]


def test_a_recipient_that_is_left_out_opens_it_no_more() -> None:
    after = rewrap(seal([b"x"], public(OLD, THIRD), meta={}), [str(OLD)], public(NEW))
    assert after is not None
    for gone in (OLD, THIRD):
        with pytest.raises(SegmentError, match="NotForUs"):
            open_segment(after, [str(gone)])


def test_a_second_run_changes_no_byte(store: Path) -> None:
    first = rewrap_directory(store, [str(OLD)], public(OLD, NEW))
    assert (first.segments, first.rewrapped, first.already) == (5, 5, 0)
    written = {path: path.read_bytes() for path in store.rglob("*.seg")}
    second = rewrap_directory(store, [str(NEW)], public(NEW, OLD))
    assert (second.segments, second.rewrapped, second.already) == (5, 0, 5)
    assert {path: path.read_bytes() for path in store.rglob("*.seg")} == written


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("renamed", [False, True])
def test_a_kill_in_the_middle_leaves_every_segment_readable_and_the_next_run_ends_it(
    store: Path, monkeypatch: pytest.MonkeyPatch, done: int, renamed: bool
) -> None:
    """Killed in the write of one segment, before its rename (its temporary file stays) or just after."""
    left = done

    def killed(path: Path, data: bytes, *, mode: int) -> None:
        nonlocal left
        if left or renamed:
            atomic_write(path, data, mode=mode)
        if not left:
            (path.parent / f".{path.name}.x.tmp").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        left -= 1

    monkeypatch.setattr(rotation, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        rewrap_directory(store, [str(OLD)], public(OLD, NEW))
    assert readable(store, OLD) == [b"%d" % number for number in range(5)]
    assert len(readable(store, NEW)) == done + renamed
    monkeypatch.undo()
    again = rewrap_directory(store, [str(OLD)], public(OLD, NEW))
    assert (again.already, again.rewrapped, again.failed) == (done + renamed, 5 - done - renamed, [])
    assert readable(store, NEW) == [b"%d" % number for number in range(5)]


def test_what_does_not_open_is_named_and_left_as_it_is(store: Path) -> None:
    days = sorted((store / "usage/r").iterdir())
    foreign = seal([b"?"], public(THIRD), meta={})
    (days[1] / "a.seg").write_bytes(foreign)
    (days[2] / "a.seg").write_bytes(b"")
    (days[3] / "folder.seg").mkdir()
    result = rewrap_directory(store, [str(OLD)], public(OLD, NEW))
    assert (result.segments, result.rewrapped) == (6, 3)
    assert [(path.parent.name, reason.split(":")[0]) for path, reason in result.failed] == [
        ("2026-01-02", "NotForUs"), ("2026-01-03", "Truncated"), ("2026-01-04", "Unreadable")]  # fmt: skip
    assert (days[1] / "a.seg").read_bytes() == foreign


# --- the command -------------------------------------------------------------------------------------------------


def keys(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["keys", *map(str, arguments)], prog_name="slmfleet")


def identity_file(folder: Path, identity: Any) -> Path:
    path = folder / f"identity-{str(identity.to_public())[4:12]}"
    path.write_text(f"# a comment\n{identity}\n", encoding="utf-8")
    return path


def test_a_key_is_added_and_the_old_one_retired(store: Path) -> None:
    old, new = identity_file(store, OLD), identity_file(store, NEW)
    added = keys("rewrap", "--store", store, "--identity", old, "--recipient", *public(NEW), "--json")
    assert (added.exit_code, json.loads(added.stdout)) == (
        0, {"segments": 5, "rewrapped": 5, "already": 0, "failed": 0})  # fmt: skip
    assert len(readable(store, OLD)) == len(readable(store, NEW)) == 5
    retired = keys("rewrap", "--store", store, "--identity", new)
    assert (retired.exit_code, retired.stdout) == (0, "5 segments: 5 wrapped anew, 0 already so\n")
    assert (readable(store, OLD), len(readable(store, NEW))) == ([], 5)


def test_who_runs_it_cannot_lock_himself_out(store: Path) -> None:
    old = identity_file(store, OLD)
    assert keys("rewrap", "--store", store, "--identity", old, "--recipient", *public(THIRD)).exit_code == 0
    assert len(readable(store, OLD)) == 5


@pytest.mark.parametrize(("change", "told"), [
    ({"--store": "/nowhere"}, "/nowhere has no folder usage"),
    ({"--identity": "/nowhere"}, "IdentityNotReadable: /nowhere"),
    ({"--recipient": "age1nope"}, "'age1nope'"),
])  # fmt: skip
def test_what_is_wrong_is_one_line_and_no_segment_changes(store: Path, change: dict[str, str], told: str) -> None:
    given = {"--store": str(store), "--identity": str(identity_file(store, OLD)), "--recipient": public(NEW)[0]}
    done = keys("rewrap", *(word for pair in {**given, **change}.items() for word in pair))
    assert (done.exit_code, done.stdout) == (1, "")
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert readable(store, NEW) == []


def test_a_private_key_with_a_typing_error_is_refused_without_showing_it(store: Path) -> None:
    path = store / "typo"
    secret = str(OLD)[:-1] + ("P" if str(OLD).endswith("Q") else "Q")
    path.write_text(secret, encoding="utf-8")
    done = keys("rewrap", "--store", store, "--identity", path)
    assert done.exit_code == 1
    assert "key 1 of 1 is no age private key" in done.stderr
    assert secret[20:] not in done.stderr


def test_segments_that_could_not_be_done_make_it_fail(store: Path) -> None:
    atomic_write(store / "usage/r/2026-01-01/a.seg", seal([b"?"], public(THIRD), meta={}))
    done = keys("rewrap", "--store", store, "--identity", identity_file(store, OLD), "--recipient", *public(NEW))
    assert done.exit_code == 1
    assert "1 of 5 segments are as they were" in done.stderr
    assert len(readable(store, NEW)) == 4
