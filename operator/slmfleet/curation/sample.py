"""The records of a log in bounded memory: all of them, or those of a sample of its conversations.

A conversation is in the sample where the digest of its name lies below a share of all digests. Whenever the records
outgrow the bounds the share is halved, so that the sample depends neither on the order of the log nor on a seed, and a
larger log's sample is a part of the smaller one's. A "conversation" that has an eighth of the bounds to itself is a
constant that some client sends: of such, single records are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from slmfleet.curation.signs import digest
from slmfleet.wire.records import UsageRecord

DIGESTS = 2**64
TOO_MUCH = 1 / 8


@dataclass(frozen=True)
class Bounds:
    """The most that is held: records, and bytes of the lines they stood in."""

    records: int = 40_000
    bytes: int = 256 << 20


class Sample:
    """`add` each record; `records` has those of the conversations drawn, by id. Of two with one id the later counts."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seen: set[int] = set()
        self._size: dict[str, int] = {}
        self._bytes = 0
        self._no_conversation: set[str] = set()
        self.share = 1.0
        self.records: dict[str, UsageRecord] = {}

    def add(self, record: UsageRecord, size: int) -> bool:
        """Take a record whose line had `size` bytes; False where its id was there before."""
        name = digest(record.id)
        again = name in self._seen
        self._seen.add(name)
        self._drop(record.id)
        if self.has(record):
            self.records[record.id] = record
            self._size[record.id] = size
            self._bytes += size
        while len(self.records) > max(1, self._bounds.records) or self._bytes > self._bounds.bytes:
            if len(self.records) < 2:
                break
            self._halve()
        return not again

    def has(self, record: UsageRecord) -> bool:
        """Whether a record belongs to the sample."""
        return self.share >= 1.0 or digest(self._unit(record)) < self.share * DIGESTS

    @property
    def left_out(self) -> int:
        """Records of the conversations that were not drawn."""
        return len(self._seen) - len(self.records)

    def _unit(self, record: UsageRecord) -> str:
        name = record.conversation
        return record.id if name is None or name in self._no_conversation else name

    def _halve(self) -> None:
        weight: dict[str, float] = defaultdict(float)
        for id, record in self.records.items():
            weight[self._unit(record)] += max(1 / self._bounds.records, self._size[id] / self._bounds.bytes)
        self._no_conversation |= {name for name, held in weight.items() if held > TOO_MUCH}
        self.share /= 2
        for id in [id for id, record in self.records.items() if not self.has(record)]:
            self._drop(id)

    def _drop(self, id: str) -> None:
        if self.records.pop(id, None) is not None:
            self._bytes -= self._size.pop(id)
