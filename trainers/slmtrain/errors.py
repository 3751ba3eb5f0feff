"""How a recipe fails: one line that says what, where and what to do, and the same as an object for Kubernetes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

TERMINATION_LOG = "SLMTRAIN_TERMINATION_LOG"  # a pod's message for its operator; Kubernetes' own default otherwise


class Refused(Exception):
    """The run cannot go on. `reason` is one CamelCase word; `retry` says whether running it again may help."""

    def __init__(self, reason: str, message: str, *, retry: bool = False) -> None:
        super().__init__(reason, message)  # both: a worker's error is pickled by what it was called with
        self.reason, self.message, self.retry = reason, message, retry

    def __str__(self) -> str:
        return self.message


class OneLine(argparse.ArgumentParser):
    """A wrong option is one line on stderr."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def run_command(name: str, main: Callable[[], None]) -> None:
    """Run a recipe's main: exit 0, or one line on stderr and exit 1 (2 is argparse's, for a wrong command line).

    A container's first process, for which the kernel has no default, is interrupted by SIGTERM as by Ctrl-C.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except Refused as error:
        failure = error
    except MemoryError:
        failure = Refused("OutOfMemory", "out of memory: raise the memory limit or lower batch_size", retry=True)
    except OSError as error:
        where = error.filename or "the file system"
        failure = Refused("StoreUnreachable", f"cannot use {where}: {error.strerror or error}", retry=True)
    except KeyboardInterrupt:
        failure = Refused("Interrupted", "interrupted; run the same command again to go on", retry=True)
    else:
        return
    message = " ".join(failure.message.split())
    print(f"slmtrain {name}: {failure.reason}: {message}", file=sys.stderr, flush=True)
    write_termination_log(failure)
    raise SystemExit(1)


def write_termination_log(failure: Refused) -> None:
    """Leave {"reason","message","retry","details"} where Kubernetes shows it; nothing to do outside a pod."""
    path = Path(os.environ.get(TERMINATION_LOG, "/dev/termination-log"))
    if not path.exists():
        return
    body = {"reason": failure.reason, "message": failure.message[:2000], "retry": failure.retry, "details": {}}
    try:
        path.write_text(json.dumps(body), encoding="utf-8")
    except OSError:
        pass
