"""Which conversations had not come to their end when the log was read: what is not over cannot count as done well.

A log says of no conversation that it is over, unless its outcome is declared. Two things tell that it is not: its last
call is younger, by the newest record of the log, than the pauses that conversations make; and it ends in a call of a
tool whose answer never came, though nearly all calls of that tool are answered. A tool that ends conversations as a
rule (`submit`, or one whose answers never pass the gateway) says nothing.

Not covered: a conversation that is taken up again after a longer pause. The next dataset knows better.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

USUAL = 0.99  # of pauses
ANSWERED = 0.9  # of a tool's calls, to expect an answer
FEWEST_CALLS = 10  # of a tool, to say what is usual
NO_TOOL = -1


@dataclass(frozen=True)
class Unfinished:
    """Conversations by number. `open`: under way. `unanswered`: over, as it seems, without the answer of a tool."""

    open: frozenset[int]
    unanswered: frozenset[int]


class Endings:
    """`add` every call of the log, whichever task it is of; 17 bytes a call."""

    def __init__(self) -> None:
        self._conversations, self._times = array("i"), array("d")
        self._tools, self._returned = array("i"), array("b")
        self._names: dict[str, int] = {}
        self._newest = float("-inf")

    def add(self, conversation: int | None, time: float, tool: str, *, returned: bool) -> None:
        """A call at `time` (seconds). `conversation`: None for a call that names none, and is over at once. `tool`: the
        first that its answer calls, or empty. `returned`: it brings a tool's answer."""
        self._newest = max(self._newest, time)
        if conversation is None:
            return
        self._conversations.append(conversation)
        self._times.append(time)
        self._tools.append(self._names.setdefault(tool, len(self._names)) if tool else NO_TOOL)
        self._returned.append(returned)

    def unfinished(self, quiet_seconds: float | None) -> Unfinished:
        """`quiet_seconds`: after which a conversation is over; None: the pause that 99 % of the pauses within
        conversations of this log do not exceed."""
        if not len(self._times):
            return Unfinished(frozenset(), frozenset())
        columns = (np.asarray(self._conversations), np.asarray(self._times), np.asarray(self._tools),
                   np.asarray(self._returned, dtype=bool))  # fmt: skip
        order = np.lexsort((columns[1], columns[0]))
        conversations, times, tools, returned = (column[order] for column in columns)
        following = conversations[1:] == conversations[:-1]
        quiet = _usual(np.diff(times)[following]) if quiet_seconds is None else quiet_seconds
        last = np.append(~following, True)
        under_way = last & (self._newest - times < quiet)
        stopped = last & ~under_way & np.isin(tools, _answered_tools(conversations, times, tools, returned))
        return Unfinished(_numbers(conversations[under_way]), _numbers(conversations[stopped]))


def _usual(pauses: NDArray[np.float64]) -> float:
    return float(np.quantile(pauses, USUAL, method="inverted_cdf")) if len(pauses) else 0.0


def _answered_tools(
    conversations: NDArray[Any], times: NDArray[Any], tools: NDArray[Any], returned: NDArray[Any]
) -> NDArray[Any]:
    """Tools of which nearly every call is followed, in its conversation, by a call that brings an answer."""
    latest = np.full(conversations.max() + 1, -np.inf)
    np.maximum.at(latest, conversations[returned], times[returned])
    called = tools != NO_TOOL
    if not called.any():
        return np.empty(0, dtype=tools.dtype)
    answered = latest[conversations[called]] > times[called]
    calls = np.bincount(tools[called])
    with_answer = np.bincount(tools[called], weights=answered)
    return np.flatnonzero((calls >= FEWEST_CALLS) & (with_answer >= ANSWERED * calls))


def _numbers(conversations: NDArray[Any]) -> frozenset[int]:
    return frozenset(conversations.tolist())
