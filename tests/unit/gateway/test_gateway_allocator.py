"""Buffers of bodies are kept: page faults of a fresh process, with and without."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from slmfleet.gateway.allocator import keep_buffers
if sys.argv[1] == "keep" and not keep_buffers():
    raise SystemExit("the allocator was not told")
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
piece = b"x" * 220_000
def hold(): return [b"".join((piece, b"y")) for _ in range(4)]
hold(), hold()
before = faults()
for _ in range(20):
    hold()
print(faults() - before)
"""


def faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_buffers_are_not_faulted_in_again() -> None:
    assert faults("keep") < faults("leave") / 10
