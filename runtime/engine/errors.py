"""How the engine refuses: a reason that a program can read, a message that a person can."""

from __future__ import annotations


class EngineError(Exception):
    """`reason` is one of the README's table."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message = reason, message
