"""The calls of a task between the stages: their text on disk, and in memory what comparing them needs.

Under a kilobyte a member, whatever its text is: memory grows with the number of calls and not with what they say.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import orjson

from slmfleet.curation.calls import Call, call_of
from slmfleet.curation.duplicates import Print
from slmfleet.curation.endings import Endings
from slmfleet.curation.examine import Examined
from slmfleet.curation.signs import digest
from slmfleet.wire.records import UsageRecord

REPEATED = ("read", "same id again")


class Members:
    """`add` each examined call; then ask by place. A place is a member's number in the order of the log."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="slmfleet-")
        self._file = (Path(self._folder.name) / "members").open("w+b")
        self._at, self._size = array("q"), array("i")
        self._names: dict[str, int] = {}
        self._seen: dict[int, int] = {}
        self.ids: list[str] = []
        self.times, self.outcomes = array("d"), array("b")
        self.conversations, self.origins = array("i"), array("i")
        self.prompts, self.answers = array("Q"), array("Q")
        self.prints: list[Print] = []
        self.refused: list[tuple[str, str] | None] = []
        self.repaired: dict[int, str] = {}
        self.escalated: dict[int, str] = {}
        self.answered: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.others = 0
        self.records = 0
        self.declared: dict[int, tuple[float, int]] = {}
        self.against: dict[tuple[int, int], str] = {}
        self.endings = Endings()

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._folder.cleanup()

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, call: Examined) -> bool:
        """Take a call; False where it takes the place of an earlier one with its id."""
        conversation = self._name(call.conversation)
        for step, reason in call.against:
            self.against.setdefault((conversation, step), reason)
        if call.outcome >= 0:
            self.declared[conversation] = max(self.declared.get(conversation, (0.0, 1)), (call.time, call.outcome))
        self.endings.add(conversation if call.named else None, call.time, call.tool, returned=call.returned)
        key = digest(call.id)
        earlier = self._seen.get(key)
        if earlier is None:
            self.records += 1
        elif earlier < 0:
            self.others -= 1
        else:
            self.refused[earlier] = REPEATED
        self._seen[key] = self._keep(call, conversation) if call.line else -1
        self.others += 0 if call.line else 1
        return earlier is None

    def _keep(self, call: Examined, conversation: int) -> int:
        place = len(self.ids)
        self._at.append(self._file.tell())
        self._size.append(len(call.line))
        self._file.write(call.line)
        self.ids.append(call.id)
        self.times.append(call.time)
        self.outcomes.append(call.outcome)
        self.conversations.append(conversation)
        self.origins.append(self._name(call.origin))
        self.prompts.append(call.prompt)
        self.answers.append(call.answer)
        self.prints.append(Print(call.exact, call.signature))
        self.refused.append((call.stage, call.reason) if call.reason else None)
        self.answered[call.answered] += 1
        if call.answered == "llm" and call.model:
            self.models[call.model] += 1
        if call.repaired:
            self.repaired[place] = call.repaired
        if call.escalated_from:
            self.escalated[place] = call.escalated_from
        return place

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    @property
    def no_origin(self) -> int:
        """The origin of calls that name none."""
        return self._name("")

    def refuse(self, place: int, stage: str, reason: str) -> None:
        self.refused[place] = (stage, reason)

    def alive(self) -> list[int]:
        """Places that nothing speaks against yet."""
        return [i for i, why in enumerate(self.refused) if why is None]

    def call(self, place: int) -> Call:
        """A member as it was read."""
        return call_of(UsageRecord.model_validate_json(self._line(place)[1]))

    def source(self, place: int) -> tuple[str, str]:
        """(kind, where) of a member's record."""
        kind, where = orjson.loads(self._line(place)[0])
        return kind, where

    def _line(self, place: int) -> tuple[bytes, bytes]:
        self._file.seek(self._at[place])
        head, _, body = self._file.read(self._size[place]).partition(b"\n")
        return head, body

    def calls(self) -> Iterator[Call]:
        """Every member that was not repeated, in the order of the log."""
        for place, why in enumerate(self.refused):
            if why != REPEATED:
                yield self.call(place)
