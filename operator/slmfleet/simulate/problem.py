"""What is wrong with a file that was given, in one line."""

from __future__ import annotations


class InputProblem(Exception):
    """A trace or a fleet file that cannot be simulated: which file, which line or key, and what to do."""
