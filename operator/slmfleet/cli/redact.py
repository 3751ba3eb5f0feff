"""`slmfleet redact`: personal data and secrets out of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.problem import fail


@contextmanager
def reported() -> Iterator[None]:
    """A failure of a curation job: one line for a person, one object for the operator."""
    from slmfleet.curation import failures
    from slmfleet.wire.jobs import JobFailure

    try:
        yield
    except failures.CurationError as error:
        failures.report(error.failure)
        fail(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        failure = JobFailure(reason="StoreUnreachable", message=f"{where}{error.strerror or error}", retry=True)
        failures.report(failure)
        fail(f"{failure.reason}: {failure.message}; check the path, its permissions and the free space", 1)
    except MemoryError:
        failure = JobFailure(reason="OutOfMemory", message="the log does not fit; raise the memory limit or narrow it")
        failures.report(failure)
        fail(f"{failure.reason}: {failure.message}", 1)


def redact(
    records: Annotated[Path, typer.Option(help='Usage records or lines of {"id", "text"}: .jsonl, .jsonl.gz.')],
    out: Annotated[Path, typer.Option(help="The same lines, redacted.")],
    report: Annotated[Path, typer.Option(help="Counts by type and the leak test, as JSON.")],
    seed: Annotated[int, typer.Option(help="Same seed, same input, same output.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for a program.")] = False,
) -> None:
    """Replace personal data and secrets by invented values of the same kind and shape.

    Not covered: names that no word announces, organisations, street addresses, national ids other than US SSNs, record
    numbers of your own systems. Exits 1 when a value is still in the output.
    """
    from slmfleet.curation import redact_file

    with reported():
        found = redact_file.redact_file(records, out, report, seed)
        text = found.model_dump_json()
        if as_json:
            typer.echo(text)
        else:
            counts = ", ".join(f"{n} {kind}" for kind, n in sorted(found.replaced.items())) or "nothing"
            typer.echo(
                f"{found.lines} lines: replaced {counts}; {found.leaks} leaks; {found.set_aside_total} lines set aside"
            )
        redact_file.refuse_leaks(found)
