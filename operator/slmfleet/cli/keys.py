"""`slmfleet keys`: the age key pair of the log. The gateway gets the public half, curation the private one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def generate(
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the identity (mode 0600); absent: standard output.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
) -> None:
    """Make an age identity (private, for curation) and print its recipient (public, for the Router)."""
    import orjson
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    text = f"# recipient: {recipient}\n{identity}\n"
    if out is not None:
        _write_private(out, text)
    if json_output:
        result = (
            {"recipient": recipient, "identity_file": str(out)}
            if out
            else {"recipient": recipient, "identity": str(identity)}
        )
        sys.stdout.write(orjson.dumps(result).decode() + "\n")
        return
    sys.stdout.write(f"{recipient}\n" if out else text)


def _write_private(path: Path, text: str) -> None:
    import os

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        typer.echo(f"{path} exists: an identity is never overwritten; choose another --out or move it away", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{path} cannot be written: {error.strerror}; choose another --out", err=True)
        raise typer.Exit(1) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
