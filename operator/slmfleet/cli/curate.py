"""`slmfleet curate`: the dataset of one task."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.paths import DATASET, RUN, Named, files, refuse_overwriting
from slmfleet.cli.problem import fail, ready_file, ready_folder
from slmfleet.cli.redact import DENY_HELP, MODEL_HELP, PATTERNS_HELP, reported


def curate(
    records: Annotated[Path, typer.Option(help="A log: file, folder or pattern; see --source.")],
    clusters: Annotated[Path, typer.Option(help="Folder that `slmfleet discover` wrote.")],
    cluster: Annotated[str, typer.Option(help="Name of the task.")],
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl, heldout.jsonl, card.md, report.json.")],
    identity: Annotated[Path | None, typer.Option(help="age identity file that opens sealed segments.")] = None,
    source: Annotated[str, typer.Option(help="What wrote the log: auto, records, otel, litellm, openai.")] = "auto",
    rejected: Annotated[Path | None, typer.Option(help="File for what was set aside: place and reason.")] = None,
    min_examples: Annotated[int, typer.Option(min=1, help="Fewest examples, train and held-out together.")] = 100,
    heldout_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the calls that is held out.")] = 0.2,
    since: Annotated[str | None, typer.Option(help="Only calls from this time on (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(help="Only calls before this time (RFC 3339).")] = None,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "default",
    deny: Annotated[list[Path] | None, typer.Option(help=DENY_HELP)] = None,
    patterns: Annotated[Path | None, typer.Option(help=PATTERNS_HELP)] = None,
    languages: Annotated[str, typer.Option(help="Only these, e.g. en,de (ISO 639-1); all where empty.")] = "",
    max_tokens: Annotated[int, typer.Option(min=0, help="Longest call, prompt and answer; 0: any.")] = 16_384,
    max_origin_share: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Most rows of one origin; default: 0.5, where there are many origins."),
    ] = None,
    max_examples: Annotated[int, typer.Option(min=1, help="Most rows to train on; a fair sample of more.")] = 100_000,
    signs: Annotated[bool, typer.Option(help="Leave out what a tool refused or a user corrected.")] = True,
    quiet_seconds: Annotated[
        float | None, typer.Option(min=0, help="Silence after which a conversation is over; default: the log's own.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes of Ray; 0: this one alone, without Ray.")] = 0,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster to use, e.g. auto.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same log, same dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for a program.")] = False,
) -> None:
    """Make the dataset of one task: successful, valid, distinct and redacted answers of the LLM.

    Split by conversation and by time: held out are the latest conversations, and no prompt stands in both files.
    """
    from slmfleet.curation import curate as stage
    from slmfleet.curation.language import LANGUAGES
    from slmfleet.curation.sources import Reader
    from slmfleet.curation.tenant import detector_of
    from slmfleet.curation.workers import Workers

    def say(line: str) -> None:
        typer.echo(f"curate: {line}", err=True)

    spoken = tuple(x.strip().lower() for x in languages.split(",") if x.strip())
    for code in spoken:
        if code not in LANGUAGES:
            fail(f"--languages {code}: not one that can be told; these can: {', '.join(LANGUAGES)}")
    settings = stage.Settings(
        cluster, min_examples, heldout_share, _time("--since", since), _time("--until", until), seed,
        spoken, max_tokens, max_origin_share,
        max_examples, signs, quiet_seconds,
    )  # fmt: skip
    use = Workers(workers or 1, ray) if workers or ray else None
    with reported():
        refuse_overwriting(
            [Named("--records", records, log=True), Named("--clusters", clusters, RUN), Named("--identity", identity),
             Named("--patterns", patterns), *files("--deny", deny)],
            [Named("--out", out, DATASET), Named("--rejected", rejected)],
        )  # fmt: skip
        found = stage.read_clusters(clusters)
        found.named(cluster)
        ready_folder(out)
        if rejected is not None:
            ready_file(rejected)
        detector = detector_of(model, deny or (), patterns)
        reader = Reader(records, identity, source, rejected)
        done = stage.curate(reader, found, settings, say, use, detector)
        result = stage.write(done, reader.log, settings, out)
    if as_json:
        typer.echo(result.model_dump_json(by_alias=True))
        return
    typer.echo(
        f"{cluster}: {result.train} to train on, {result.heldout} held out, {sum(result.dropped.values())} left "
        f"out, {sum(result.redacted.values())} values redacted, {result.leaks} leaks; {result.dataset_digest}"
    )


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} {text}: not RFC 3339, e.g. 2026-03-02T08:00:00Z")
    if found.tzinfo is None:
        fail(f"{option} {text}: name the zone, e.g. {text}Z")
    return found
