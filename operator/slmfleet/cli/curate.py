"""`slmfleet curate`: the dataset of one task."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.problem import fail
from slmfleet.cli.redact import DENY_HELP, MODEL_HELP, PATTERNS_HELP, reported


def curate(
    records: Annotated[Path, typer.Option(help="A log: usage records, segments, OTLP/JSON, LiteLLM, OpenAI; a pattern.")],
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
    deny: Annotated[Path | None, typer.Option(help=DENY_HELP)] = None,
    patterns: Annotated[Path | None, typer.Option(help=PATTERNS_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same log, same dataset.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for a program.")] = False,
) -> None:
    """Make the dataset of one task: successful, valid, distinct and redacted answers of the LLM.

    Split by conversation and by time: held out are the latest conversations, and no prompt stands in both files.
    """
    from slmfleet.curation import curate as stage
    from slmfleet.curation.sources import read_log
    from slmfleet.curation.tenant import detector_of

    def say(line: str) -> None:
        typer.echo(f"curate: {line}", err=True)

    settings = stage.Settings(
        cluster, min_examples, heldout_share, _time("--since", since), _time("--until", until), seed
    )
    with reported():
        found = stage.read_clusters(clusters)
        found.named(cluster)
        detector = detector_of(model, deny, patterns)
        log = read_log(records, identity, source, rejected)
        done = stage.curate(log, found, settings, say, detector)
        result = stage.write(done, log, settings, out)
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
