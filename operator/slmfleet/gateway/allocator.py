"""How the C library's allocator treats the buffers of bodies.

By default glibc gives a freed block of a few hundred kilobytes back to the kernel at once, and the next body faults
every page in again: a 220 KB call then costs half as much again. What is kept instead is bounded here. Elsewhere than
on glibc nothing is changed.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES = 16 << 20
MAPPED_BYTES = 4 << 20  # a block of this size or more has a mapping of its own, given back when it is freed
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def keep_buffers() -> bool:
    """Keep up to KEPT_BYTES of freed memory for the next bodies; whether the allocator can be told so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, MAPPED_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
