"""Sealed segments: how a log is written by a process that cannot read it.

A segment is a batch of records under a data key of its own, and that key is wrapped to the recipients' age public
keys. The writer forgets the data key, so who holds the writer's memory or disk afterwards reads nothing.

    8 bytes    magic, b"SLMSEG1\\n"
    4 bytes    length of the header, big endian
    header     JSON: {"version": 1, "compression": "zlib", "count": N, "key": base64 of the age file that holds the
               32-byte data key, "meta": {…the caller's, e.g. router, instance, time}}
    12 bytes   nonce
    rest       AES-256-GCM of the compressed payload, with its 16-byte tag; everything before the nonce is the
               associated data, so no part of the header can be changed unseen
    payload    per record: 4 bytes length, big endian, then the record

`base64 -d` of "key" is a complete age file: the `age` tool itself opens it.

What this does not cover: who wrote a segment. Anybody with a recipient's public key can make one; the store's own
permissions say who may. `meta` and `count` are authenticated but not secret.
"""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"SLMSEG1\n"
SUFFIX = ".seg"
MAX_PAYLOAD_BYTES = 1 << 30
_LENGTH = struct.Struct(">I")
_NONCE_BYTES = 12
_MAX_HEADER_BYTES = 1 << 20


class SegmentError(Exception):
    """A segment that cannot be read. `reason`: NotASegment, Truncated, NotForUs or Corrupt."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def seal(records: Sequence[bytes], recipients: Sequence[str], *, meta: dict[str, Any]) -> bytes:
    """One segment of `records`, readable by each of `recipients` (age1…). Raises ValueError for a bad recipient."""
    if not recipients:
        raise ValueError("a segment needs at least one recipient (age1…)")
    key = AESGCM.generate_key(bit_length=256)
    header = orjson.dumps(
        {
            "version": 1,
            "compression": "zlib",
            "count": len(records),
            "key": base64.b64encode(pyrage.encrypt(key, parse_recipients(recipients))).decode(),
            "meta": meta,
        }
    )
    associated = MAGIC + _LENGTH.pack(len(header)) + header
    payload = b"".join(part for record in records for part in (_LENGTH.pack(len(record)), record))
    nonce = os.urandom(_NONCE_BYTES)
    return associated + nonce + AESGCM(key).encrypt(nonce, zlib.compress(payload, 3), associated)


def parse_recipients(recipients: Sequence[str]) -> list[Any]:
    """age public keys from their text. Raises ValueError that names the bad one."""
    parsed = []
    for recipient in recipients:
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(recipient))
        except Exception as error:
            raise ValueError(f"not an age public key: {recipient[:80]!r} ({error})") from error
    return parsed


def open_segment(data: bytes, identities: Sequence[str]) -> list[bytes]:
    """The records of a segment, with one of our age identities (AGE-SECRET-KEY-1…). Raises SegmentError."""
    header, associated, sealed = _split(data)
    key = _unwrap(header, identities)
    nonce, box = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        payload = _decompress(AESGCM(key).decrypt(nonce, box, associated))
    except (InvalidTag, ValueError, zlib.error) as error:
        raise SegmentError("Corrupt", "its content does not match its seal") from error
    return _records(payload, header.get("count"))


def read_header(data: bytes) -> dict[str, Any]:
    """The header of a segment, not authenticated: good for listings only. Raises SegmentError."""
    return _split(data)[0]


@dataclass
class SegmentReader:
    """All records under a folder, oldest segment name first. Broken segments are reported, never fatal.

    Iterate it once, then look at `segments`, `records` and `broken` (path and reason).
    """

    folder: Path
    identities: Sequence[str]
    segments: int = 0
    records: int = 0
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[bytes]:
        for path in sorted(self.folder.rglob(f"*{SUFFIX}")):
            for record in self._open(path):
                self.records += 1
                yield record

    def _open(self, path: Path) -> list[bytes]:
        try:
            records = open_segment(path.read_bytes(), self.identities)
        except SegmentError as error:
            self.broken.append((path, str(error)))
            return []
        except OSError as error:
            self.broken.append((path, f"Unreadable: {error}"))
            return []
        self.segments += 1
        return records


def read_directory(path: Path, identities: Sequence[str]) -> SegmentReader:
    """Iterate the records of all segments under `path`; the reader then reports what was broken."""
    return SegmentReader(Path(path), identities)


def _split(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    start = len(MAGIC) + _LENGTH.size
    if not data.startswith(MAGIC):
        raise SegmentError("NotASegment", "it does not start with the segment magic")
    if len(data) < start:
        raise SegmentError("Truncated", "it ends inside its header")
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    end = start + length
    if length > _MAX_HEADER_BYTES:
        raise SegmentError("Corrupt", "its header length is absurd")
    if len(data) < end + _NONCE_BYTES + 16:
        raise SegmentError("Truncated", "it ends before its content")
    try:
        header = orjson.loads(data[start:end])
    except orjson.JSONDecodeError as error:
        raise SegmentError("Corrupt", "its header is not JSON") from error
    if not isinstance(header, dict) or header.get("version") != 1 or header.get("compression") != "zlib":
        raise SegmentError("Corrupt", "its header is not of version 1")
    return header, data[:end], data[end:]


def _unwrap(header: dict[str, Any], identities: Sequence[str]) -> bytes:
    try:
        wrapped = base64.b64decode(header["key"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise SegmentError("Corrupt", "its wrapped key is not base64") from error
    parsed = [pyrage.x25519.Identity.from_str(identity) for identity in identities]
    try:
        key = bytes(pyrage.decrypt(wrapped, parsed))
    except Exception as error:
        reason = "NotForUs" if "matching" in str(error).lower() else "Corrupt"
        raise SegmentError(reason, f"its data key does not open: {error}") from error
    if len(key) != 32:
        raise SegmentError("Corrupt", "its data key has the wrong size")
    return key


def _decompress(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    payload = inflate.decompress(data, MAX_PAYLOAD_BYTES)
    if inflate.unconsumed_tail or not inflate.eof:
        raise ValueError("larger than a segment may be, or cut short")
    return payload


def _records(payload: bytes, count: object) -> list[bytes]:
    records, position = [], 0
    while position < len(payload):
        if position + _LENGTH.size > len(payload):
            raise SegmentError("Corrupt", "a record is cut short")
        (length,) = _LENGTH.unpack_from(payload, position)
        position += _LENGTH.size
        if position + length > len(payload):
            raise SegmentError("Corrupt", "a record is cut short")
        records.append(payload[position : position + length])
        position += length
    if len(records) != count:
        raise SegmentError("Corrupt", f"{len(records)} records where its header says {count}")
    return records
