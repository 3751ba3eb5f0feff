"""The gate: how well a trained model answers calls it never saw, and whether that is good enough.

    python -m slmtrain.evaluate --dataset DIR --model DIR [--base PATH] --out FILE

Covered: an adapter with its base, or a whole model; greedy answers to `heldout.jsonl`, in this process or by a server
(`--url`); metrics made for the task (`metrics`), chosen by the form of the recorded answers or named by `--metric`,
each with an interval by conversation; a verdict as a chain of checks (`gate`), all in the result, worst first. What is
measured is agreement with the recorded answers, for those are the LLM's. A held-out call whose whole prompt also occurs
in `train.jsonl` is left out and counted. Intervals are two-sided, so the one-sided error is half of what `--confidence`
leaves: on the safe side.

Exit 0 for both verdicts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from slmtrain import asking, gate, judge, memorised, metrics
from slmtrain.answering import SMALL_PARAMETERS, Run, Say, answer_all, exposures, folders_of, load_model
from slmtrain.asking import Endpoint
from slmtrain.data import Example
from slmtrain.errors import OneLine, Refused, run_command
from slmtrain.facts import Exposure, Facts, Gate, Memory, Reports
from slmtrain.files import artifact_digest, base_digest, dataset_digest, write_json
from slmtrain.heldout import Question, Secrets, read_questions, read_reports, read_secrets, unseen
from slmtrain.judge import Answered
from slmtrain.places import DATASET, Place, clash

SCHEMA = "slmtrain/evaluation/v1"
SHARES = ("floor", "margin", "slice_floor", "valid_floor")


def evaluate(
    dataset: Path,
    model: Path,
    base: str | None,
    metric: str,
    asked: Gate,
    limit: int | None,
    endpoint: Endpoint | None = None,
    to: TextIO = sys.stdout,
) -> dict[str, Any]:
    """The whole recipe; returns what the result file says. `metric`: auto, or names with commas between."""
    began = time.monotonic()
    everything = read_questions(dataset / "heldout.jsonl")
    path = dataset / "train.jsonl"
    trained = read_questions(path) if path.is_file() else []
    kept = unseen(everything, trained)
    questions, secrets = kept[:limit], read_secrets(dataset)
    examples, say = [question.example for question in questions], progress(to)
    if endpoint is None:
        run, exposed, base_is = answer_here(model, base, examples, secrets, asked.confidence, say)
    else:
        run, exposed, base_is = answer_there(endpoint, model, base, examples, secrets, say)
    answers = [Answered(question, text) for question, text in zip(questions, run.texts, strict=True)]
    names = metric.split(",")
    memory = memory_of(answers, trained, secrets, exposed)
    facts = facts_of(names, answers, [*everything, *trained], read_reports(dataset), memory, run, asked)
    return {
        **result_of(names, answers, facts, asked),
        "left_out_seen_in_training": len(everything) - len(kept),
        "latency_seconds": run.latency_seconds,
        "memory_mib": run.memory_mib,
        "measured_on": run.measured_on,
        "tokens_per_second": round(run.tokens_per_second, 1),
        "seconds": round(time.monotonic() - began, 1),
        "digests": {"dataset": dataset_digest(dataset), "model": artifact_digest(model), "base": base_is},
    }


def answer_here(
    model: Path, base: str | None, examples: Sequence[Example], secrets: Secrets, confidence: float, say: Say
) -> tuple[Run, list[Exposure], str]:
    """(answers and what they took, exposure of planted secrets, the base's digest), of a model in this process."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    loaded, tokenizer, base_is = load_model(model, base)
    if loaded.num_parameters() < SMALL_PARAMETERS:
        torch.set_num_threads(1)
    run = answer_all(loaded, tokenizer, examples, say) if examples else nothing()
    count = memorised.needed(len(secrets.planted), confidence)
    return run, exposures(loaded, tokenizer, secrets.planted, count), base_is


def answer_there(
    endpoint: Endpoint, model: Path, base: str | None, examples: Sequence[Example], secrets: Secrets, say: Say
) -> tuple[Run, list[Exposure], str]:
    """The same of a model that a server holds."""
    served = asking.Served(endpoint, model, base)
    run = asking.answer_all(served, examples, say) if examples else nothing()
    return run, asking.exposures(served, secrets.planted), base_digest(folders_of(model, base)[0])


def nothing() -> Run:
    return Run((), 0.0, {}, None, "nothing")


def progress(to: TextIO) -> Say:
    """A line every three seconds."""
    spoke = time.monotonic()

    def say(done: int, of: int, seconds: float) -> None:
        nonlocal spoke
        if time.monotonic() - spoke > 3:
            spoke = time.monotonic()
            left = seconds / done * (of - done)
            print(f"answered {done}/{of} {seconds:.1f} s left {left:.0f} s", file=to, flush=True)

    return say


def facts_of(
    names: Sequence[str],
    answers: Sequence[Answered],
    recorded: Sequence[Question],
    reports: Reports,
    memory: Memory,
    run: Run,
    asked: Gate,
) -> Facts:
    """What the checks judge by. `recorded`: all of the dataset, for the LLM's agreement with itself."""
    if not answers:
        return Facts(reports=reports, memory=memory, measured_on=run.measured_on)
    judged = [judge.figure(name, answers, asked.confidence) for name in judged_metrics(names, answers)]
    first = gate.worst_figure(judged).metric
    compared = judge.figure("label" if first == "macro_f1" else first, answers, asked.confidence)  # a mean of calls
    baseline, like = judge.baseline(compared.metric, recorded, asked.confidence)
    if like < gate.SMALLEST_BASELINE and (
        counted := judge.reported_baseline(compared.metric, reports, asked.confidence)
    ):
        baseline, like = counted, counted.groups
    return Facts(
        judged=judged,
        valid=judge.valid_figure(first, answers, recorded, asked.confidence),
        baseline=baseline,
        compared=compared,
        baseline_groups=like,
        slices=judge.slices(first, answers, asked.confidence),
        reports=reports,
        memory=memory,
        latency_p95=run.latency_seconds["p95"],
        memory_mib=run.memory_mib,
        measured_on=run.measured_on,
    )


def judged_metrics(names: Sequence[str], answers: Sequence[Answered]) -> list[str]:
    """The metrics that must reach the floor: those asked for, or the one that fits the recorded answers."""
    if list(names) != ["auto"]:
        return list(dict.fromkeys(names))
    return [metrics.choose([a.question.reference for a in answers])]


def memory_of(
    answers: Sequence[Answered], trained: Sequence[Question], secrets: Secrets, exposed: Sequence[Exposure]
) -> Memory:
    """What the answers give away."""
    rare = memorised.rare_values(question.example for question in trained)
    return Memory(
        planted=tuple(exposed),
        listed_values=len(secrets.digests),
        listed_found=sum(memorised.holds_listed(a.text, secrets.key, secrets.digests) for a in answers),
        copied_values=sum(memorised.gives_away(a.text, a.question.example, rare) for a in answers),
        searched_answers=len(answers),
    )


def result_of(names: Sequence[str], answers: Sequence[Answered], facts: Facts, asked: Gate) -> dict[str, Any]:
    """The part of the result that follows from answers and facts alone."""
    checks = gate.run(facts, asked)
    first = gate.worst_figure(facts.judged) if facts.judged else None
    named = first.metric if first else ",".join(names)
    judged = {figure.metric for figure in facts.judged}
    beside = [m for m in metrics.SHOWN.get(named, ()) if m not in judged] if answers else []
    figures = [*facts.judged, *(judge.figure(m, answers, asked.confidence) for m in beside)]
    figures.sort(key=lambda f: (f.metric not in judged, f.estimate))
    exact = sum(a.text == a.question.reference.text for a in answers)
    return {
        "schema": SCHEMA,
        "metric": named,
        "estimate": first.estimate if first else 0.0,
        "interval": list(first.interval) if first else [0.0, 1.0],
        "n": len(answers),
        "conversations": len({a.conversation for a in answers}),
        "floor": asked.floor,
        "margin": asked.margin,
        "confidence": asked.confidence,
        "verdict": "passed" if gate.passed(checks) else "refused",
        "reasons": [check.message for check in checks if check.required and not check.passed],
        "checks": [{k: v for k, v in asdict(check).items() if k != "slack"} for check in checks],
        "metrics": [
            {
                "name": f.metric,
                "estimate": f.estimate,
                "interval": list(f.interval),
                "n": f.n,
                "judged": f.metric in judged,
            }
            for f in figures
        ],
        "exact_share": round(exact / len(answers), 6) if answers else None,
        "valid_format_share": facts.valid.estimate if facts.valid else None,
        "llm_self_agreement": asdict(facts.baseline) if facts.baseline else None,
        "slices": [asdict(s) for s in sorted(facts.slices, key=lambda s: (s.estimate, s.kind, s.name))[:50]],
        "per_label": judge.worst_labels(named, answers) if answers else [],
        "examples_of_errors": judge.errors(named, answers) if answers else [],
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLine(prog="slmtrain.evaluate", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--dataset", type=Path, required=True, help="folder with heldout.jsonl (and train.jsonl, report.json, card.md)")
    add("--model", type=Path, required=True, help="an adapter's or a model's folder")
    add("--base", help="the adapter's base: folder or Hugging Face id; default: what the adapter names")
    add("--out", type=Path, required=True, help="where the result goes, JSON")
    add(
        "--metric",
        type=metric_names,
        default="auto",
        metavar="NAME,…",
        help=f"auto, or one or more of {', '.join(metrics.METRICS)}; each must reach the floor",
    )
    add("--floor", type=float, default=0.9, help="least score (0.9)")
    add("--margin", type=float, default=0.03, help="how far below it the interval may reach (0.03)")
    add("--confidence", type=float, default=0.95, help="of the intervals (0.95)")
    add("--slice-floor", type=float, help="least score of a label, length or language; default: the floor less 0.2")
    add("--valid-floor", type=float, help="least share of answers in a valid form; default: the floor")
    add("--max-latency", type=float, metavar="SECONDS", help="most, at the 95th percentile of single calls")
    add("--max-memory", type=float, metavar="MIB", help="most memory while it answers")
    add("--require-reports", action="store_true", help="refuse a dataset without redaction and licence reports")
    add(
        "--require-non-inferiority",
        action="store_true",
        help="refuse what agrees with the LLM less, by the margin, than the LLM with itself, where that is known",
    )
    add("--url", help="ask this server instead of loading the model: Triton's …/generate, or OpenAI's …/v1")
    add("--served", help="the adapter's or model's name on that server")
    add("--metrics", help="where that server shows its metrics, for its memory: http://HOST:8002/metrics")
    add("--limit", type=int, help="judge only the first N")
    add("--json", action="store_true", help="print the result")
    given = parser.parse_args(arguments)
    read = [Place("--dataset", given.dataset, DATASET), Place("--model", given.model, (), whole=True)]
    base = Place("--base", Path(given.base) if given.base else None)
    if told := clash([*read, base], [Place("--out", given.out)]):
        parser.error(told)
    return given


def metric_names(text: str) -> str:
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in metrics.METRICS]
    if names != ["auto"] and unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of auto, {', '.join(metrics.METRICS)}")
    return ",".join(names)


def gate_of(given: argparse.Namespace) -> Gate:
    """The gate that the command line asks for. Raises Refused with the option's name."""
    for name in (*SHARES, "confidence"):
        low, high = (0.5, 0.9999) if name == "confidence" else (0.0, 1.0)
        value = getattr(given, name)
        if value is not None and not low <= value <= high:
            raise Refused("BadInput", f"--{name.replace('_', '-')} must lie in {low:g} to {high:g}")
    for name in ("max_latency", "max_memory", "limit"):
        value = getattr(given, name)
        if value is not None and not value > 0:
            raise Refused("BadInput", f"--{name.replace('_', '-')} must be above 0")
    return Gate(
        given.floor,
        given.margin,
        given.confidence,
        given.slice_floor,
        given.valid_floor,
        given.max_latency,
        given.max_memory,
        given.require_reports,
        given.require_non_inferiority,
    )


def summary(result: dict[str, Any]) -> str:
    """The verdict and every check, for a person."""
    low, high = result["interval"]
    lines = [
        f"{result['verdict']}: {result['metric']} {result['estimate']:.4f} [{low:.4f}, {high:.4f}] on "
        f"{result['n']} calls of {result['conversations']} conversations (floor {result['floor']:g}, margin "
        f"{result['margin']:g}), {result['tokens_per_second']:.0f} tokens/s, {result['seconds']} s"
    ]
    for check in result["checks"]:
        mark = "ok    " if check["passed"] else "REFUSE" if check["required"] else "note  "
        lines.append(f"  {mark} {check['name']} {check['reason']}: {check['message']}")
    return "\n".join(lines)


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.simplefilter("ignore", FutureWarning)  # what libraries say to each other
    given = parse_arguments()
    asked = gate_of(given)
    endpoint = Endpoint(given.url, given.served, given.metrics) if given.url else None
    if given.out.is_dir():
        raise Refused("BadInput", f"--out {given.out} is a folder; name a file")
    to = sys.stderr if given.json else sys.stdout
    result = evaluate(given.dataset, given.model, given.base, given.metric, asked, given.limit, endpoint, to)
    write_json(given.out, result)
    print(json.dumps(result, ensure_ascii=False) if given.json else summary(result), flush=True)


if __name__ == "__main__":
    run_command("evaluate", main)
