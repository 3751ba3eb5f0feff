"""The dataset card: what a person must know before training on a dataset or passing it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmfleet.curation.redact_file import not_covered
from slmfleet.wire.jobs import CurationResult

if TYPE_CHECKING:
    from slmfleet.curation.curate import Dataset, Row, Settings
    from slmfleet.curation.sources import Log


def dataset_card(done: Dataset, log: Log, settings: Settings, result: CurationResult, digests: list[str]) -> str:
    """Markdown. Counts and dates only: no text of the log."""
    cluster = done.cluster
    dropped = [f"- {n} {why}" for why, n in result.dropped.items()] or ["- none"]
    redacted = [f"- {n} {kind}" for kind, n in result.redacted.items()] or ["- nothing was found"]
    models = sorted(
        {
            str(r.response["model"])
            for r in log.records
            if isinstance(r.response, dict) and r.response.get("model") and r.tier in (None, "llm")
        }
    )
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
            f"| cluster | {cluster.version} |",
            f"| log | {log.digest}, {len(log.records)} records, {done.members} of this task |",
            f"| seed | {settings.seed} |",
            "",
            "## Where it comes from",
            "Calls of an agent fleet, recorded by the gateway; the answers are those of the large model in front of "
            f"which it stood ({', '.join(models) or 'not named in the log'}). They were not checked by people: where "
            "the large model was wrong, so is the example. Held out are the latest conversations.",
            "",
            "## Left out",
            *dropped,
            "",
            "## Redaction",
            f"Replaced by invented values of the same kind and shape; {result.leaks} values of the log were found in "
            "the output afterwards.",
            *redacted,
            "",
            "Not covered:",
            *(f"- {line}" for line in not_covered(done.redactor)),
            "",
            "## Licence",
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


def _span(rows: list[Row]) -> str:
    if not rows:
        return "none"
    times = sorted(r["time"] for r in rows)
    return f"{times[0]} to {times[-1]}"
