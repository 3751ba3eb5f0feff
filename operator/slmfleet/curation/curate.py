"""S2: the dataset of one task, from the log.

Each call is examined alone (`examine`), then together with the others (`decide`); what is kept is redacted and written
with its lineage. Only the LLM's answers teach: a specialist's own never do, or it would learn its own mistakes. Of an
escalation the LLM's answer is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, overload

import orjson

from slmfleet.curation.card import dataset_card
from slmfleet.curation.decide import TRAIN, Decision, Limits, decide
from slmfleet.curation.detect import Detector
from slmfleet.curation.entities import LANGUAGES
from slmfleet.curation.examine import STAGES, Task
from slmfleet.curation.failures import CurationError
from slmfleet.curation.language import UNDETERMINED
from slmfleet.curation.members import REPEATED, Members
from slmfleet.curation.models import default_detector
from slmfleet.curation.redact import BATCH, Redactor, strings_in
from slmfleet.curation.rows import Row, answer_of, messages_of, row_of
from slmfleet.curation.sources import Log, Read, Reader
from slmfleet.curation.tenant import rules_of
from slmfleet.curation.workers import Workers, examined
from slmfleet.recognise.classifier import Classifier
from slmfleet.store.files import atomic_write
from slmfleet.wire.discovery import ClustersFile, FoundCluster
from slmfleet.wire.jobs import CurationResult, CurationStage

FOREIGN_SHARE = 0.2
VALUE_LEFT = "a value of the log left after redaction"
# Of the rows; more of them say that redaction failed.
LEFT_OUT_SHARE = 0.001
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """`languages`: ISO 639-1 codes, none for all. `max_tokens`: of prompt and answer, 0 for any. `signs`: whether signs
    in the conversation speak against an answer. `quiet_seconds`: after which a conversation is over; None: by the log's
    own pauses."""

    cluster: str
    min_examples: int = 100
    heldout_share: float = 0.2
    since: datetime | None = None
    until: datetime | None = None
    seed: int = 0
    languages: tuple[str, ...] = ()
    max_tokens: int = 16_384
    max_origin_share: float | None = None
    max_examples: int = 100_000
    signs: bool = True
    quiet_seconds: float | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.heldout_share, self.max_origin_share, self.max_examples, self.signs, self.quiet_seconds)


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


class Rows(Sequence[Row]):
    """Rows of one side as the bytes that are written, so that a large dataset fits in memory."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [json.loads(line) for line in self.lines[at]]
        row: Row = json.loads(self.lines[at])
        return row


@dataclass
class Dataset:
    """Rows ready to write, and what happened on the way. `dropped`: of the members and of what is no record, by reason;
    calls of other tasks are in `funnel` alone."""

    cluster: FoundCluster
    train: Rows = field(default_factory=Rows)
    heldout: Rows = field(default_factory=Rows)
    lineage: list[bytes] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    redactor: Redactor = field(default_factory=Redactor)
    members: int = 0
    records: int = 0
    funnel: list[CurationStage] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    conversations: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    languages: Counter[str] = field(default_factory=Counter)
    escalations: int = 0
    overlap: int = 0
    harder: bool = False
    unfinished: int = 0
    origins: int = 0
    origin_share: float | None = None
    largest_origin: float | None = None
    leaks: int = 0


def read_clusters(folder: Path) -> Clusters:
    """Read a run of `discover`; an unfinished one is refused."""
    if not (folder / "result.json").is_file() and not (folder / "clusters.json").is_file():
        raise CurationError(
            "ClustersNotFound", f"{folder} holds no clusters.json; run `slmfleet discover --out {folder}`"
        )
    try:
        file = ClustersFile.model_validate_json((folder / "clusters.json").read_bytes())
        names = {c.name: c.name for c in file.clusters}
        assigned = {}
        with (folder / "assignments.jsonl").open("rb") as lines:
            for line in lines:
                row = orjson.loads(line)
                assigned[row["id"]] = names.get(row["cluster"], row["cluster"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CurationError("ClustersNotReadable", f"{folder}: {error}; run `slmfleet discover` again") from error
    path = folder / "classifier.npz"
    try:
        return Clusters(file, assigned, Classifier.load(path, None) if path.is_file() else None)
    except ValueError as error:
        raise CurationError("ClustersNotReadable", f"{error}; run `slmfleet discover` again") from error


def curate(
    source: Log | Reader,
    clusters: Clusters,
    settings: Settings,
    say: Say = lambda line: None,
    workers: Workers | None = None,
    detector: Detector | None = None,
) -> Dataset:
    """Make the dataset of one cluster. `source` is read once; `workers`: examine on Ray instead of here; `detector`:
    what redaction finds values with; labels and tools' names stay."""
    cluster = clusters.named(settings.cluster)
    finds = replace(detector or default_detector(), keep=_vocabulary(cluster))
    done = Dataset(cluster, redactor=Redactor(settings.seed, finds))
    task = Task(
        done.cluster, clusters.assigned, clusters.classifier, settings.since, settings.until,
        frozenset(settings.languages), settings.max_tokens,
    )  # fmt: skip
    log = source.log if isinstance(source, Reader) else source
    with Members() as members:
        for number, call in enumerate(examined(_reads(source), task, workers), 1):
            if not members.add(call):
                (source.refuse if isinstance(source, Reader) else log.refuse)(REPEATED[1], call.where)
            if number % 100_000 == 0:
                say(f"{number} records read")
        for reason, count in sorted(log.set_aside.items()):
            say(f"set aside {count}: {reason} (first: {log.examples.get(reason, '')})")
        for line in log.said_of_ignored():
            say(line)
        done.members, done.records = len(members) - members.refused.count(REPEATED), members.records
        say(f"{done.members} of {done.records} records are {settings.cluster}")
        decision = decide(members, settings.limits)
        if decision.sides:
            say(f"{len(decision.sides)} calls kept; redacting")
        _account(done, log, members, decision)
        if done.origin_share is not None and done.origin_share > (settings.max_origin_share or 1):
            say(f"--max-origin-share {settings.max_origin_share} cannot hold here: {done.origin_share:.4f} is kept to")
        _redact(members, decision, done)
    if settings.languages and (untold := done.languages[UNDETERMINED]):
        say(f"{untold} of {done.languages.total()} rows are too short to tell their language, and stay")
    foreign = done.languages.total() - sum(done.languages[code] for code in (*LANGUAGES, UNDETERMINED))
    if foreign > FOREIGN_SHARE * done.languages.total() and finds.model is default_detector().model:
        say(
            f"{foreign} of {done.languages.total()} rows are in languages that the default model of redaction was not "
            "made for: it takes ordinary words of theirs for names; look at the rows, or name a --model"
        )
    if len(done.train) + len(done.heldout) < settings.min_examples and not done.leaks:
        if not done.records and isinstance(source, Reader):
            _no_call(source, settings)
        _too_few(done, settings)
    return done


def _vocabulary(cluster: FoundCluster) -> frozenset[str]:
    """The application's own words, which are no personal data: the labels it answers with, the names of its tools."""
    words = [*(cluster.output_format.labels or ()), *(cluster.signature.tools or ())]
    return frozenset(str(w).casefold() for w in words)


def _reads(source: Log | Reader) -> Iterator[Read]:
    if isinstance(source, Reader):
        yield from source
        return
    for record in source.records:
        yield Read(record, "records", source.places.get(record.id, ""))


def _account(done: Dataset, log: Log, members: Members, decision: Decision) -> None:
    """What left at which stage; the stages' counts add up from the elements read to the rows."""
    by_stage: dict[str, Counter[str]] = {name: Counter() for name in STAGES}
    for why in members.refused:
        if why is not None and why != REPEATED:
            by_stage[why[0]][why[1]] += 1
    left = done.records + log.joined + sum(log.set_aside.values())
    aside = Counter(log.set_aside) + Counter({"another part of a call": log.joined})
    first = {"read": aside, "task": Counter({"another task": members.others}) if members.others else Counter[str]()}
    for name, dropped in {**first, **by_stage}.items():
        kept = left - sum(dropped.values())
        done.funnel.append(CurationStage(name=name, read=left, dropped=dict(sorted(dropped.items())), kept=kept))
        left = kept
    for reason, count in log.set_aside.items():
        done.dropped[f"set aside: {reason}"] += count
    for dropped in by_stage.values():
        done.dropped.update(dropped)
    done.answered, done.models = members.answered, members.models
    done.overlap, done.harder, done.unfinished = decision.overlap, decision.harder, decision.unfinished
    done.origins, done.origin_share = decision.origins, decision.origin_share
    done.largest_origin = decision.largest_origin


def _redact(members: Members, decision: Decision, done: Dataset) -> None:
    """Redact what is written; learn from every member, so that what a dropped call says of a person is known too.

    A row that the leak test finds a value in is left out."""
    redactor = done.redactor
    calls = members.calls()
    while block := list(islice(calls, BATCH)):
        said = [(call, list(strings_in([*messages_of(call), answer_of(call)]))) for call in block]
        redactor.prepare(text for _, texts in said for text in texts)
        for call, texts in said:
            for text in texts:
                redactor.learn(call.conversation, text)
    for place, side in decision.sides.items():
        call = members.call(place)
        how = members.repaired.get(place)
        change: Callable[[str], str] = lambda text, c=call.conversation: redactor.redact(c, text)  # type: ignore[misc] # noqa: E731
        row = row_of(call, _mended(call, done.cluster) if how else None, change)
        if redactor.check(call.id, strings_in([row["messages"], row.get("tools")])):
            continue
        (done.train if side == TRAIN else done.heldout).lines.append(_line(row))
        done.lineage.append(_line(_lineage(members, place, side, decision.copies.get(place, []))))
        done.conversations.add(row["conversation"])
        done.languages[row.get("language", UNDETERMINED)] += 1
        if len(done.answers) <= 500:
            done.answers.add(row["messages"][-1]["content"])
        if how:
            done.repaired[how] += 1
        done.escalations += place in members.escalated
    _leave_out(done, len(decision.sides))


def _leave_out(done: Dataset, rows: int) -> None:
    """Count the rows that the leak test took. A few cost themselves; more say that redaction failed: no dataset."""
    found = done.redactor.report
    left = {VALUE_LEFT: len(found.leaked_records)} if found.leaked_records else {}
    done.funnel.append(CurationStage(name="redaction", read=rows, dropped=left, kept=rows - sum(left.values())))
    done.dropped.update(left)
    done.leaks = found.leaks if sum(left.values()) > max(1, LEFT_OUT_SHARE * rows) else 0


def _mended(call: Any, cluster: FoundCluster) -> str | None:
    from slmfleet.curation.examine import mend

    return mend(call, cluster.output_format)[0]


def _lineage(members: Members, place: int, side: str, copies: Sequence[int]) -> Row:
    """Which records of the log a row stands for, and where the first of them is."""
    kind, where = members.source(place)
    row: Row = {"id": members.ids[place], "split": side, "records": [members.ids[i] for i in (place, *copies)]}
    row |= {"source": kind, "where": where}
    if place in members.repaired:
        row["repaired"] = members.repaired[place]
    if place in members.escalated:
        row["escalated_from"] = members.escalated[place]
    return row


def _line(row: Row) -> bytes:
    try:
        return orjson.dumps(row) + b"\n"
    except TypeError:  # half a surrogate pair, which JSON can hold and UTF-8 cannot
        return json.dumps(row).encode() + b"\n"


def _no_call(source: Reader, settings: Settings) -> None:
    found = f"{source.log.read} lines, none of them a call" if source.log.read else "nothing to read"
    raise CurationError(
        "TooFewExamples",
        f"0 of {settings.min_examples} examples for {settings.cluster}: {source.path} holds {found}; name the log with "
        "--records, and what wrote it with --source",
        details={"found": 0, "wanted": settings.min_examples, "dropped": dict(source.log.set_aside)},
    )


def _too_few(done: Dataset, settings: Settings) -> None:
    found = len(done.train) + len(done.heldout)
    most = ", ".join(f"{n} {why}" for why, n in done.dropped.most_common(3)) or "none"
    raise CurationError(
        "TooFewExamples",
        f"{found} of {settings.min_examples} examples for {settings.cluster} ({done.members} calls in the log; left "
        f"out: {most}); lower spec.dataset.minimumExamples (--min-examples) or wait for more traffic",
        details={"found": found, "wanted": settings.min_examples, "dropped": dict(done.dropped)},
    )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def digest_of(train: str, heldout: str) -> str:
    """A dataset's name, from the hexadecimal SHA-256 of each side. Training, evaluation and every revision carry it:
    `slmtrain.files.dataset_digest` makes the same of the files."""
    return "sha256:" + hashlib.sha256(f"{train}\n{heldout}".encode()).hexdigest()


def write(done: Dataset, log: Log, settings: Settings, out: Path) -> CurationResult:
    """Write the dataset, report.json last. Raises CurationError after it where the leak test failed: then no rows lie
    there, not even those of an earlier run."""
    (out / "report.json").unlink(missing_ok=True)
    digests = []
    for name, lines in (
        ("train.jsonl", done.train.lines), ("heldout.jsonl", done.heldout.lines), ("lineage.jsonl", done.lineage)
    ):  # fmt: skip
        data = b"".join(lines)
        if done.leaks and lines is not done.lineage:
            (out / name).unlink(missing_ok=True)
        else:
            atomic_write(out / name, data)
        digests.append(hashlib.sha256(data).hexdigest())
    worth = done.cluster.suitability
    result = CurationResult(
        dataset_digest=digest_of(*digests[:2]),
        train=len(done.train),
        heldout=len(done.heldout),
        conversations=len(done.conversations),
        redacted=dict(sorted(done.redactor.report.counts.items())),
        redaction=rules_of(done.redactor.detector),
        leaks=done.leaks,
        dropped=dict(sorted(done.dropped.items())),
        output_labels=len(done.answers) if done.cluster.output_format.labels or len(done.answers) <= 500 else None,
        funnel=done.funnel,
        repaired=dict(sorted(done.repaired.items())),
        answered=dict(sorted(done.answered.items())),
        escalations=done.escalations,
        overlap=done.overlap,
        unfinished=done.unfinished,
        heldout_harder=done.harder,
        origins=done.origins,
        origin_share=_rounded(done.origin_share),
        largest_origin_share=_rounded(done.largest_origin),
        llm_agreement=worth.agreement if worth else None,
        llm_agreement_pairs=worth.agreement_pairs if worth else 0,
        lineage_digest=f"sha256:{digests[2]}",
    )
    atomic_write(out / "card.md", dataset_card(done, log, settings, result, digests).encode())
    atomic_write(out / "report.json", result.model_dump_json(by_alias=True, indent=1).encode() + b"\n")
    if result.leaks:
        kinds = ", ".join(f"{n} {k}" for k, n in sorted(done.redactor.report.leaked_kinds.items()))
        raise CurationError(
            "RedactionLeak",
            f"redaction left {result.leaks} values of the log ({kinds}) in {result.dropped[VALUE_LEFT]} rows of "
            f"{settings.cluster}, more than {LEFT_OUT_SHARE:.1%} of them; these are left out, and the others are not "
            f"trained on; first records: {', '.join(done.redactor.report.leaked_records[:3])}",
        )
    return result
