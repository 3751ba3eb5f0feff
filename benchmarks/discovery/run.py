"""Discovery and routing on mixed traffic in four settings: own prompts, one shared prompt, none, reworded per call.

    python benchmarks/discovery/run.py [--part report] [--out benchmarks/discovery/results.md]

Two narrow tasks (SNIPS, BANKING77; answers 2 % and 8 % wrong) among MetaGPT's and a coding agent's broad calls. Nothing
is told to discovery. `--part tune` is the half of the data that thresholds were chosen on; figures are from `report`,
which earlier runs have looked at too (the page that --out writes says what for). Never-seen kinds of traffic are sent
bare, and again under the tasks' own system prompts, where only the text can tell. Sources and licences: the README
beside the data.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "operator")]

import traffic  # noqa: E402

from slmfleet.curation import discover as stage  # noqa: E402
from slmfleet.curation.report import score, upper_limit  # noqa: E402
from slmfleet.curation.sources import Log  # noqa: E402
from slmfleet.recognise import Classifier  # noqa: E402
from slmfleet.wire.records import UsageRecord  # noqa: E402

KINDS = ("dstc", "tau", "bfcl", "gsm8k", "pii")


def main() -> None:
    options = _options()
    data = traffic.data_dir()
    if data is None:
        sys.exit("benchmarks/discovery: no shared data; set SLMFLEET_DATA")
    rows, kinds = [], []
    for setting in traffic.SETTINGS:
        tasks = {"snips": options.calls, "banking": options.calls}
        for style in ("json", "bare") if options.bare else ("json",):
            row, unseen = _one(data, setting, tasks, options, style)
            rows.append(row)
            kinds.append(unseen)
            print(row, flush=True)
            print(unseen, flush=True)
    text = _table(rows) + "\n" + _table(kinds)
    print(text)
    if options.out:
        options.out.write_text(_page(text, options), "utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("tune", "report"), default="report")
    parser.add_argument("--calls", type=int, default=2500, help="calls of each narrow task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="also with bare labels as answers")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _one(
    data: Path, setting: str, tasks: dict[str, int], options: argparse.Namespace, style: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = (lambda task, label: label) if style == "bare" else (lambda task, label: json.dumps({"intent": label}))
    made = traffic.build(data, setting, tasks, seed=options.seed, part=options.part, answer=answer)
    log = Log(records=[UsageRecord.model_validate(r) for r in made.records], digest="sha256:benchmark")
    start = time.process_time()
    found = stage.discover(log, stage.Settings(seed=0))
    seconds = time.process_time() - start
    s = score(made.truth, found.assigned)
    row: dict[str, Any] = {
        "setting": f"{setting} {style}",
        "records": len(log.records),
        "tasks sent": s.tasks_sent,
        "found": s.tasks_found,
        "clusters": s.clusters,
        "purity": f"{s.purity:.4f}",
        "splits": "/".join(str(n) for n in s.splits.values()),
        "missed": f"{s.missed:.2%}",
        f"broad taken (n={s.foreign_calls})": f"{s.foreign:.2%}",
        "CPU seconds": f"{seconds:.0f}",
    }
    kinds: dict[str, Any] = {"setting": f"{setting} {style}"}
    if found.trained is None:
        return row, kinds
    measured = found.trained.measured
    kinds["held-out foreign"] = _rate(round(measured.foreign_rate * measured.foreign_calls), measured.foreign_calls)
    classifier = found.trained.classifier
    kinds |= _fresh(data, classifier, setting, tasks, options, s.owner)
    for kind in KINDS:
        texts = traffic.take(traffic.unseen(data, kind), 600, options.seed)
        kinds[f"never seen: {kind}"] = _taken(classifier, texts, ())
        if setting != "none":
            prompts = [m["content"] for t in tasks for m in traffic.messages_of(t, "", setting, random.Random(1))[:-1]]
            kinds[f"{kind}, task's prompt"] = _taken(classifier, texts, prompts)
    row["microseconds a call"] = f"{_speed(classifier):.0f}"
    return row, kinds


def _fresh(
    data: Path,
    classifier: Classifier,
    setting: str,
    tasks: dict[str, int],
    options: argparse.Namespace,
    owner: dict[str, str],
) -> dict[str, str]:
    """Utterances of the tasks that are not in the log: as sent, and without or with an unknown prompt."""
    rng = random.Random(options.seed)
    others = {"own": ("reworded", "none"), "shared": ("reworded", "none"), "none": ("own",), "reworded": ("none",)}
    shown: dict[str, str] = {}
    for task in tasks:
        rest = traffic.utterances(data, task, options.part)
        random.Random(f"{options.seed}-{setting}-{options.part}").shuffle(rest)
        texts = [t for t, _ in rest[tasks[task] :]][:600]
        if not texts:
            continue
        for name, sent in (("as sent", setting), *((f"prompt: {other}", other) for other in others[setting])):
            labels = [classifier.classify({"messages": traffic.messages_of(task, t, sent, rng)}).label for t in texts]
            lost = sum(x is None for x in labels)
            wrong = sum(x is not None and x != owner.get(task) for x in labels)
            shown[f"{task} missed, {name}"] = f"{lost / len(texts):.1%} (+{wrong} wrong; n={len(texts)})"
    return shown


def _taken(classifier: Classifier, texts: list[str], prompts: Sequence[str]) -> str:
    """Share of foreign texts that a specialist would get, bare or under one prompt after the other."""
    hits = 0
    for number, text in enumerate(texts):
        system = [{"role": "system", "content": prompts[number % len(prompts)]}] if prompts else []
        said = classifier.classify({"messages": [*system, {"role": "user", "content": text}]})
        hits += said.label is not None
    return _rate(hits, len(texts))


def _rate(hits: int, trials: int) -> str:
    return f"{hits / max(1, trials):.1%} (≤ {upper_limit(hits, trials):.1%}; n={trials})"


def _speed(classifier: Classifier) -> float:
    text = ("I would like to know why the payment that I made yesterday is still pending, please. " * 6)[:500]
    body = {"messages": [{"role": "system", "content": traffic.SHARED}, {"role": "user", "content": text}]}
    best = 1e9
    for _ in range(20):
        start = time.process_time()
        for _ in range(100):
            classifier.classify(body)
        best = min(best, (time.process_time() - start) / 100)
    return best * 1e6


def _table(rows: list[dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(k for r in rows for k in r))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(str(r.get(k, "")) for k in keys) + " |" for r in rows]
    return "\n".join(lines) + "\n"


def _page(text: str, options: argparse.Namespace) -> str:
    return (
        f"# Discovery on mixed traffic\n\nPart `{options.part}`, seed {options.seed}, {options.calls} calls a task; "
        "limits are one-sided 95 % Clopper-Pearson.\nThe classifier is judged alone: exact frames, which the gateway "
        "looks up first, are not used.\nThe never-seen kinds were looked at while the classifier was designed (never "
        "trained on), so take them as examples and not as a bound.\nPrompt: the same kind of utterances with the "
        "system prompt of another setting, which is\nanother instruction and so is to be missed, or a rewording, where "
        "missing is the safe side.\nThresholds were chosen on the other half of the data (`tune`). This half "
        "was not left alone: earlier runs on it (seeds 1, 2, 5)\nshowed two faults that were then mended (long prompts "
        "answered with a label; two of three tasks merged), so its discovery\nfigures are a regression check, not an "
        f"untouched test.\n\n{text}"
    )


if __name__ == "__main__":
    main()
