"""`slmfleet verdict`: the sequential test on a file of scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from slmfleet.cli.problem import fail, read
from slmfleet.plan.verdict import Outcome, difference_verdict


def verdict(
    pairs: Annotated[Path, typer.Option(help='Lines of {"candidate": 0..1, "baseline": 0..1} in arrival order.')],
    margin: Annotated[float, typer.Option(min=0, max=1, help="How much worse is still acceptable.")] = 0.02,
    alpha: Annotated[float, typer.Option(min=1e-9, max=0.5, help="Error rate of each verdict.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """promote, rollback or continue, and after how many lines. Exits 0 for all three.

    The difference is candidate minus baseline. promote rejects "worse by the margin or more", rollback rejects "worse
    by less than the margin", each at alpha, valid at every look. Lines of one conversation count once, by their mean.
    A missing side makes the comparison unpaired.
    """
    lines = list(_read(pairs))
    outcome = difference_verdict(differences(lines), margin, alpha)
    if as_json:
        typer.echo(json.dumps(_result(outcome, len(lines))))
        return
    low, high = outcome.interval
    typer.echo(f"{outcome.verdict} after {outcome.after} of {outcome.lines} units ({len(lines)} lines): "
               f"difference {outcome.estimate:+.4f} [{low:+.2f}, {high:+.2f}]")


def _result(outcome: Outcome, lines: int) -> dict[str, Any]:
    return {"verdict": outcome.verdict, "after": outcome.after, "estimate": outcome.estimate,
            "interval": list(outcome.interval), "lines": lines}


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read("--pairs ", path).split("\n"), 1):
        if line.strip():
            yield _line(path, number, line)


def _line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        fail(f"{path}:{number}: not JSON")
    if not isinstance(found, dict):
        fail(f"{path}:{number}: not an object")
    unknown = set(found) - {"candidate", "baseline", "conversation", "id", "time"}
    if unknown:
        fail(f"{path}:{number}: unknown key {sorted(unknown)[0]}")
    conversation = found.get("conversation")
    if conversation is not None and not isinstance(conversation, str | int):
        fail(f"{path}:{number}: conversation must be a text, not {conversation!r}")
    for side in ("candidate", "baseline"):
        value = found.get(side)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            fail(f"{path}:{number}: {side} must be a number from 0 to 1, not {value!r}")
    return found


def differences(lines: list[dict[str, Any]]) -> list[float]:
    """One difference a unit, in arrival order of its completion.

    Paired: by conversation (its mean), else by line. Unpaired: the k-th candidate with the k-th baseline.
    """
    if all(line.get("candidate") is not None and line.get("baseline") is not None for line in lines):
        return _means([(line.get("conversation"), line["candidate"] - line["baseline"]) for line in lines])
    sides = [_means([(line.get("conversation"), float(line[side])) for line in lines if line.get(side) is not None])
             for side in ("candidate", "baseline")]
    return [candidate - baseline for candidate, baseline in zip(*sides, strict=False)]


def _means(values: list[tuple[str | None, float]]) -> list[float]:
    """Mean by conversation, in order of first arrival; a value without one stands for itself."""
    groups: dict[object, list[float]] = {}
    for index, (conversation, value) in enumerate(values):
        groups.setdefault(index if conversation is None else conversation, []).append(value)
    return [sum(group) / len(group) for group in groups.values()]
