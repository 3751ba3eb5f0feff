"""How a curation job fails: one typed error, one line for a person, one JSON object for the operator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slmfleet.wire.jobs import JobFailure

LIMIT_BYTES = 4096


class CurationError(Exception):
    """`reason` is CamelCase and goes into a condition; `message` says what, where, and what to do."""

    def __init__(self, reason: str, message: str, *, retry: bool = False, details: dict[str, Any] | None = None):
        super().__init__(message)
        self.failure = JobFailure(reason=reason, message=message, retry=retry, details=details or {})

    def __str__(self) -> str:
        return f"{self.failure.reason}: {self.failure.message}"


def report(failure: JobFailure, environment: Mapping[str, str] = os.environ) -> None:
    """Write the failure where SLMFLEET_TERMINATION_LOG says, cut to what the kubelet reads; elsewhere do nothing."""
    path = environment.get("SLMFLEET_TERMINATION_LOG")
    if not path:
        return
    body = failure.model_dump_json()
    if len(body.encode()) > LIMIT_BYTES:
        short = JobFailure(reason=failure.reason, message=failure.message[:600], retry=failure.retry)
        body = short.model_dump_json()
    Path(path).write_text(body, "utf-8")
