"""Segments: what is sealed comes back, what was touched does not."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmfleet.store.files import atomic_write, digest_tree, sha256_file
from slmfleet.store.segments import SegmentError, open_segment, read_directory, read_header, seal

OURS = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
US = [str(OURS)]
RECORDS = [b'{"id":"1"}', b"", b"x" * 1000]
SEGMENT = seal(RECORDS, [str(OURS.to_public())], meta={"router": "r", "instance": "i"})


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_what_is_sealed_comes_back(records: list[bytes]) -> None:
    assert open_segment(seal(records, [str(OURS.to_public())], meta={}), US) == records


def test_every_recipient_can_open_it_and_nobody_else() -> None:
    sealed = seal(RECORDS, [str(OURS.to_public()), str(OTHER.to_public())], meta={})
    assert open_segment(sealed, US) == open_segment(sealed, [str(OTHER)]) == RECORDS
    with pytest.raises(SegmentError) as caught:
        open_segment(SEGMENT, [str(OTHER)])
    assert caught.value.reason == "NotForUs"


def test_no_flipped_bit_goes_unnoticed() -> None:
    for position in range(len(SEGMENT)):
        broken = bytearray(SEGMENT)
        broken[position] ^= 1 << (position % 8)
        with pytest.raises(SegmentError):
            open_segment(bytes(broken), US)


@pytest.mark.parametrize("length", [0, 4, 9, 12, 50, -1])
def test_a_cut_segment_is_refused(length: int) -> None:
    with pytest.raises(SegmentError):
        open_segment(SEGMENT[:length], US)


def test_the_header_says_how_many_and_its_key_is_an_age_file() -> None:
    header = read_header(SEGMENT)
    assert (header["count"], header["meta"]) == (3, {"router": "r", "instance": "i"})
    wrapped = base64.b64decode(header["key"])
    assert wrapped.startswith(b"age-encryption.org/v1")
    assert len(pyrage.decrypt(wrapped, [OURS])) == 32


def test_a_bad_recipient_is_named() -> None:
    with pytest.raises(ValueError, match="age1nope"):
        seal(RECORDS, ["age1nope"], meta={})
    with pytest.raises(ValueError, match="recipient"):
        seal(RECORDS, [], meta={})


def test_a_folder_is_read_around_its_broken_segments(tmp_path: Path) -> None:
    atomic_write(tmp_path / "2026-01-02" / "b.seg", SEGMENT)
    atomic_write(tmp_path / "2026-01-01" / "a.seg", seal([b"0"], [str(OURS.to_public())], meta={}))
    atomic_write(tmp_path / "2026-01-01" / "b.seg", SEGMENT[:-1])
    atomic_write(tmp_path / "2026-01-01" / "c.seg", seal([b"?"], [str(OTHER.to_public())], meta={}))
    reader = read_directory(tmp_path, US)
    assert list(reader) == [b"0", *RECORDS]
    assert (reader.segments, reader.records) == (2, 4)
    assert [(path.name, reason.split(":")[0]) for path, reason in reader.broken] == [
        ("b.seg", "Corrupt"), ("c.seg", "NotForUs"),
    ]  # fmt: skip


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
