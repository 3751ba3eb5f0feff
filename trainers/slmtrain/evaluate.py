"""The gate: how well a trained model answers calls it never saw, and whether that is good enough.

    python -m slmtrain.evaluate --dataset DIR --model DIR [--base PATH] --out FILE

Covered: an adapter with its base, or a whole model; greedy, batched generation on `heldout.jsonl`; label accuracy,
exact match, field F1, each with an interval; agreement with the recorded answers is what these measure, for the
recorded answers are the LLM's. A held-out call whose whole prompt also occurs in `train.jsonl` is left out and counted.
Verdict: passed when the estimate reaches the floor, and the interval's lower end lies within the margin below it.
The interval is two-sided, so the one-sided error is half of what `--confidence` leaves: on the safe side.
Not covered: exact tool calls as syntax trees, similarity of free text (`exact` judges those, harshly).

Exit 0 for both verdicts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slmtrain import stats
from slmtrain.data import Example, encode, read_examples
from slmtrain.errors import Refused, run_command
from slmtrain.files import artifact_digest, base_digest, dataset_digest, resolve_base, write_json

SCHEMA = "slmtrain/evaluation/v1"
SMALL_PARAMETERS = 20_000_000  # below it a second thread only waits for the first
BATCH_TOKENS = 8192  # prompt tokens generated for at once
LATENCY_CALLS = 24  # answered one by one, for the latency of a single caller
SECRETIVE = re.compile(r"[\w.+-]+@[\w.-]+|\d{4,}")


@dataclass(frozen=True)
class Answer:
    """One held-out call, answered."""

    example: Example
    text: str
    tokens: int


@dataclass(frozen=True)
class Gate:
    """What the verdict is judged by."""

    floor: float
    margin: float
    confidence: float


def load_model(model: Path, base: str | None) -> tuple[Any, Any, str]:
    """(model, tokenizer, base digest) of an adapter on its base, or of a whole model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = model / "adapter_config.json"
    if not adapter.is_file() and not (model / "config.json").is_file():
        raise Refused(
            "BadModel", f"{model} has neither adapter_config.json nor config.json; --model takes what train wrote"
        )
    if not adapter.is_file():
        whole = AutoModelForCausalLM.from_pretrained(model)
        return whole.eval(), AutoTokenizer.from_pretrained(model), base_digest(model)

    from peft import PeftModel

    recorded = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not (base or recorded):
        raise Refused("BadModel", f"{adapter} names no base; give --base")
    folder = resolve_base(base or recorded)
    digest = base_digest(folder)
    refuse_another_base(model, digest)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    try:
        adapted = PeftModel.from_pretrained(loaded, model)
    except (RuntimeError, ValueError) as error:
        raise Refused("WrongBase", f"{model} does not fit {folder}: {str(error).splitlines()[0]}") from error
    return adapted.merge_and_unload().eval(), AutoTokenizer.from_pretrained(folder), digest


def refuse_another_base(model: Path, digest: str) -> None:
    """An adapter on another base of the same shape loads, and answers nonsense."""
    facts = model / "slmtrain.json"
    expected = json.loads(facts.read_text(encoding="utf-8")).get("base_digest") if facts.is_file() else None
    if expected and expected != digest:
        raise Refused(
            "WrongBase", f"{model} was trained on base {expected[:19]}…, not on {digest[:19]}…; give that one as --base"
        )


def unseen(dataset: Path, limit: int | None) -> tuple[list[Example], int]:
    """The held-out examples to judge, and how many were left out because training saw the same prompt."""
    heldout = read_examples(dataset / "heldout.jsonl")
    train = dataset / "train.jsonl"
    trained = {json.dumps(example.prompt) for example in read_examples(train)} if train.is_file() else set()
    kept = [example for example in heldout if json.dumps(example.prompt) not in trained]
    return kept[:limit], len(heldout) - len(kept)


def batches_of(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in batches of neighbours in length, each of at most `tokens` with padding (one long prompt: alone)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[index] * (len(batches[-1]) + 1) <= tokens:
            batches[-1].append(index)
            continue
        batches.append([index])
    return batches


def generate(model: Any, tokenizer: Any, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
    """Greedy answers, without the end-of-text."""
    import torch

    longest = max(map(len, prompts))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    pad = eos if pad is None else pad
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            eos_token_id=eos,
        )
    answers = out[:, longest:].tolist()
    return [a[: a.index(eos)] if eos in a else a for a in answers]


def answer_all(model: Any, tokenizer: Any, examples: list[Example]) -> tuple[list[Answer], float, dict[str, float]]:
    """(answers, tokens a second in batches, latency of single calls)."""
    encoded = [encode(tokenizer, example) for example in examples]
    prompts = [list(e.ids[: e.answer_start]) for e in encoded]
    longest_answer = max(len(e.ids) - e.answer_start for e in encoded)
    context = getattr(model.config, "max_position_embeddings", 1 << 30)
    max_tokens = min(longest_answer + 8, max(1, context - max(map(len, prompts))))
    answers: dict[int, Answer] = {}
    began = spoke = time.monotonic()
    for batch in batches_of([len(p) for p in prompts], BATCH_TOKENS):
        for index, ids in zip(batch, generate(model, tokenizer, [prompts[i] for i in batch], max_tokens), strict=True):
            answers[index] = Answer(examples[index], tokenizer.decode(ids, skip_special_tokens=True), len(ids) + 1)
        now = time.monotonic()
        if now - spoke > 3:
            spoke = now
            left = (now - began) / len(answers) * (len(examples) - len(answers))
            print(f"answered {len(answers)}/{len(examples)} {now - began:.1f} s left {left:.0f} s", flush=True)
    seconds = time.monotonic() - began
    every = max(1, len(prompts) // LATENCY_CALLS)
    singles = []
    for prompt in prompts[::every][:LATENCY_CALLS]:
        start = time.monotonic()
        generate(model, tokenizer, [prompt], max_tokens)
        singles.append(time.monotonic() - start)
    latency = {"p50": round(stats.percentile(singles, 0.5), 4), "p95": round(stats.percentile(singles, 0.95), 4)}
    return [answers[i] for i in range(len(examples))], sum(a.tokens for a in answers.values()) / seconds, latency


def worst_labels(answers: list[Answer], scores: list[float]) -> list[dict[str, Any]]:
    """The ten labels with the lowest scores, the most frequent first among equals."""
    groups: dict[str, list[float]] = {}
    for answer, score in zip(answers, scores, strict=True):
        groups.setdefault(stats.label_of(answer.example.answer), []).append(score)
    rows = [{"label": label, "n": len(s), "score": round(fmean(s), 4)} for label, s in groups.items()]
    return sorted(rows, key=lambda row: (row["score"], -row["n"], row["label"]))[:10]


def redacted(text: str) -> str:
    """Enough of an answer to see what went wrong: cut, addresses and long numbers masked."""
    return SECRETIVE.sub("…", text)[:160]


def judge_answers(answers: list[Answer], metric: str, gate: Gate) -> dict[str, Any]:
    """The part of the result that follows from the answers alone."""
    recorded = [answer.example.answer for answer in answers]
    if metric == "auto":
        metric = stats.choose_metric(recorded)
    scores = [stats.score(metric, answer.text, want) for answer, want in zip(answers, recorded, strict=True)]
    conversations = [answer.example.conversation for answer in answers]
    estimate = fmean(scores) if scores else 0.0
    lower, upper = stats.interval(scores, conversations, gate.confidence, seed=0) if scores else (0.0, 1.0)
    verdict = stats.judge(estimate, lower, len(scores), gate.floor, gate.margin, gate.confidence)
    wrong = [answer for answer, score in zip(answers, scores, strict=True) if score < 1]
    return {
        "metric": metric,
        "estimate": round(estimate, 6),
        "interval": [round(lower, 6), round(upper, 6)],
        "n": len(scores),
        "conversations": len(set(conversations)),
        **vars(gate),
        "verdict": "passed" if verdict.passed else "refused",
        "reasons": list(verdict.reasons),
        "exact_share": round(fmean(a.text == a.example.answer for a in answers), 6) if answers else None,
        "valid_format_share": round(fmean(stats.well_formed(a.text, a.example.answer) for a in answers), 6)
        if answers
        else None,
        "per_label": worst_labels(answers, scores),
        "examples_of_errors": [
            {"id": a.example.id, "expected": redacted(a.example.answer), "answered": redacted(a.text)}
            for a in wrong[:5]
        ],
    }


def evaluate(
    dataset: Path, model: Path, base: str | None, metric: str, gate: Gate, limit: int | None
) -> dict[str, Any]:
    """The whole recipe; returns what the result file says."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    began = time.monotonic()
    examples, seen = unseen(dataset, limit)
    loaded, tokenizer, base_is = load_model(model, base)
    if loaded.num_parameters() < SMALL_PARAMETERS:
        torch.set_num_threads(1)
    answers, throughput, latency = answer_all(loaded, tokenizer, examples) if examples else ([], 0.0, {})
    return {
        "schema": SCHEMA,
        **judge_answers(answers, metric, gate),
        "left_out_seen_in_training": seen,
        "latency_seconds": latency,
        "tokens_per_second": round(throughput, 1),
        "seconds": round(time.monotonic() - began, 1),
        "digests": {"dataset": dataset_digest(dataset), "model": artifact_digest(model), "base": base_is},
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="slmtrain.evaluate", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder with heldout.jsonl (and train.jsonl)")
    parser.add_argument("--model", type=Path, required=True, help="an adapter's or a model's folder")
    parser.add_argument("--base", help="the adapter's base: folder or Hugging Face id; default: what the adapter names")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metric", type=str.lower, choices=("auto", *stats.METRICS), default="auto")
    parser.add_argument("--floor", type=float, default=0.9)
    parser.add_argument("--margin", type=float, default=0.03)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--limit", type=int, help="judge only the first N")
    return parser.parse_args(arguments)


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    given = parse_arguments()
    for name, low, high in (("floor", 0, 1), ("margin", 0, 1), ("confidence", 0.5, 0.9999)):
        if not low <= getattr(given, name) <= high:
            raise Refused("BadInput", f"--{name} must lie in {low} to {high}")
    gate = Gate(given.floor, given.margin, given.confidence)
    result = evaluate(given.dataset, given.model, given.base, given.metric, gate, given.limit)
    write_json(given.out, result)
    low, high = result["interval"]
    print(
        f"{result['verdict']}: {result['metric']} {result['estimate']:.4f} [{low:.4f}, {high:.4f}]"
        f" on {result['n']} calls (floor {gate.floor}, margin {gate.margin}),"
        f" {result['tokens_per_second']:.0f} tokens/s, {result['seconds']} s",
        *result["reasons"],
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    run_command("evaluate", main)
