"""`slmfleet train` and `evaluate`: hand over to the recipes, which have their own environment."""

from __future__ import annotations

import os
import sys

import typer

from slmfleet.cli.examples import EXAMPLES
from slmfleet.cli.problem import fail


def _hand_over(module: str, arguments: list[str], about: str) -> None:
    import importlib.util

    missing = [name for name in ("torch", "slmtrain") if importlib.util.find_spec(name) is None]
    if missing and "--help" in arguments:
        typer.echo(f"{about}\n\nAll options are shown where the extra `train` is installed: {missing[0]} is not here.")
        return
    if missing:
        fail(f"{missing[0]} is not installed here; recipes need the extra `train` (pip install 'slmfleet[train]')")
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _about(command: str) -> str:
    text = {"train": train, "evaluate": evaluate}[command].__doc__ or ""
    return "\n".join([text, "", *EXAMPLES[command]])


def train(context: typer.Context) -> None:
    """Fine-tune a base on a dataset: --dataset DIR --base PATH --method lora --out DIR (see --help of the recipe)."""
    _hand_over("slmtrain.train", context.args, _about("train"))


def evaluate(context: typer.Context) -> None:
    """Judge a model: --dataset DIR --model DIR [--base PATH] --out FILE (see --help of the recipe)."""
    _hand_over("slmtrain.evaluate", context.args, _about("evaluate"))
