"""Held-out loss and exact answers of every model that the benchmark trained, by one code. Prints a JSON object.

python judge.py --dataset DIR --base PATH MODEL...
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def judged(dataset: Path, base: Path, folder: Path) -> dict[str, Any]:
    """Loss a token of the answers; each answer right or not, in the order of the held-out side."""
    import torch

    from slmtrain import data
    from slmtrain.answering import answer_all, load_model
    from slmtrain.job import Config
    from slmtrain.steps import AnswerLoss, Layout, measured_loss

    examples = data.read_examples(dataset / "heldout.jsonl")
    model, tokenizer, _ = load_model(folder, str(base))
    encoded = [data.encode(tokenizer, example) for example in examples]
    loss = measured_loss(AnswerLoss(model, Config()), encoded, 32, Layout(tokenizer.pad_token_id), 0, 1)
    with torch.inference_mode():
        texts = answer_all(model.eval(), tokenizer, examples, lambda done, of, seconds: None).texts
    right = [int(text == example.answer) for text, example in zip(texts, examples, strict=True)]
    return {"loss": loss, "right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(json.dumps({str(folder): judged(options.dataset, options.base, folder) for folder in options.models}))


if __name__ == "__main__":
    main()
