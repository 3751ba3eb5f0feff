"""`slmfleet train` and `evaluate`: hand over to the recipes, which have their own environment."""

from __future__ import annotations

import os
import subprocess
import sys

import typer

from slmfleet.cli.examples import EXAMPLES
from slmfleet.cli.problem import fail


def _hand_over(module: str, arguments: list[str], about: str) -> None:
    import importlib.util

    missing = [name for name in ("torch", "slmtrain") if importlib.util.find_spec(name) is None]
    if {"--help", "-h"} & set(arguments):
        typer.echo(_help(module, about))
        return
    if missing:
        fail(f"{missing[0]} is not installed here; recipes need the extra `train` (pip install 'slmfleet[train]')")
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _help(module: str, about: str) -> str:
    """The recipe's own options, which it can tell without torch, and the examples."""
    told = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    options = told.stdout or "All options are shown where the recipes are: pip install 'slmfleet[train]'"
    return f"{about}\n\n{options}"


def _about(command: str) -> str:
    text = {"train": train, "evaluate": evaluate}[command].__doc__ or ""
    return "\n".join([text, "", *EXAMPLES[command]])


def train(context: typer.Context) -> None:
    """Fine-tune a base on a dataset: --dataset DIR --base PATH --method lora --out DIR (see --help of the recipe)."""
    _hand_over("slmtrain.train", context.args, _about("train"))


def evaluate(context: typer.Context) -> None:
    """Judge a model: --dataset DIR --model DIR [--base PATH] --out FILE (see --help of the recipe)."""
    _hand_over("slmtrain.evaluate", context.args, _about("evaluate"))
