"""Segments: what is sealed comes back, what was touched does not."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from pathlib import Path

import pyrage
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from devcluster.cluster import cache_root
from hypothesis import given, settings
from hypothesis import strategies as st

from devcluster import build
from slmfleet.store.files import atomic_write
from slmfleet.store.segments import SegmentError, open_segment, read_directory, read_header, rewrap, seal

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


@pytest.mark.parametrize("number", range(3))
def test_no_flipped_bit_goes_unnoticed(number: int) -> None:
    """Only the note of whom the key is wrapped to may change: nothing hangs on it. (age files differ in length.)"""
    whole = seal(RECORDS, [str(OURS.to_public())], meta={"number": number})
    note = range(whole.index(b'"recipients"'), whole.index(b'"}', whole.index(b'"recipients"')))
    for flipped in range(8 * len(whole)):
        broken = bytearray(whole)
        position, bit = divmod(flipped, 8)
        broken[position] ^= 1 << bit
        try:
            assert open_segment(bytes(broken), US) == RECORDS
            assert position in note
        except SegmentError:
            pass


def test_a_segment_that_was_cut_anywhere_is_refused_as_such() -> None:
    for length in range(len(SEGMENT)):
        with pytest.raises(SegmentError) as caught:
            open_segment(SEGMENT[:length], US)
        assert caught.value.reason in ("Truncated", "Corrupt")


@settings(max_examples=200)
@given(st.data())
def test_no_damage_raises_anything_but_its_own_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SEGMENT)))
    end = data.draw(st.integers(start, len(SEGMENT)))
    damaged = SEGMENT[:start] + data.draw(st.binary(max_size=40)) + SEGMENT[end:]
    try:
        assert open_segment(damaged, US) == RECORDS
    except SegmentError:
        pass


DAMAGED = [
    ("an empty file", b"", "Truncated"),
    ("half of it", SEGMENT[: len(SEGMENT) // 2], "Truncated"),
    ("a flipped bit", SEGMENT[:-9] + bytes([SEGMENT[-9] ^ 1]) + SEGMENT[-8:], "Corrupt"),
    ("another log's", seal(RECORDS, [str(OTHER.to_public())], meta={}), "NotForUs"),
    ("a foreign file", b"PK\x03\x04 a zip", "NotASegment"),
    ("an older format", b"SLMSEG1\n" + SEGMENT[8:], "UnknownFormat"),
    ("a newer format", b"SLMSEG3\n" + SEGMENT[8:], "UnknownFormat"),
    ("a newer compression", SEGMENT.replace(b'"zstd"', b'"zst9"'), "UnknownFormat"),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in DAMAGED], ids=[row[0] for row in DAMAGED])
def test_every_damage_has_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(SegmentError) as caught:
        open_segment(data, US)
    assert caught.value.reason == reason


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


# --- the age tool ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def age() -> Path:
    """The age tool itself, built from its pinned source."""
    return build.ensure(cache_root(), ["age"], print)["age"]


def data_key(age: Path, segment: bytes, identity: object, folder: Path) -> bytes:
    """The data key of a segment, opened as its format says and by the tool: with none of our own code."""
    assert segment[:8] == b"SLMSEG2\n"
    (length,) = struct.unpack(">I", segment[8:12])
    wrap = json.loads(segment[12 : 12 + length])
    (folder / "identity").write_text(f"{identity}\n", encoding="utf-8")
    (folder / "key.age").write_bytes(base64.b64decode(wrap["key"]))
    command = [age, "--decrypt", "--identity", folder / "identity", folder / "key.age"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_the_age_tool_opens_the_data_key_and_it_opens_the_rest_as_the_format_says(age: Path, tmp_path: Path) -> None:
    key = data_key(age, SEGMENT, OURS, tmp_path)
    (wrap,) = struct.unpack_from(">I", SEGMENT, 8)
    start = 12 + wrap
    (header,) = struct.unpack_from(">I", SEGMENT, start)
    end = start + 4 + header
    opened = AESGCM(key).decrypt(SEGMENT[end : end + 12], SEGMENT[end + 12 :], SEGMENT[:8] + SEGMENT[start:end])
    payload = zstandard.ZstdDecompressor().decompressobj().decompress(opened)
    assert payload == b"".join(struct.pack(">I", len(record)) + record for record in RECORDS)


def test_after_a_rotation_the_age_tool_opens_the_data_key_with_either_identity(age: Path, tmp_path: Path) -> None:
    both = rewrap(SEGMENT, US, [str(OURS.to_public()), str(OTHER.to_public())])
    assert both is not None
    assert data_key(age, both, OURS, tmp_path) == data_key(age, both, OTHER, tmp_path)
    ours = rewrap(both, [str(OTHER)], [str(OURS.to_public())])
    assert ours is not None
    with pytest.raises(subprocess.CalledProcessError, match="1"):
        data_key(age, ours, OTHER, tmp_path)
