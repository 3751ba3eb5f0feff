"""S2: the dataset of one task, from the log.

Members → success → format → duplicates → redaction → split by conversation and by time. Only the LLM's answers teach: a
specialist's own never do, or it would learn its own mistakes. Of an escalation the LLM's answer is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from slmfleet.curation import duplicates, formats
from slmfleet.curation.calls import Call, call_of
from slmfleet.curation.card import dataset_card
from slmfleet.curation.detect import Detector
from slmfleet.curation.failures import CurationError
from slmfleet.curation.models import default_detector
from slmfleet.curation.redact import BATCH, Redactor, mapped, strings_in
from slmfleet.curation.sources import Log
from slmfleet.recognise.classifier import Classifier
from slmfleet.recognise.frame import text_of
from slmfleet.store.files import atomic_write
from slmfleet.wire.discovery import ClustersFile, FoundCluster
from slmfleet.wire.jobs import CurationResult

Say = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    cluster: str
    min_examples: int = 100
    heldout_share: float = 0.2
    since: datetime | None = None
    until: datetime | None = None
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """What discovery left: the clusters, who is in them, and the classifier for records that came later."""

    file: ClustersFile
    assigned: dict[str, str | None]
    classifier: Classifier | None

    def named(self, name: str) -> FoundCluster:
        for cluster in self.file.clusters:
            if cluster.name == name:
                return cluster
        known = ", ".join(c.name for c in self.file.clusters) or "none"
        raise CurationError("ClusterNotFound", f"no cluster {name!r} among: {known}")


@dataclass
class Dataset:
    """Rows ready to write, and what happened on the way."""

    cluster: FoundCluster
    train: list[Row] = field(default_factory=list)
    heldout: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    redactor: Redactor = field(default_factory=Redactor)
    members: int = 0


def read_clusters(folder: Path) -> Clusters:
    """Read a run of `discover`; an unfinished one is refused."""
    if not (folder / "result.json").is_file() and not (folder / "clusters.json").is_file():
        raise CurationError(
            "ClustersNotFound", f"{folder} holds no clusters.json; run `slmfleet discover --out {folder}`"
        )
    try:
        file = ClustersFile.model_validate_json((folder / "clusters.json").read_bytes())
        assigned = {}
        for line in (folder / "assignments.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            assigned[row["id"]] = row["cluster"]
    except (OSError, ValueError, KeyError) as error:
        raise CurationError("ClustersNotReadable", f"{folder}: {error}; run `slmfleet discover` again") from error
    path = folder / "classifier.npz"
    return Clusters(file, assigned, Classifier.load(path, None) if path.is_file() else None)


def curate(
    log: Log,
    clusters: Clusters,
    settings: Settings,
    say: Say = lambda line: None,
    detector: Detector | None = None,
) -> Dataset:
    """Make the dataset of one cluster. `detector`: what redaction finds values with; labels and tools' names stay."""
    cluster = clusters.named(settings.cluster)
    finds = replace(detector or default_detector(), keep=_vocabulary(cluster))
    done = Dataset(cluster, redactor=Redactor(settings.seed, finds))
    for reason, count in log.set_aside.items():
        done.dropped[f"set aside: {reason}"] += count
    calls = [call_of(r) for r in log.records]
    members = [c for c in calls if _is_member(c, clusters, settings.cluster)]
    done.members = len(members)
    say(f"{len(members)} of {len(calls)} records are {settings.cluster}")
    kept: list[Call] = []
    for call in members:
        refusal = _refused(call, done.cluster, settings)
        if refusal is None:
            kept.append(call)
        else:
            done.dropped[refusal] += 1
    kept, split_of = _split(kept, settings.heldout_share, done.dropped)
    say(f"{len(kept)} calls kept; redacting")
    _redact(kept, members, split_of, done)
    if len(done.train) + len(done.heldout) < settings.min_examples:
        _too_few(done, settings)
    return done


def _vocabulary(cluster: FoundCluster) -> frozenset[str]:
    """The application's own words, which are no personal data: the labels it answers with, the names of its tools."""
    words = [*(cluster.output_format.labels or ()), *(cluster.signature.tools or ())]
    return frozenset(str(w).casefold() for w in words)


def _is_member(call: Call, clusters: Clusters, name: str) -> bool:
    if call.id in clusters.assigned:
        return clusters.assigned[call.id] == name
    return clusters.classifier is not None and clusters.classifier.classify_frame(call.frame).label == name


def _refused(call: Call, cluster: FoundCluster, settings: Settings) -> str | None:
    """Why a member's answer does not teach, or None."""
    record = call.record
    if settings.since is not None and record.time < settings.since:
        return "before --since"
    if settings.until is not None and record.time >= settings.until:
        return "after --until"
    if record.tier not in (None, "llm") or (record.tier is None and (record.specialist or record.revision)):
        return f"answered by a {record.tier or 'specialist'}"
    if call.set_aside is not None:
        return call.set_aside
    if record.outcome is not None and not record.outcome.success:
        return "the workflow failed"
    if _cut_short(record.response):
        return "the answer was cut short"
    if call.tool_calls:
        return None
    fault = formats.fault(call.answer, cluster.output_format)
    return f"format: {fault}" if fault else None


def _cut_short(response: Any) -> bool:
    choices = response.get("choices") if isinstance(response, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and first.get("finish_reason") in ("length", "content_filter")


def _split(calls: Sequence[Call], share: float, dropped: Counter[str]) -> tuple[list[Call], dict[str, str]]:
    """The latest conversations are held out, each whole. Then duplicates: one call of a group stays, the earliest in
    training; a group that stands in both parts stays in training only, so no held-out prompt was ever learned."""
    first: dict[str, datetime] = {}
    for call in calls:
        first[call.conversation] = min(call.record.time, first.get(call.conversation, call.record.time))
    size = Counter(c.conversation for c in calls)
    order = sorted(first, key=lambda c: (first[c], c))
    part: dict[str, str] = {}
    held = 0
    for name in reversed(order):
        part[name] = "heldout" if held < share * len(calls) and len(part) < len(order) - 1 else "train"
        held += size[name]
    group = duplicates.groups([_prompt_text(c) for c in calls])
    ranked = sorted(range(len(calls)), key=lambda i: (part[calls[i].conversation] != "train", calls[i].record.time, i))
    seen: set[int] = set()
    kept = []
    for i in ranked:
        if group[i] in seen:
            dropped["duplicate"] += 1
            continue
        seen.add(group[i])
        kept.append(calls[i])
    kept.sort(key=lambda c: (c.record.time, c.id))
    return kept, {c.id: part[c.conversation] for c in kept}


def _prompt_text(call: Call) -> str:
    """What makes two calls the same question: everything said but the system prompt."""
    messages = _messages(call)
    return "\n".join(text_of(m.get("content")) for m in messages if m.get("role") not in ("system", "developer"))


def _messages(call: Call) -> list[Row]:
    """The conversation in TRL's form, system prompt first."""
    request = call.record.request
    given = request.get("messages") if isinstance(request, dict) else None
    if isinstance(given, list) and given and not request.get("system"):
        return [m for m in given if isinstance(m, dict)]
    messages = [{"role": "system", "content": call.frame.system}] if call.frame.system else []
    listed = given or (request.get("input") if isinstance(request, dict) else None)
    if isinstance(listed, list):
        plain = [
            {"role": m.get("role", "user"), "content": text_of(m.get("content"))} for m in listed if isinstance(m, dict)
        ]
        return messages + [m for m in plain if m["role"] not in ("system", "developer")]
    return [*messages, {"role": "user", "content": call.frame.user}]


def _answer_message(call: Call) -> Row:
    if not call.tool_calls:
        return {"role": "assistant", "content": call.answer.strip()}
    calls = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in call.tool_calls]
    return {"role": "assistant", "content": call.answer or "", "tool_calls": calls}


def _redact(kept: Sequence[Call], members: Sequence[Call], split_of: dict[str, str], done: Dataset) -> None:
    """Redact what is written; learn from every member, so that what a dropped call says of a person is known too."""
    redactor = done.redactor
    for at in range(0, len(members), BATCH):
        block = [(c, list(strings_in([*_messages(c), _answer_message(c)]))) for c in members[at : at + BATCH]]
        redactor.prepare(text for _, texts in block for text in texts)
        for call, texts in block:
            for text in texts:
                redactor.learn(call.conversation, text)
    for call in kept:
        change: Callable[[str], str] = lambda text, c=call.conversation: redactor.redact(c, text)  # type: ignore[misc] # noqa: E731
        messages = [
            {k: v if k in ("role", "type") else mapped(v, change) for k, v in m.items()}
            for m in [*_messages(call), _answer_message(call)]
        ]
        request = call.record.request
        row: Row = {
            "id": call.id,
            "conversation": call.conversation,
            "time": call.record.time.isoformat().replace("+00:00", "Z"),
            "messages": messages,
        }
        if isinstance(request, dict) and request.get("tools"):
            row["tools"] = mapped(request["tools"], change)
        redactor.check(call.id, strings_in([messages, row.get("tools")]))
        (done.train if split_of[call.id] == "train" else done.heldout).append(row)


def _too_few(done: Dataset, settings: Settings) -> None:
    found = len(done.train) + len(done.heldout)
    most = ", ".join(f"{n} {why}" for why, n in done.dropped.most_common(3)) or "none"
    raise CurationError(
        "TooFewExamples",
        f"{found} of {settings.min_examples} examples for {settings.cluster} ({done.members} calls in the log; left "
        f"out: {most}); lower spec.training.minExamples (--min-examples) or wait for more traffic",
        details={"found": found, "wanted": settings.min_examples, "dropped": dict(done.dropped)},
    )


def write(done: Dataset, log: Log, settings: Settings, out: Path) -> CurationResult:
    """Write the dataset, report.json last. Raises CurationError after it where the leak test failed."""
    (out / "report.json").unlink(missing_ok=True)
    digests = []
    for name, rows in (("train.jsonl", done.train), ("heldout.jsonl", done.heldout)):
        data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
        atomic_write(out / name, data)
        digests.append(hashlib.sha256(data).hexdigest())
    answers = {r["messages"][-1]["content"] for r in [*done.train, *done.heldout]}
    labels = done.cluster.output_format.labels
    result = CurationResult(
        dataset_digest="sha256:" + hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        train=len(done.train),
        heldout=len(done.heldout),
        conversations=len({r["conversation"] for r in [*done.train, *done.heldout]}),
        redacted=dict(sorted(done.redactor.report.counts.items())),
        leaks=done.redactor.report.leaks,
        dropped=dict(sorted(done.dropped.items())),
        output_labels=len(answers) if labels or len(answers) <= 500 else None,
    )
    atomic_write(out / "card.md", dataset_card(done, log, settings, result, digests).encode())
    atomic_write(out / "report.json", result.model_dump_json(by_alias=True, indent=1).encode() + b"\n")
    if result.leaks:
        kinds = ", ".join(f"{n} {k}" for k, n in sorted(done.redactor.report.leaked_kinds.items()))
        raise CurationError(
            "RedactionLeak",
            f"{result.leaks} values of the log are still in the dataset of {settings.cluster} ({kinds}); it is not "
            f"trained on; first records: {', '.join(done.redactor.report.leaked_records[:3])}",
        )
    return result
