"""Sealed segments: how a log is written by a process that cannot read it.

A segment is a batch of records under a data key of its own, and that key is wrapped to the recipients' age public
keys. The writer forgets the data key, so who holds the writer's memory or disk afterwards reads nothing.

    8 bytes    magic, b"SLMSEG2\\n"; another number is another format
    4 bytes    length of the wrap, big endian
    wrap       JSON: {"key": base64 of the age file that holds the 32-byte data key, "recipients": sha256 in hex of the
               sorted public keys that it is wrapped to, one a line}
    4 bytes    length of the header, big endian
    header     JSON: {"compression": "zstd", "count": N, "meta": {…the caller's, e.g. router, instance, time}}
    12 bytes   nonce
    rest       AES-256-GCM of the compressed payload, with its 16-byte tag; the associated data is magic, length of the
               header and header, so no part of them can be changed unseen
    payload    per record: 4 bytes length, big endian, then the record

`base64 -d` of "key" is a complete age file: the `age` tool itself opens it. The wrap stands outside the seal, so that
`rewrap` can give the data key to other recipients and leave every other byte alone; a wrap of another key opens
nothing. "recipients" only says whether a rewrap is needed: nothing that is read or allowed hangs on it.

What this does not cover: who wrote a segment. Anybody with a recipient's public key can make one; the store's own
permissions say who may. `meta` and `count` are authenticated but not secret. A recipient that a rewrap drops may have
kept the data key.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyrage
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

MAGIC = b"SLMSEG2\n"
SUFFIX = ".seg"
COMPRESSION = "zstd"
LEVEL = 1
MAX_PAYLOAD_BYTES = 1 << 30
_FAMILY = b"SLMSEG"
_LENGTH = struct.Struct(">I")
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MAX_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 256 << 10


class SegmentError(Exception):
    """A segment that cannot be read. `reason`: NotASegment, UnknownFormat, Truncated, NotForUs or Corrupt."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def seal(records: Sequence[bytes], recipients: Sequence[str], *, meta: dict[str, Any]) -> bytes:
    """One segment of `records`, readable by each of `recipients` (age1…). Raises ValueError for a bad recipient.

    Works in pieces, and compressing one lets go of the interpreter: an event loop beside it never waits for a whole
    segment.
    """
    key = AESGCM.generate_key(bit_length=256)
    header = orjson.dumps({"compression": COMPRESSION, "count": len(records), "meta": meta})
    sealed_header = _LENGTH.pack(len(header)) + header
    nonce = os.urandom(_NONCE_BYTES)
    encryptor = Cipher(AES(key), GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(MAGIC + sealed_header)
    compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    box = [encryptor.update(compressor.compress(chunk)) for chunk in _chunks(records)]
    box += [encryptor.update(compressor.flush()), encryptor.finalize(), encryptor.tag]
    return b"".join([MAGIC, _wrap(key, recipients), sealed_header, nonce, *box])


def parse_recipients(recipients: Sequence[str]) -> list[Any]:
    """age public keys from their text. Raises ValueError that names the bad one."""
    parsed = []
    for recipient in recipients:
        try:
            parsed.append(pyrage.x25519.Recipient.from_str(recipient))
        except Exception as error:
            raise ValueError(f"not an age public key: {recipient[:80]!r} ({error})") from error
    return parsed


def parse_identities(identities: Sequence[str]) -> list[Any]:
    """age private keys from their text. Raises ValueError that says which one is none, without showing it."""
    parsed = []
    for number, identity in enumerate(identities, 1):
        try:
            parsed.append(pyrage.x25519.Identity.from_str(identity))
        except Exception as error:
            raise ValueError(f"key {number} of {len(identities)} is no age private key ({error})") from error
    return parsed


def open_segment(data: bytes, identities: Sequence[str]) -> list[bytes]:
    """The records of a segment, with one of our age identities (AGE-SECRET-KEY-1…). Raises SegmentError.

    Raises ValueError for an identity that is none.
    """
    parts = _split(data)
    key = _unwrap(parts.wrap, parse_identities(identities))
    nonce, box = parts.sealed[:_NONCE_BYTES], parts.sealed[_NONCE_BYTES:]
    try:
        payload = _decompress(AESGCM(key).decrypt(nonce, box, MAGIC + parts.header_bytes))
    except (InvalidTag, ValueError, zstandard.ZstdError) as error:
        raise SegmentError("Corrupt", "its content does not match its seal") from error
    return _records(payload, parts.header.get("count"))


def read_header(data: bytes) -> dict[str, Any]:
    """Wrap and header of a segment, not authenticated: good for listings only. Raises SegmentError."""
    parts = _split(data)
    return {**parts.wrap, **parts.header}


def rewrap(data: bytes, identities: Sequence[str], recipients: Sequence[str]) -> bytes | None:
    """The same segment for exactly these recipients; None where its wrap says that it is for them already.

    Needs no content but the data key, and changes nothing but the wrap. Raises SegmentError, and ValueError for a bad
    identity or recipient.
    """
    parts = _split(data)
    if parts.wrap.get("recipients") == _mark(recipients):
        return None
    key = _unwrap(parts.wrap, parse_identities(identities))
    return b"".join([MAGIC, _wrap(key, recipients), parts.header_bytes, parts.sealed])


@dataclass
class SegmentReader:
    """All records of a segment or of all under a folder, oldest segment name first. Broken segments are
    reported, never fatal.

    Iterate it once, then look at `segments`, `records` and `broken` (path and reason).
    """

    folder: Path
    identities: Sequence[str]
    segments: int = 0
    records: int = 0
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[bytes]:
        for path in [self.folder] if self.folder.is_file() else sorted(self.folder.rglob(f"*{SUFFIX}")):
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
            self.broken.append((path, f"Unreadable: {error.strerror or error}"))
            return []
        self.segments += 1
        return records


def read_directory(path: Path, identities: Sequence[str]) -> SegmentReader:
    """Iterate the records of all segments under `path`; the reader then reports what was broken."""
    return SegmentReader(Path(path), identities)


# --- writing ---


def _wrap(key: bytes, recipients: Sequence[str]) -> bytes:
    if not recipients:
        raise ValueError("a segment needs at least one recipient (age1…)")
    wrapped = base64.b64encode(pyrage.encrypt(key, parse_recipients(recipients))).decode()
    wrap = orjson.dumps({"key": wrapped, "recipients": _mark(recipients)})
    return _LENGTH.pack(len(wrap)) + wrap


def _mark(recipients: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(recipients))).encode()).hexdigest()


def _chunks(records: Iterable[bytes]) -> Iterator[bytes]:
    """The payload in pieces of about _CHUNK_BYTES."""
    parts: list[bytes] = []
    size = 0
    for record in records:
        parts += (_LENGTH.pack(len(record)), record)
        size += len(record)
        if size >= _CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


# --- reading ---


@dataclass(frozen=True, slots=True)
class _Parts:
    """A segment taken apart. `header_bytes` is the header with its length, `sealed` the nonce and what follows."""

    wrap: dict[str, Any]
    header: dict[str, Any]
    header_bytes: bytes
    sealed: bytes


def _split(data: bytes) -> _Parts:
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise SegmentError("Truncated", f"it has {len(data)} bytes")
        if data.startswith(_FAMILY):
            raise SegmentError("UnknownFormat", f"it begins with {data[:8]!r}, this program reads {MAGIC!r}")
        raise SegmentError("NotASegment", "it does not start with the segment magic")
    wrap, start = _section(data, len(MAGIC), "wrap")
    header, end = _section(data, start, "header")
    if len(data) < end + _NONCE_BYTES + _TAG_BYTES:
        raise SegmentError("Truncated", "it ends before its content")
    if header.get("compression") != COMPRESSION:
        raise SegmentError("UnknownFormat", f"compression {str(header.get('compression'))[:40]!r} is not known here")
    return _Parts(wrap, header, data[start:end], data[end:])


def _section(data: bytes, start: int, name: str) -> tuple[dict[str, Any], int]:
    """A JSON object with its length before it, and where it ends."""
    if len(data) < start + _LENGTH.size:
        raise SegmentError("Truncated", f"it ends inside its {name}")
    (length,) = _LENGTH.unpack_from(data, start)
    if length > _MAX_HEADER_BYTES:
        raise SegmentError("Corrupt", f"the length of its {name} is absurd")
    end = start + _LENGTH.size + length
    if len(data) < end:
        raise SegmentError("Truncated", f"it ends inside its {name}")
    try:
        found = orjson.loads(data[start + _LENGTH.size : end])
    except orjson.JSONDecodeError as error:
        raise SegmentError("Corrupt", f"its {name} is not JSON") from error
    if not isinstance(found, dict):
        raise SegmentError("Corrupt", f"its {name} is no object")
    return found, end


def _unwrap(wrap: dict[str, Any], identities: Sequence[Any]) -> bytes:
    try:
        wrapped = base64.b64decode(wrap["key"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise SegmentError("Corrupt", "its wrapped key is not base64") from error
    if base64.b64encode(wrapped).decode() != wrap["key"]:  # bits that decoding drops, before the padding
        raise SegmentError("Corrupt", "its wrapped key is not the base64 of anything")
    try:
        key = bytes(pyrage.decrypt(wrapped, identities))
    except Exception as error:
        reason = "NotForUs" if "matching" in str(error).lower() else "Corrupt"
        raise SegmentError(reason, f"its data key does not open: {error}") from error
    if len(key) != 32:
        raise SegmentError("Corrupt", "its data key has the wrong size")
    return key


def _decompress(data: bytes) -> bytes:
    """Raises ZstdError, or ValueError for more than a segment may hold."""
    payload = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_PAYLOAD_BYTES + 1)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError("larger than a segment may be")
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
