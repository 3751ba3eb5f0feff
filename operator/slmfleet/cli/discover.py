"""`slmfleet discover`: the recurring tasks of a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.paths import RUN, Named, files, refuse_overwriting
from slmfleet.cli.problem import fail, ready_file, ready_folder
from slmfleet.cli.redact import DENY_HELP, MODEL_HELP, PATTERNS_HELP, reported
from slmfleet.curation.sample import Bounds


def discover(
    records: Annotated[Path, typer.Option(help="A log: file, folder or pattern; see --source.")],
    out: Annotated[
        Path, typer.Option(help="Folder for clusters.json, assignments.jsonl, classifier.npz, result.json.")
    ],
    identity: Annotated[Path | None, typer.Option(help="age identity file that opens sealed segments.")] = None,
    source: Annotated[str, typer.Option(help="What wrote the log: auto, records, otel, litellm, openai.")] = "auto",
    rejected: Annotated[Path | None, typer.Option(help="File for what was set aside: place and reason.")] = None,
    previous: Annotated[
        Path | None, typer.Option(help="An earlier run's folder: known tasks keep their names.")
    ] = None,
    trained: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=FOLDER", help="The run that a task's specialist learned from: drift is measured from it too."
        ),
    ] = None,
    min_size: Annotated[
        int | None, typer.Option(min=2, help="Fewest calls of a task; by default 50, of free calls 5.")
    ] = None,
    min_share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least share of the calls; by default 0.01, of free ones 0.0005."),
    ] = None,
    foreign_rate: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Most foreign calls the classifier may take.")
    ] = 0.01,
    in_use: Annotated[
        Path | None, typer.Option(help="The classifier.npz that gateways use: measured beside the new one.")
    ] = None,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Note that an earlier run or classifier is not there; go on without.")
    ] = False,
    publish: Annotated[Path | None, typer.Option(help="The store's router/ folder: the classifier by digest.")] = None,
    embedder: Annotated[
        str | None, typer.Option(help="What reads meaning: lexical, a sentence-transformers folder or name.")
    ] = None,
    max_records: Annotated[
        int,
        typer.Option(min=1000, help="Most records held at once; of a larger log, tasks are sought in a sample."),
    ] = Bounds.records,
    max_mib: Annotated[int, typer.Option(min=16, help="The same, in MiB of log lines.")] = Bounds.bytes >> 20,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "default",
    deny: Annotated[list[Path] | None, typer.Option(help=DENY_HELP)] = None,
    patterns: Annotated[Path | None, typer.Option(help=PATTERNS_HELP)] = None,
    name_with: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible LLM, with /v1, asked what new tasks are called.")
    ] = None,
    name_model: Annotated[str | None, typer.Option(help="Its model.")] = None,
    name_key_env: Annotated[str | None, typer.Option(help="Environment variable with its key.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same log, same result.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Find the recurring narrow tasks in a log, without being told, and train the classifier that recognises them.

    Personal data in examples and prompts is replaced, always. Broken lines and segments are counted, never fatal.
    """
    from slmfleet.curation import discover as stage
    from slmfleet.curation.asking import Endpoint, Namer
    from slmfleet.curation.sources import left_out, read_log
    from slmfleet.curation.tenant import detector_of

    def say(line: str) -> None:
        typer.echo(f"discover: {line}", err=True)

    if (name_with is None) != (name_model is None):
        fail("--name-with and --name-model: give both, or neither")
    runs = dict(map(_task_and_folder, trained or ()))
    if not missing_ok:
        _refuse_missing(previous, runs, in_use)
    with reported():
        refuse_overwriting(
            [Named("--records", records, log=True), Named("--identity", identity), Named("--patterns", patterns),
             *files("--deny", deny)],
            [Named("--out", out, RUN), Named("--publish", publish, ()), Named("--rejected", rejected)],
        )  # fmt: skip
        # An earlier run may be the folder of --out: it is read before, and the new run takes its place.
        refuse_overwriting(
            [Named("--previous", previous, RUN), Named("--in-use", in_use),
             *(Named("--trained", folder, RUN) for folder in runs.values())],
            [Named("--rejected", rejected)],
        )  # fmt: skip
        asked = Endpoint(name_with, name_model, name_key_env) if name_with and name_model else None
        namer = Namer(asked) if asked is not None else None
        detector = detector_of(model, deny or (), patterns)
        ready_folder(out)
        if rejected is not None:
            ready_file(rejected)
        used = stage.read_in_use(in_use) if in_use is not None and in_use.is_file() else None
        if in_use is not None and used is None:
            say(f"--in-use {in_use} is not there: the new classifier is compared with nothing")
        earlier = stage.read_previous(previous) if previous is not None else []
        if previous is not None and not earlier:
            say(f"--previous {previous} holds no task of an earlier run: every name is new")
        learned = {}
        for task, folder in runs.items():
            learned[task] = stage.read_previous(folder, "--trained")
            if not any(each.name == task for each in learned[task]):
                say(f"--trained {task}={folder}: that run holds no task {task}, so drift is not measured from it")
        log = read_log(records, identity, source, rejected, Bounds(max_records, max_mib << 20), say)
        for reason, count in sorted(log.set_aside.items()):
            say(f"set aside {count}: {reason} (first: {log.examples[reason]})")
        for line in log.said_of_ignored():
            say(line)
        if not log.records:
            say(f"{records}: {log.read} lines, none of them a call; --source names what wrote them")
        share = log.sample.share if log.sample is not None else 1.0
        if share < 1:
            say(f"a large log: tasks are sought in {share:.3%} of its conversations ({len(log.records)} records)")
        settings = stage.Settings(min_size, min_share, foreign_rate, seed, used, embedder, detector, namer)
        found = stage.discover(log, settings, earlier, say, learned)
        if share < 1 and log.sample is not None:
            say(f"giving the other {log.sample.left_out} records to the tasks")
        for reason, count in (namer.report().own_words if namer is not None else {}).items():
            say(f"{count} tasks have names of their own words: {reason}")
        result = stage.write(found, out, publish, left_out(log, records, identity, source), share)
    if as_json:
        typer.echo(result.model_dump_json(by_alias=True))
        return
    for cluster in result.clusters.clusters:
        typer.echo(f"{cluster.name:<48} {cluster.size:>7} calls {cluster.share:>6.1%}  {cluster.description}")
    for line in found.left:
        typer.echo(f"{'(stays with the LLM)':<48} {line}")
    typer.echo(f"{len(result.clusters.clusters)} tasks, {result.clusters.unassigned} calls without one, in {out}")


def _refuse_missing(previous: Path | None, runs: dict[str, Path], in_use: Path | None) -> None:
    """A typing error here would give every task a new name, or leave its drift unmeasured."""
    if in_use is not None and not in_use.is_file():
        fail(f"--in-use {in_use}: there is no such file; name a classifier.npz, or go on without it with --missing-ok")
    folders = {f"--previous {previous}": previous} if previous is not None else {}
    folders |= {f"--trained {task}={folder}": folder for task, folder in runs.items()}
    for said, folder in folders.items():
        if not folder.is_dir():
            fail(f"{said}: there is no such folder; name an earlier run's, or go on without it with --missing-ok")


def _task_and_folder(given: str) -> tuple[str, Path]:
    task, _, folder = given.partition("=")
    if not task or not folder:
        fail(f"--trained {given}: give a task's name and the folder of a run, TASK=FOLDER")
    return task, Path(folder)
