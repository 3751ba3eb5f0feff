"""The access log: a JSON line a call on standard output, written beside the event loop. Off unless asked for.

A line has names, counts and times, never a prompt, an answer, a key or an address. Calls that failed (5xx, or given up
by their caller) are logged whatever the sample.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from slmfleet.gateway.background import Background
from slmfleet.gateway.seen import Seen

QUEUE = 10_000
BATCH = 256
SECONDS = 0.5
GONE = 499


def write(lines: bytes) -> None:
    """Standard output, where the process's other lines go."""
    sys.stdout.write(lines.decode())
    sys.stdout.flush()


class AccessLog:
    """Lines of a sample of calls."""

    def __init__(self, percent: float, rng: random.Random, out: Callable[[bytes], None] = write) -> None:
        self._percent = percent
        self._rng = rng
        self._out = out
        self.queue: Background[Seen] = Background("access-log", self._write, size=QUEUE, batch=BATCH, seconds=SECONDS)

    def offer(self, seen: Seen) -> None:
        """Log the call, if it is in the sample."""
        if seen.status >= GONE or self._percent >= 100 or self._rng.random() * 100 < self._percent:
            self.queue.offer(seen)

    def _write(self, batch: list[Seen]) -> None:
        self._out(b"".join(line(seen) for seen in batch))


def line(seen: Seen) -> bytes:
    """One call as JSON, with what is not known left out."""
    ended = datetime.fromtimestamp(seen.time + seen.seconds, UTC).isoformat(timespec="milliseconds")
    last = seen.tries[-1] if seen.tries else None
    facts: dict[str, Any] = {"tier": last.tier if last else None, **seen.facts()}
    if "score" in facts:
        facts["score"] = float(facts["score"])
    content = {
        "time": ended, "level": "info", "event": "Call", "id": seen.id, "method": seen.method, "path": seen.path,
        "status": seen.status, "latency_seconds": round(seen.seconds, 6), "api": seen.api, **facts,
        "error": last.error if last else None, "model": seen.model or None, "streamed": seen.streamed or None,
        "input_tokens": last.input_tokens if last else None, "output_tokens": last.output_tokens if last else None,
        "caller": seen.caller, "trace_id": seen.trace.trace_id if seen.trace else None,
    }  # fmt: skip
    known = {name: value for name, value in content.items() if value is not None}
    return orjson.dumps(known, option=orjson.OPT_APPEND_NEWLINE)
