"""`slmfleet redact`: personal data and secrets out of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.paths import Named, files, refuse_overwriting
from slmfleet.cli.problem import fail, ready_file

MODEL_HELP = "default, none, spacy:NAME, transformers:NAME or gliner:NAME."
DENY_HELP = "Values to replace wherever they stand, one a line; after a tab, their kind. May be repeated."
WRONG_COMMAND = ("SourceUnknown", "ModelUnknown", "EmbedderNotFound")  # an option's value is none of its choices
PATTERNS_HELP = "Patterns of your own, of RE2, YAML: patterns: [{kind, regex, ignore_case}]."


@contextmanager
def reported() -> Iterator[None]:
    """A failure of a curation job: one line for a person, one object for the operator."""
    from slmfleet.curation import failures
    from slmfleet.wire.jobs import JobFailure

    try:
        yield
    except failures.CurationError as error:
        failures.report(error.failure)
        fail(str(error), 2 if error.failure.reason in WRONG_COMMAND else 1)
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
    records: Annotated[Path, typer.Option(help='Usage records or lines of {"id", "text"}; plain, gzip or Zstandard.')],
    out: Annotated[Path, typer.Option(help="The same lines, redacted.")],
    report: Annotated[Path, typer.Option(help="Counts by type and the leak test, as JSON.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "default",
    deny: Annotated[list[Path] | None, typer.Option(help=DENY_HELP)] = None,
    patterns: Annotated[Path | None, typer.Option(help=PATTERNS_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same input, same output.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for a program.")] = False,
) -> None:
    """Replace personal data and secrets by invented values of the same kind and shape.

    Not covered: about one name, organisation, place or address in ten; scripts other than Latin; what identifies only
    together. The report opens with it. Exits 1 when a value is still in the output.
    """
    from slmfleet.curation import redact_file
    from slmfleet.curation.tenant import detector_of

    def say(line: str) -> None:
        typer.echo(f"redact: {line}", err=True)

    with reported():
        refuse_overwriting(
            [Named("--records", records), Named("--patterns", patterns), *files("--deny", deny)],
            [Named("--out", out), Named("--report", report)],
        )
        ready_file(out)
        ready_file(report)
        found = redact_file.redact_file(records, out, report, seed, detector_of(model, deny or (), patterns), say)
        if not found.lines:
            say(f"{records} holds no line with a request, a response or a text: nothing was redacted")
        if as_json:
            typer.echo(found.model_dump_json(by_alias=True))
        else:
            counts = ", ".join(f"{n} {kind}" for kind, n in sorted(found.replaced.items())) or "nothing"
            typer.echo(
                f"{found.lines} lines: replaced {counts}; {found.leaks} leaks; {found.set_aside_total} lines set aside"
            )
        redact_file.refuse_leaks(found)
