"""W3C Trace Context: a caller's `traceparent` is continued, and the upstreams get ours.

Source: https://www.w3.org/TR/trace-context/ (level 1). `tracestate` is a header like any other and passes untouched.
"""

from __future__ import annotations

import re
from collections.abc import Callable

TRACEPARENT = b"traceparent"
SAMPLED = 1
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_RATIO_BITS = 56

Bits = Callable[[int], int]  # random.Random().getrandbits


class Trace:
    """One call's place in a trace. `child`: the span that the upstream hears of, while it is being tried."""

    __slots__ = ("_bits", "child", "parent_id", "sampled", "span_id", "trace_id")

    def __init__(self, trace_id: str, parent_id: str | None, sampled: bool, bits: Bits) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.sampled = sampled
        self._bits = bits
        self.span_id = _span_id(bits)
        self.child = self.span_id

    def onward(self, *, own_span: bool) -> bytes:
        """`traceparent` for an upstream; `own_span`: a new span stands for the try."""
        self.child = _span_id(self._bits) if own_span else self.span_id
        return f"00-{self.trace_id}-{self.child}-{int(self.sampled):02x}".encode()


def continue_trace(header: bytes | None, percent: float, bits: Bits) -> Trace:
    """The caller's trace, or a new one where there is none or it cannot be read. A caller's sampling decision holds."""
    parent = parse(header) if header is not None else None
    if parent is not None:
        trace_id, span_id, flags = parent
        return Trace(trace_id, span_id, bool(flags & SAMPLED), bits)
    number = bits(128) or 1
    sampled = percent >= 100 or number & ((1 << _RATIO_BITS) - 1) < percent / 100 * (1 << _RATIO_BITS)
    return Trace(f"{number:032x}", None, sampled, bits)


def parse(header: bytes) -> tuple[str, str, int] | None:
    """Trace id, span id and flags; None where the header is not to be used."""
    found = _PARENT.fullmatch(header.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return trace_id.decode(), span_id.decode(), int(flags, 16)


def _span_id(bits: Bits) -> str:
    return f"{bits(64) or 1:016x}"
