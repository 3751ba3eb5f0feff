"""Keeps the log no longer than the table says: the gateway deletes its Router's days that are past, once an hour.

It is the gateway that does this, because nobody needs a new right for it (its mount of usage/<router> lets it write
there and nowhere else), because who can read the log then still cannot change it, and because it runs without traffic,
without discovery and without a cluster. It opens no segment: the folder's name says the day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from slmfleet.gateway.counters import CaptureCounter
from slmfleet.gateway.log import log
from slmfleet.gateway.table import Table
from slmfleet.store.retention import expire
from slmfleet.wire.routes import RouteTable

INTERVAL_SECONDS = 3600.0
LOOK_SECONDS = 5.0


async def keep_expiring(store: Path | None, table: Callable[[], Table | None], counter: CaptureCounter) -> None:
    """Run until cancelled; without a store return."""
    while store is not None:
        current = table()
        if current is None or current.spec.capture.retention_days is None:
            await asyncio.sleep(LOOK_SECONDS)
            continue
        await asyncio.to_thread(expire_once, store, current.spec, counter, datetime.now(UTC).date())
        await asyncio.sleep(INTERVAL_SECONDS)


def expire_once(store: Path, spec: RouteTable, counter: CaptureCounter, today: date) -> None:
    """One pass. A store that refuses is logged; the next pass tries again."""
    days = spec.capture.retention_days
    if days is None:
        return
    try:
        gone = expire(store / "usage" / spec.router.rpartition("/")[2], days, today)
    except OSError as error:
        log("error", "CaptureNotExpired", reason=str(error), action="make the store writable; tried again in an hour")
        return
    counter.expired_segments += gone.segments
    if gone.days or gone.segments:
        log("info", "CaptureExpired", days=gone.days, segments=gone.segments, retention_days=days)
