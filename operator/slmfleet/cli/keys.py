"""`slmfleet keys`: the age keys of the log. The gateway gets the public half, curation the private one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.problem import fail

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def generate(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the identity (mode 0600); absent: standard output.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
) -> None:
    """Make an age identity (private, for curation) and print its recipient (public, for the Router)."""
    if context.invoked_subcommand is not None:
        return
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


@app.command("rewrap")
def rewrap(
    store: Annotated[Path, typer.Option("--store", help="Folder of the store; all logs under its usage/ are meant.")],
    identity: Annotated[Path, typer.Option("--identity", help="age identity file that opens them as they are.")],
    recipient: Annotated[
        list[str] | None, typer.Option("--recipient", help="age public key that shall open them too; may be repeated.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")] = False,
) -> None:
    """Make the old segments of a log readable by another key. Only their headers change.

    Afterwards the keys of --identity and those named by --recipient open them, and no others: an age file does not say
    for whom it is, so name every key that shall go on. To retire a key, run it with the new identity alone. A run that
    was killed is run again.
    """
    import orjson

    from slmfleet.curation.failures import CurationError
    from slmfleet.curation.sources import read_identities
    from slmfleet.store.rotation import rewrap_directory
    from slmfleet.store.segments import parse_identities, parse_recipients

    log = store / "usage"
    if not log.is_dir():
        fail(f"--store {store} has no folder usage; name the folder that the gateway's --store names", 1)
    try:
        identities = read_identities(identity)
        parse_recipients(recipient or [])
    except CurationError as error:
        fail(f"--identity: {error}", 1)
    except ValueError as error:
        fail(f"--recipient: {error}", 1)
    own = [str(each.to_public()) for each in parse_identities(identities)]
    done = rewrap_directory(log, identities, sorted({*own, *(recipient or [])}))
    counts = {"segments": done.segments, "rewrapped": done.rewrapped, "already": done.already,
              "failed": len(done.failed)}
    typer.echo(orjson.dumps(counts).decode() if json_output else
               f"{done.segments} segments: {done.rewrapped} wrapped anew, {done.already} already so")
    if done.failed:
        path, reason = done.failed[0]
        fail(f"{len(done.failed)} of {done.segments} segments are as they were, the first {path}: {reason}", 1)


def _write_private(path: Path, text: str) -> None:
    import os

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{path} exists: an identity is never overwritten; choose another --out or move it away", 1)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}; choose another --out", 1)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
