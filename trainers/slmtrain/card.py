"""The model card: what it was made of, how the training went, and what it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slmtrain.curve import svg
from slmtrain.job import METHODS

CARD, CURVE = "README.md", "curve.svg"
KINDS = {
    "full": "A fully fine-tuned model, made from",
    "dora": "A DoRA, merged and written as a whole model (it cannot ride in a pool's mixed batch), made from",
    "distill": "A LoRA adapter, distilled on",
}
EXTRACTED = {
    "full": "A LoRA adapter, extracted from full fine-tuning of the linear layers of",
    "dora": "A LoRA adapter, extracted from a DoRA on",
}
LEFT_OUT = {
    "full": "Embeddings, head, norms and biases were not trained: an adapter cannot hold them.",
    "dora": "A DoRA trains linear layers only, so an adapter has a place for all of it.",
}
LOW_SHARE = 0.8  # what keeps less of what was trained is told of; see benchmarks/training/extraction.md


def write_card(folder: Path, base: Path, inputs: dict[str, Any], report: dict[str, Any], writes: str) -> None:
    """README.md and curve.svg into the artifact's folder."""
    picture = svg(report["losses"], report["measured"], report["best_step"])
    (folder / CURVE).write_text(picture, encoding="utf-8")
    (folder / CARD).write_text(model_card(base, inputs, report, writes), encoding="utf-8")


def model_card(base: Path, inputs: dict[str, Any], report: dict[str, Any], writes: str) -> str:
    card = base / CARD
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    licence = next((line for line in lines if line.startswith("license:")), "license: unknown")
    kinds = EXTRACTED if report.get("extraction") else KINDS
    kind = kinds.get(inputs["method"], f"A {METHODS[inputs['method']]} adapter on")
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts(inputs, report))
    return f"""---
base_model: {base.name}
{licence}
library_name: {"peft" if writes == "adapter" else "transformers"}
tags: [slmfleet, specialist]
---
# A specialist

{kind} `{base.name}` ({inputs["base_digest"]}).

| | |
|---|---|
{rows}

![Loss by step]({CURVE})
{extracted(inputs["method"], report.get("extraction"))}
Trained on recorded answers of another model; it inherits their errors. Judge it with `slmtrain.evaluate` before use.
"""


def extracted(method: str, kept: dict[str, Any] | None) -> str:
    """What an extracted adapter is, and what it is not; nothing for others."""
    if kept is None:
        return ""
    low = f"\n**{warning(kept)}**\n" if kept["kept_share"] < LOW_SHARE else ""
    return f"""
The change of each of {kept["layers"]} layers was cut to rank {kept["rank"]}, which keeps {kept["kept_share"]:.1%} of it
by its squared Frobenius norm (least in `{kept["least_kept_layer"]}`: {kept["least_kept_share"]:.1%}). The losses above
are those before the cut. {LEFT_OUT[method]}
{low}"""


def warning(kept: dict[str, Any]) -> str:
    return (
        f"the adapter keeps only {kept['kept_share']:.0%} of what was trained: judge it by its own scores, raise the "
        "rank, or train a LoRA"
    )


def facts(inputs: dict[str, Any], report: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of the card's table."""
    rows = [
        ("method", METHODS[inputs["method"]]),
        ("dataset", inputs["dataset_digest"]),
        ("examples", f"{report['examples']} ({report['left_out']} longer than the context were left out)"),
        ("precision", report["precision"]),
        ("steps", str(report["steps"])),
        ("loss on the answers, last", f"{report['loss']:.4f}"),
    ]
    if inputs["method"] == "distill":
        rows.append(("rows whose answers do not agree, left out", str(report["no_majority"])))
    if "teacher_digest" in inputs:
        rows.append(("teacher, by its logits", inputs["teacher_digest"]))
    if report["measured"]:
        best = dict(map(tuple, report["measured"]))[report["best_step"]]
        kept = f"{best:.4f} at step {report['best_step']}, whose weights these are"
        rows.append((f"loss on {report['validation_examples']} examples kept from training, best", kept))
    return [*rows, ("seed", str(inputs["seed"])), ("settings", f"`{json.dumps(inputs['config'])}`")]
