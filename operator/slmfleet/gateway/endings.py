"""Whether a stream that ends by closing its connection came to its end, or was cut: HTTP itself cannot tell the two.

Looked at only in that case. What cannot be told for certain counts as an end, since the answer must reach the caller
as the API sent it, and not every API says when it is done.
"""

from __future__ import annotations

import re

_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)+")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_LAST_EVENTS = {
    "responses": re.compile(rb'"type"\s*:\s*"(?:response\.(?:completed|failed|incomplete|cancelled)|error)"'),
    "messages": re.compile(rb'"type"\s*:\s*"(?:message_stop|error)"'),
}


def cut_short(tail: bytes, api: str | None, limit: int) -> bool:
    """Whether the answer must have gone on after `tail`, its last bytes (`limit` of them at most)."""
    if not tail:
        return True
    events = [event for event in _EVENT_END.split(tail) if b"data:" in event]
    if len(tail) >= limit:
        events = events[1:]  # the first may be half of one
    last = _LAST_EVENTS.get(api or "")
    if last is not None:
        return bool(events) and last.search(events[-1]) is None
    return _chunks_cut_short(events)


def _chunks_cut_short(events: list[bytes]) -> bool:
    """OpenAI's chunks: after the last one that says something comes nothing but usage and [DONE]."""
    for event in reversed(events):
        if b"[DONE]" in event:
            return False
        if b'"choices"' in event and not _NO_CHOICES.search(event):
            return _REASON.search(event) is None
    return any(b'"choices"' in event for event in events)
