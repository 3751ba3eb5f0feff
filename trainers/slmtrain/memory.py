"""Whether full fine-tuning can fit at all: the bytes that it is sure to need, before any weight is loaded.

Weights are held in float32; what is trained has its gradient and AdamW's two moments beside it, in float32 as well.
Not counted: activations, what workers exchange, Python, torch and Ray. So what passes may still run out of memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slmtrain.errors import Refused

WEIGHT_BYTES = 4
STEP_BYTES = 12  # gradient, and the moments of AdamW
CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # version 2, version 1
MACHINE = Path("/proc/meminfo")


def least_bytes(parameters: int, trained: int) -> int:
    """Of one worker.

    >>> least_bytes(1_000, 600)
    11200
    """
    return WEIGHT_BYTES * parameters + STEP_BYTES * trained


def host_limit(cgroup: Path = Path("/sys/fs/cgroup"), machine: Path = MACHINE) -> int | None:
    """Bytes that this container, or the machine, may use; None where neither says."""
    limits = [*(_number(cgroup / name) for name in CGROUP_LIMITS), _installed(machine)]
    return min((limit for limit in limits if limit is not None), default=None)


def refuse_too_large(parameters: int, trained: int, workers: int, limit: int | None, where: str) -> None:
    """`workers` share `limit` bytes. Raises Refused where what is sure to be needed is more."""
    needed = workers * least_bytes(parameters, trained)
    if limit is None or needed <= limit:
        return
    raise Refused(
        "TooLarge",
        f"full fine-tuning of {parameters:,} parameters ({trained:,} of them trained) by {workers} "
        f"worker{'s'[: workers - 1]} needs {_gib(needed)} for weights, gradients and optimizer alone, and {where} has "
        f"{_gib(limit)}; take a smaller base, fewer workers, more memory, or lora",
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _number(path: Path) -> int | None:
    """None where the file is not there or says `max`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _installed(path: Path) -> int | None:
    try:
        lines: Iterable[str] = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")), None)
