"""The two strictnesses of a message."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Read from a process that may be newer: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Strict(BaseModel):
    """Read from a file or a command line: unknown keys are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
