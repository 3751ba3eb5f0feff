"""How a gateway's process treats memory: the buffers of bodies, and Python's search for cycles.

By default glibc gives a freed block of a few hundred kilobytes back to the kernel at once, and the next body faults
every page in again: a 220 KB call then costs half as much again. What is kept instead is bounded here. Elsewhere than
on glibc nothing is changed.

By default Python looks for cycles after every 700 objects that a call leaves behind, the log's waiting records among
them, and now and then through all modules and tables. A call leaves no cycles unless it fails, so it is done seldom,
and what was there when the gateway began to serve is left out of it.
"""

from __future__ import annotations

import ctypes
import gc

KEPT_BYTES = 16 << 20
MAPPED_BYTES = 4 << 20  # a block of this size or more has a mapping of its own, given back when it is freed
OBJECTS_BETWEEN_COLLECTIONS = 50_000
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def keep_buffers() -> bool:
    """Keep up to KEPT_BYTES of freed memory for the next bodies; whether the allocator can be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


def collect_seldom() -> None:
    """Look for cycles seldom, and never again among the objects that are there now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 20, 50)
