"""Reads a log: JSON lines, gzipped or not, a folder of them, or a folder of the gateway's sealed segments.

A line that is no usage record and a segment that does not open are counted and set aside with their reason: one broken
line must not cost a run, and a silent one would be a lie about the log.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from pydantic import ValidationError

from slmfleet.curation.failures import CurationError
from slmfleet.wire.records import UsageRecord

SEALED = ".seg"
PLAIN = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")


@dataclass
class Log:
    """`set_aside`: reason to count. `examples`: where the first of each reason was. `digest`: of the lines read."""

    records: list[UsageRecord] = field(default_factory=list)
    set_aside: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    digest: str = ""

    def refuse(self, reason: str, where: str) -> None:
        self.set_aside[reason] += 1
        self.examples.setdefault(reason, where)


def read_log(path: Path, identity: Path | None = None) -> Log:
    """Every record under `path`, in the order of time; of two with one id, the later line counts."""
    if not path.exists():
        raise CurationError("LogNotFound", f"{path} does not exist; --records names a file or a folder of records")
    log, digest = Log(), hashlib.sha256()
    found: dict[str, UsageRecord] = {}
    for where, line in _lines(path, identity, log):
        digest.update(line)
        digest.update(b"\n")
        record = _parsed(line, where, log)
        if record is None:
            continue
        if record.id in found:
            log.refuse("same id again", where)
        found[record.id] = record
    log.records = sorted(found.values(), key=lambda r: (r.time, r.id))
    log.digest = "sha256:" + digest.hexdigest()
    return log


def _parsed(line: bytes, where: str, log: Log) -> UsageRecord | None:
    if not line.strip():
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        log.refuse("not JSON", where)
        return None
    try:
        record = UsageRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        log.refuse(f"not a usage record: {'.'.join(map(str, first['loc'])) or 'the line'}", where)
        return None
    if record.time.tzinfo is None:
        log.refuse("time without a zone", where)
        return None
    return record


def _lines(path: Path, identity: Path | None, log: Log) -> Iterator[tuple[str, bytes]]:
    if path.is_file():
        yield from _file_lines(path, log)
        return
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(PLAIN))
    for file in files:
        yield from _file_lines(file, log)
    if any(path.rglob(f"*{SEALED}")):
        yield from _sealed_lines(path, identity, log)


def _file_lines(path: Path, log: Log) -> Iterator[tuple[str, bytes]]:
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as f:
            for number, line in enumerate(f, 1):
                yield f"{path.name}:{number}", line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error) as error:
        log.refuse("file not readable to its end", f"{path.name}: {error}")


def read_identities(path: Path) -> list[str]:
    """The age secret keys of a file, one a line; comments begin with #. Raises CurationError."""
    from slmfleet.store.segments import parse_identities

    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CurationError("IdentityNotReadable", f"{path}: {error}; --identity names an age identity file") from error
    keys = [line.strip() for line in lines if line.strip().startswith("AGE-SECRET-KEY-")]
    if not keys:
        raise CurationError("IdentityNotReadable", f"{path} holds no line AGE-SECRET-KEY-…; make one with age-keygen")
    try:
        parse_identities(keys)
    except ValueError as error:
        raise CurationError("IdentityNotReadable", f"{path}: {error}; make one with age-keygen") from error
    return keys


def _sealed_lines(path: Path, identity: Path | None, log: Log) -> Iterator[tuple[str, bytes]]:
    from slmfleet.store import segments

    if identity is None:
        raise CurationError(
            "IdentityMissing", f"{path} holds sealed segments; name the key that opens them: --identity"
        )
    reader = segments.read_directory(path, read_identities(identity))
    for number, line in enumerate(reader, 1):
        yield f"sealed record {number}", line
    for file, reason in reader.broken:
        log.refuse(f"segment: {reason.split(':')[0]}", f"{file.name}: {reason}")
    if reader.broken and not reader.segments:
        raise CurationError(
            "NoSegmentOpens",
            f"none of {len(reader.broken)} segments under {path} opens: {reader.broken[0][1]}; "
            "check that --identity is a recipient of the Router's capture",
        )
