"""The dataset card: what a person must know before training on a dataset or passing it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmfleet.curation.language import UNDETERMINED
from slmfleet.curation.redact_file import not_covered
from slmfleet.wire.jobs import CurationResult

if TYPE_CHECKING:
    from slmfleet.curation.curate import Dataset, Rows, Settings
    from slmfleet.curation.sources import Log


def dataset_card(done: Dataset, log: Log, settings: Settings, result: CurationResult, digests: list[str]) -> str:
    """Markdown. Counts and dates only: no text of the log."""
    cluster = done.cluster
    steps = [f"| {s.name} | {s.read} | {_reasons(s.dropped)} | {s.kept} |" for s in result.funnel]
    redacted = [f"- {n} {kind}" for kind, n in result.redacted.items()] or ["- nothing was found"]
    models = [name for name, _ in done.models.most_common(8)]
    return "\n".join(
        [
            f"# Dataset of {cluster.name}",
            "",
            cluster.description,
            "",
            "| | |",
            "|---|---|",
            f"| dataset | {result.dataset_digest} |",
            f"| train.jsonl | {result.train} examples, {_span(done.train)}, sha256:{digests[0]} |",
            f"| heldout.jsonl | {result.heldout} examples, {_span(done.heldout)}, sha256:{digests[1]} |",
            f"| conversations | {result.conversations}, none in both files |",
            f"| time | {_order(result)} |",
            *([f"| under way | {_under_way(result)} |"] if result.unfinished else []),
            f"| origins | {_origins(result)} |",
            f"| cluster | {cluster.version} |",
            f"| log | {log.digest}, {done.records} records, {done.members} of this task |",
            f"| lineage.jsonl | the log records that each row stands for, {result.lineage_digest} |",
            f"| seed | {settings.seed} |",
            "",
            "## Where it comes from",
            "Calls of an agent fleet, recorded by the gateway; the answers are those of the large model in front of "
            f"which it stood ({', '.join(models) or 'not named in the log'}). They were not checked by people: where "
            "the large model was wrong, so is the example. Held out are the latest conversations.",
            "",
            "## Who answered",
            *_bias(result),
            "",
            "## What was left out",
            "| filter | in | left out | on |",
            "|---|---|---|---|",
            *steps,
            "",
            f"Mended, and kept: {_reasons(result.repaired)}.",
            "",
            "## Redaction",
            f"Replaced by invented values of the same kind and shape; {result.leaks} values of the log were found in "
            "the output afterwards.",
            *redacted,
            f"Languages of the rows: {_languages(done)}.",
            "",
            _rules(result),
            "",
            "Not covered:",
            *(f"- {line}" for line in not_covered(done.redactor)),
            "",
            "## Licence",
            "LicenseRef-LLM-Provider-Terms",
            "",
            "The prompts belong to whoever runs the agents; the answers fall under the terms of the large model's "
            "provider. Whether they may train another model is for its licence to say: `BaseModel.spec.licence` and "
            "the Router's owner decide, this tool does not.",
            "",
            "## What it is not",
            "No record of answers by specialists, of failed or truncated calls, of calls that another task owns. No "
            "claim that the labels are right. No guarantee of anonymity.",
            "",
        ]
    )


def _rules(result: CurationResult) -> str:
    rules = result.redaction
    if rules is None:
        return ""
    own = f"{rules.denied} denied values and {len(rules.patterns)} patterns of the tenant's own"
    return f"Found with the patterns, model `{rules.model}`, {own}; settings {rules.digest}."


def _span(rows: Rows) -> str:
    return f"{rows[0]['time']} to {rows[-1]['time']}" if rows else "none"


def _languages(done: Dataset) -> str:
    return ", ".join(f"{n} {'not told' if code == UNDETERMINED else code}" for code, n in done.languages.most_common())


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in counts.items()) or "none"


def _bias(result: CurationResult) -> list[str]:
    """What the log's own routing does to the sample, and what was done about it."""
    others = {k: n for k, n in result.answered.items() if k != "llm"}
    lines = [f"Calls of this task: {_reasons(result.answered)}. Answers of others than the LLM never teach."]
    if not others and not result.escalations:
        lines.append("No specialist had this traffic: the rows are a sample of all of it.")
        return lines
    lines.append(
        f"Corrected: {result.escalations} rows are escalations, with the LLM's answer to what a specialist could not "
        "answer. Excluded: the other answers of specialists; shadow answers are never in the log."
    )
    if result.heldout_harder:
        lines.append(
            "**Biased: most held-out rows are escalations, so a score on them is lower than on the traffic.** Send a "
            "share of the calls to the LLM to have a fair sample."
        )
        return lines
    lines.append(
        "Escalations have no larger share of the held-out rows than of the traffic; in training they all stay."
    )
    return lines


def _under_way(result: CurationResult) -> str:
    return (
        f"{result.unfinished} calls are of conversations that may not have been over, and stayed: they are more than a "
        "tenth. Name the time after which a conversation is over (--quiet-seconds)"
    )


def _origins(result: CurationResult) -> str:
    if result.origin_share is None:
        return "no call says who asked"
    most = f"of {result.origins}, the largest gives {result.largest_origin_share or 0:.1%} of the rows"
    return f"{most}; " + ("no cap" if result.origin_share >= 1 else f"at most {result.origin_share:.1%} was let in")


def _order(result: CurationResult) -> str:
    if result.overlap:
        return f"{result.overlap} training rows are later than the first held-out row: conversations overlap that much"
    return "every training row is earlier than every held-out row"
