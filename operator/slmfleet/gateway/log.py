"""JSON lines on standard output. Never a request's content: callers pass names, counts and reasons only."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def log(level: str, event: str, **fields: Any) -> None:
    """One line: time, level, event (CamelCase), fields."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **fields}
    sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")
    sys.stdout.flush()
