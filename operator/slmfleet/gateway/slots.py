"""Who may use a pool's slots when they are short: fair shares between its specialists, and a bounded wait.

The rule: while another specialist was refused within the last second and holds less than its share (slots divided by
those who hold or were refused), one that holds its share or more gets no further slot. Nothing is kept free for
specialists that do not ask. A freed slot goes first to those who wait, to the specialist that holds least; one that
cannot use it passes it on, and each specialist that waits is asked once.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

REMEMBERED_SECONDS = 1.0


class Turn(Protocol):
    """What is told when its turn has come; a future is one."""

    def set_result(self, result: None, /) -> object: ...


class Slots:
    """One pool's slots. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self._refused_at: dict[str, float] = {}
        self._waiting: list[tuple[str, Turn]] = []
        self._passed_on: set[str] = set()  # those that the last freed slots were of no use to

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiting)

    def awaits(self, specialist: str) -> bool:
        """Whether calls of this specialist wait already: a new one comes after them."""
        return any(name == specialist for name, _ in self._waiting)

    def admits(self, specialist: str, slots: int, now: float) -> bool:
        """Whether fairness lets this specialist take one more."""
        if not self._refused_at:
            return True
        for name in [name for name, at in self._refused_at.items() if now - at >= REMEMBERED_SECONDS]:
            del self._refused_at[name]
        others = self._refused_at.keys() - {specialist}
        share = slots / len(self.taken.keys() | self._refused_at.keys() | {specialist})
        if self.taken.get(specialist, 0) < share:
            return True
        return all(self.taken.get(other, 0) >= share for other in others)

    def refused(self, specialist: str, now: float) -> None:
        """It got no slot."""
        self._refused_at[specialist] = now

    def take(self, specialist: str) -> None:
        """It got one."""
        self._refused_at.pop(specialist, None)
        self.taken[specialist] = self.taken.get(specialist, 0) + 1

    def give_back(self, specialist: str) -> None:
        """It needs one less."""
        self.taken[specialist] -= 1
        if not self.taken[specialist]:
            del self.taken[specialist]
        self._passed_on.clear()
        self._wake()

    def pass_on(self, specialist: str) -> None:
        """Its turn came, and the free slot is on no server that can answer it: let another try."""
        self._passed_on.add(specialist)
        self._wake()

    async def wait(self, specialist: str, seconds: float) -> bool:
        """Wait until a slot may be free; False when the time is over."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line_up(specialist, turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except TimeoutError:
            return False
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._wake()  # its turn came as it left: it is another's now
            raise
        finally:
            self.leave(specialist, turn)
        return True

    def line_up(self, specialist: str, turn: Turn) -> None:
        """Wait for a slot; `turn` is told when one may be free, and is no longer in the line then."""
        self._waiting.append((specialist, turn))

    def leave(self, specialist: str, turn: Turn) -> None:
        """Wait no longer; nothing where its turn had come."""
        if (specialist, turn) in self._waiting:
            self._waiting.remove((specialist, turn))

    def _wake(self) -> None:
        entries = [entry for entry in self._waiting if entry[0] not in self._passed_on]
        if not entries:
            return
        entry = min(entries, key=lambda entry: self.taken.get(entry[0], 0))
        self._waiting.remove(entry)
        entry[1].set_result(None)
