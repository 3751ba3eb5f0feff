"""Declared tasks: whose call it is by what a person wrote, the same in the log and in the gateway.

A task with fingerprints is known by them alone. Else everything that its signature gives must hold: the system prompt
(compared without its variables, as fingerprints are made; `{name}` in it stands for any text), every tool named is
offered, the response format is of that type and, where one is named, that name.

Where two tasks take a call, the one that asks for more has it: fingerprints, then a prompt without variables, then the
longer prompt, the larger number of tools, a response format; else the first by name.

Not covered: a variable that a date or a quotation runs over (a month's name before it, quotes around 200 characters),
and what stands after the first 20,000 characters of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slmfleet.recognise.frame import Frame, fingerprint_of, frame_of, template_of
from slmfleet.wire.routes import VARIABLE, Signature

REMEMBERED = 4096
_ANY = "\ue000"  # private use: no letter, no digit, no space, so that templates leave it where it is


@dataclass(frozen=True, slots=True)
class _Task:
    """One signature, made ready. `prompt`: the pieces between its variables; None: any prompt."""

    name: str
    fingerprints: frozenset[str]
    prompt: tuple[str, ...] | None
    tools: frozenset[str]
    response_format: str

    @property
    def rank(self) -> tuple[bool, bool, int, int, bool, str]:
        """The first in order has the call."""
        pieces = self.prompt or ()
        size = sum(map(len, pieces))
        return (not self.fingerprints, len(pieces) != 1, -size, -len(self.tools), not self.response_format, self.name)

    def takes(self, frame: Frame, fingerprint: str) -> bool:
        if self.fingerprints:
            return fingerprint in self.fingerprints
        if not self.tools.issubset(frame.tools):
            return False
        form = frame.response_format
        if self.response_format and self.response_format not in (form, form.partition(":")[0]):
            return False
        return self.prompt is None or _fits(template_of(frame.system), self.prompt)


class Signatures:
    """The declared tasks of one Router; a signature that gives nothing takes nothing."""

    def __init__(self, tasks: Iterable[tuple[str, Signature]] = ()) -> None:
        self._tasks = sorted((_task(name, said) for name, said in tasks if said.given), key=lambda task: task.rank)
        self._known: dict[str, str | None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(task.name for task in self._tasks)

    def owner(self, frame: Frame, fingerprint: str) -> str | None:
        """The task whose call it is, or None. Remembered by fingerprint, which says all that is asked of a frame."""
        if not self._tasks:
            return None
        if fingerprint not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[fingerprint] = next((t.name for t in self._tasks if t.takes(frame, fingerprint)), None)
        return self._known[fingerprint]

    def owner_of(self, request: dict[str, Any]) -> str | None:
        """The same, of a request body."""
        if not self._tasks:
            return None
        frame = frame_of(request)
        return self.owner(frame, fingerprint_of(frame))


def _task(name: str, said: Signature) -> _Task:
    given = said.given
    return _Task(
        name=name,
        fingerprints=frozenset(filter(None, said.fingerprints)),
        prompt=_pieces(said.system_prompt or "") if "systemPrompt" in given else None,
        tools=frozenset(filter(None, said.tools)),
        response_format=said.response_format or "",
    )


def _pieces(prompt: str) -> tuple[str, ...]:
    """The template of a declared prompt, cut at its variables."""
    return tuple(piece.strip() for piece in template_of(VARIABLE.sub(_ANY, prompt)).split(_ANY))


def _fits(template: str, pieces: tuple[str, ...]) -> bool:
    """Whether the pieces stand in the template in this order, the first at its start and the last at its end. One pass:
    each piece at the first place after the one before it."""
    first, *rest = pieces
    if not rest:
        return template == first
    if not template.startswith(first):
        return False
    at, last = len(first), rest.pop()
    for piece in rest:
        found = template.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return template.endswith(last) and len(template) - len(last) >= at
