"""One training by trl's SFTTrainer with peft on the same data, base, steps and rates. Prints one JSON object.

    python peer.py --dataset DIR --base PATH --out DIR --seed 1 --config JSON

It is given what helps it here: examples of like length in a batch, no gradient checkpointing, float32, no reports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def rows(path: Path) -> list[dict[str, Any]]:
    """trl's conversational prompt and completion: its loss is then on the completion only."""
    lines = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    return [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in lines]


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Tokens, CPU and wall seconds of the steps alone, and the process's peak memory."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    config = json.loads(options.config)
    model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    trainer = SFTTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(options.base),
        train_dataset=Dataset.from_list(rows(Path(options.dataset) / "train.jsonl")),
        peft_config=LoraConfig(
            r=config["rank"], lora_alpha=config["alpha"], lora_dropout=config["dropout"], target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        args=SFTConfig(
            output_dir=f"{options.out}.work", max_steps=config["max_steps"], seed=options.seed,
            per_device_train_batch_size=config["batch_size"], learning_rate=config["learning_rate"],
            lr_scheduler_type="linear", warmup_steps=max(1, round(config["max_steps"] * 0.05)), adam_beta2=0.99,
            weight_decay=0.0, max_grad_norm=1.0, max_length=512, gradient_checkpointing=False, bf16=False, use_cpu=True,
            train_sampling_strategy="group_by_length", logging_steps=max(1, config["max_steps"] // 6),
            save_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
        ),
    )  # fmt: skip
    cpu, wall = time.process_time(), time.monotonic()
    trainer.train()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    trainer.model.save_pretrained(options.out, safe_serialization=True)
    logged = [entry for entry in trainer.state.log_history if "num_tokens" in entry]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "tokens": logged[-1]["num_tokens"],
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": losses[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dataset", "base", "out", "config"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    print(json.dumps(train(parser.parse_args())))


if __name__ == "__main__":
    main()
