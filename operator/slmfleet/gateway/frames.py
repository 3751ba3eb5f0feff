"""Server-sent events kept whole: what a caller has been sent always ends at an event's end.

An upstream's pieces end anywhere. A caller can use an event only when it is whole, so the rest of a piece waits for it;
then a stream that breaks off can still be ended by an error event that the caller can read. Nothing is parsed: an
event ends at an empty line, which is all that is looked for, and mostly a piece ends there.
"""

from __future__ import annotations

WAITING_BYTES = 65_536
_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")


class Frames:
    """Cuts a stream at the ends of its events. Events above `WAITING_BYTES` are passed on in pieces all the same."""

    __slots__ = ("_waiting", "torn")

    def __init__(self) -> None:
        self._waiting = b""
        self.torn = False  # an event has been passed on in part: only cutting the line can tell that it is not whole

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now."""
        if self._waiting:
            data = self._waiting + data
        if data.endswith(_ENDS):
            self._waiting, self.torn = b"", False
            return data
        end = max(data.rfind(mark) + len(mark) if mark in data else 0 for mark in _ENDS)
        if len(data) - end > WAITING_BYTES:
            self._waiting, self.torn = b"", True
            return data
        self._waiting = data[end:]
        if end:
            self.torn = False
        return data[:end]

    def rest(self) -> bytes:
        """What a stream that ended well had after its last event."""
        waiting, self._waiting = self._waiting, b""
        return waiting
