"""Reads a log: usage records, sealed segments, or what OpenTelemetry, LiteLLM and OpenAI export.

An element that is no record and a segment that does not open are counted and set aside with their reason: one broken
line must not cost a run, and a silent one would be a lie about the log. `Reader` holds nothing of what it read;
`read_log` holds the records, or a sample of them where the log is large (`sample`); `left_out` reads the others.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

import orjson

from slmfleet.curation import inputs, normal
from slmfleet.curation.failures import CurationError
from slmfleet.curation.parts import Parts
from slmfleet.curation.sample import Bounds, Sample
from slmfleet.curation.signs import digest
from slmfleet.wire.records import UsageRecord

SEALED = inputs.SEALED
REPEATED = "same id again"
TELL = 100_000
NAMES = 100  # of ignored keys that are counted each for itself
TOLD = 10
OTHER = "other keys"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


@dataclass
class Log:
    """`read`: elements seen (lines; of a line with many spans, each); records, `joined` and `set_aside` add up to it.

    `joined`: elements that completed a record begun by another. `set_aside`: reason to count. `examples`: where the
    first of each reason was. `digest`: of the lines read. `kinds`: records by what wrote them. `places`: id to where.
    `sample`: what `records` was drawn by. `ignored`: keys that nobody reads, and in how many records.
    """

    records: list[UsageRecord] = field(default_factory=list)
    set_aside: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    read: int = 0
    joined: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    places: dict[str, str] = field(default_factory=dict)
    sample: Sample | None = None
    ignored: Counter[str] = field(default_factory=Counter)

    def ignore(self, keys: Iterable[str]) -> None:
        """Count keys. A name that is no identifier may be anybody's data, and is not noted."""
        for key in keys:
            plain = _PLAIN.fullmatch(key) and (key in self.ignored or len(self.ignored) < NAMES)
            self.ignored[key if plain else OTHER] += 1

    def said_of_ignored(self) -> list[str]:
        """A line for a person where there were such keys, else none; the commonest by name."""
        most = [f"{key} ({count} record{'s' * (count > 1)})" for key, count in self.ignored.most_common(TOLD)]
        more = f" and {len(self.ignored) - TOLD} more" if len(self.ignored) > TOLD else ""
        return [f"ignored keys of usage records: {', '.join(most)}{more}"] if most else []

    def refuse(self, reason: str, where: str) -> None:
        self.set_aside[reason] += 1
        self.examples.setdefault(reason, where)


@dataclass(frozen=True, slots=True)
class Read:
    """A record, what wrote it, where it stood, and in how many bytes."""

    record: UsageRecord
    kind: normal.Kind
    where: str
    size: int = 0


class Reader:
    """Iterate it once: the records of a log in the order of the files, one at a time. `log` counts as it goes.

    `source` says what wrote the log where its lines do not. `rejected`: file for what was set aside, as JSON lines of
    `where`, `reason`, `bytes` and `digest`; never the text, which nobody has redacted.
    """

    def __init__(
        self, path: Path, identity: Path | None = None, source: str = "auto", rejected: Path | None = None
    ) -> None:
        kind = source.lower()
        if kind not in ("auto", *normal.KINDS):
            raise CurationError("SourceUnknown", f"--source {source}: one of auto, {', '.join(normal.KINDS)}")
        self.log = Log()
        self._kind = next((k for k in normal.KINDS if k == kind), None)
        self._source = inputs.found(path)
        self.path = path
        self._identity = identity
        self._rejected = rejected
        self._aside: IO[bytes] | None = None

    def __iter__(self) -> Iterator[Read]:
        digest = hashlib.sha256()
        if self._rejected is not None:
            self._rejected.parent.mkdir(parents=True, exist_ok=True)
            self._aside = self._rejected.open("wb")
        try:
            with Parts() as parts:
                for where, line in self._lines():
                    digest.update(line)
                    digest.update(b"\n")
                    yield from self._elements(where, line, parts)
                for kind, key, where, size, bodies in parts.together():
                    self.log.joined += len(bodies) - 1
                    yield from self._whole(normal.joined(kind, key, bodies, self._source.root), where, b"", size)
        finally:
            if self._aside is not None:
                self._aside.close()
        self.log.digest = "sha256:" + digest.hexdigest()

    def _elements(self, where: str, line: bytes, parts: Parts) -> Iterator[Read]:
        if not line.strip():
            return
        found = list(normal.elements(line, self._kind))
        for element in found:
            self.log.read += 1
            if isinstance(element, normal.Part):
                parts.add(element, where)
            else:
                yield from self._whole(element, where, line, len(line) // len(found))

    def _whole(self, element: normal.Element, where: str, line: bytes, size: int) -> Iterator[Read]:
        if isinstance(element, normal.Whole):
            self.log.kinds[element.kind] += 1
            self.log.ignore(element.ignored)
            yield Read(element.record, element.kind, where, size)
        elif isinstance(element, normal.Aside):
            self.refuse(element.reason, where, line)

    def refuse(self, reason: str, where: str, line: bytes = b"") -> None:
        """Count what is set aside, and note it where that was asked for."""
        self.log.refuse(reason, where)
        if self._aside is not None:
            said = {"where": where, "reason": reason, "bytes": len(line)}
            said["digest"] = "sha256:" + hashlib.sha256(line).hexdigest()
            self._aside.write(orjson.dumps(said) + b"\n")

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        def unreadable(reason: str, where: str, line: bytes) -> None:
            self.log.read += 1
            self.refuse(reason, where, line)

        for file in self._source.files:
            yield from inputs.lines(file, unreadable)
        if self._source.sealed:
            yield from self._sealed_lines(self._source.sealed)

    def _sealed_lines(self, paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        from slmfleet.store import segments

        if self._identity is None:
            raise CurationError(
                "IdentityMissing", f"{paths[0]} holds sealed segments; name the key that opens them: --identity"
            )
        identities = read_identities(self._identity)
        readers = [segments.read_directory(path, identities) for path in paths]
        for number, line in enumerate(chain.from_iterable(readers), 1):
            yield f"sealed record {number}", line
        broken = [each for reader in readers for each in reader.broken]
        for file, reason in broken:
            self.log.read += 1
            self.refuse(f"segment: {reason.split(':')[0]}", f"{file.name}: {reason}")
        if broken and not any(reader.segments for reader in readers):
            raise CurationError(
                "NoSegmentOpens",
                f"none of {len(broken)} segments under {paths[0]} opens: {broken[0][1]}; "
                "check that --identity is a recipient of the Router's capture",
            )


def read_log(
    path: Path,
    identity: Path | None = None,
    source: str = "auto",
    rejected: Path | None = None,
    bounds: Bounds | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Log:
    """Every record under `path`, in the order of time; of two with one id, the later line counts. Of a log beyond
    `bounds` (those of `Bounds` where none are given) the records of a sample of its conversations."""
    reader = Reader(path, identity, source, rejected)
    log = reader.log
    log.sample = sample = Sample(bounds or Bounds())
    for number, read in enumerate(reader, 1):
        if number % TELL == 0:
            say(f"{number:,} records read")
        if not sample.add(read.record, read.size):
            reader.refuse(REPEATED, read.where)
        log.places[read.record.id] = read.where
        if len(log.places) > 2 * len(sample.records):
            log.places = {id: log.places[id] for id in sample.records}
    log.records = sorted(sample.records.values(), key=lambda r: (r.time, r.id))
    return log


def left_out(log: Log, path: Path, identity: Path | None = None, source: str = "auto") -> Iterator[UsageRecord]:
    """The records that the sample of `read_log` does not hold, one at a time, from a second reading; each id once."""
    if log.sample is None or not log.sample.left_out:
        return
    seen = set()
    for read in Reader(path, identity, source):
        key = digest(read.record.id)
        if key not in seen and not log.sample.has(read.record):
            seen.add(key)
            yield read.record


def read_identities(path: Path) -> list[str]:
    """The age secret keys of a file, one a line; comments begin with #. Raises CurationError."""
    from slmfleet.store.segments import parse_identities

    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "no text"
        raise CurationError("IdentityNotReadable", f"{path}: {what}; --identity names an age identity file") from error
    keys = [line.strip() for line in lines if line.strip().startswith("AGE-SECRET-KEY-")]
    if not keys:
        raise CurationError("IdentityNotReadable", f"{path} holds no line AGE-SECRET-KEY-…; `slmfleet keys` makes one")
    try:
        parse_identities(keys)
    except ValueError as error:
        raise CurationError("IdentityNotReadable", f"{path}: {error}; `slmfleet keys` makes one") from error
    return keys
