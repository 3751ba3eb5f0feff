"""`slmfleet clean`: removes folders of the store that no Specialist needs. The operator's clean-up job runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.problem import fail


def clean(
    store: Annotated[Path, typer.Option(help="Folder of the store, with artifacts/, datasets/ and so on in it.")],
    folder: Annotated[list[str], typer.Option(help="What goes, e.g. artifacts/intents-0123456789; more than once.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Remove folders of the store, whole. Only such as the operator names: KIND/NAME-DIGEST."""
    from slmfleet.cli.redact import reported
    from slmfleet.store.cleanup import remove

    if not store.is_dir():
        fail(f"--store {store}: there is no such folder")
    done = []
    for path in folder:
        try:
            with reported():
                done.append(remove(store, path, dry_run=dry_run))
        except ValueError as error:
            fail(f"--folder {error}")
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "folders": [vars(each) for each in done]}))
        return
    for each in done:
        told = f"{each.files:,} files, {each.bytes:,} bytes" if each.found else "is not there"
        typer.echo(f"{'would remove' if dry_run and each.found else 'removed' if each.found else ''} "
                   f"{each.path}: {told}".strip())
