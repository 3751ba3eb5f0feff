"""A gateway of two workers whose event loop can be made to stand still: `python gateway_hanging.py TABLE SECONDS`.

A call that says `hang for ever` is one whose deciding never ends.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvloop

from slmfleet.gateway.server import Options
from slmfleet.gateway.workers import Supervisor


def fingerprint(request: dict[str, Any]) -> str:
    """Of no frame; the loop that it runs in never goes on where the call says so."""
    while "hang for ever" in str(request["messages"]):
        pass
    return ""


def main(table: str, silent_seconds: str) -> None:
    from gateway_hanging import fingerprint  # by its module's name, as the workers will find it

    options = Options(
        Path(table), "127.0.0.1:0", "127.0.0.1:0", drain_seconds=2.0, silent_seconds=float(silent_seconds)
    )
    uvloop.run(Supervisor(options, 2, load=None, fingerprint=fingerprint).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
