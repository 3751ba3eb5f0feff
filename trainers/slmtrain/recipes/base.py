"""What recipes share: the base in the right precision, an adapter around it, safetensors out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmtrain.files import read_json, write_json
from slmtrain.job import Config, Job


def mixed(config: Config) -> bool:
    """Whether to compute in bfloat16: as set, or where a GPU can."""
    import torch

    if config.dtype == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return config.dtype == "bfloat16"


def load_base(job: Job, *, frozen: bool, **options: Any) -> tuple[Any, str]:
    """(model, note on its precision). Weights that are trained stay in float32 even where bfloat16 computes."""
    import torch
    from transformers import AutoModelForCausalLM

    half = mixed(job.config)
    dtype = torch.bfloat16 if half and frozen else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=dtype, **options)
    return model, "mixed bfloat16" if half else "float32"


def add_adapter(model: Any, config: Config, *, use_dora: bool = False) -> Any:
    """peft's LoRA (or DoRA) around a base; only the adapter is trained."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model,
        LoraConfig(
            r=config.rank,
            lora_alpha=int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
            lora_dropout=config.dropout,
            target_modules=config.target_modules,
            use_dora=use_dora,
            task_type="CAUSAL_LM",
        ),
    )


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """peft's files: the same training must give the same digest."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's own card; ours follows
    finish_adapter(tokenizer, folder)


def finish_adapter(tokenizer: Any, folder: Path) -> None:
    """peft's settings in one order, and how the base is prompted."""
    settings = folder / "adapter_config.json"
    config = read_json(settings)
    write_json(settings, {key: sorted(v) if isinstance(v, list) else v for key, v in sorted(config.items())})
    write_json(folder / "chat_template.json", template_of(tokenizer))


def template_of(tokenizer: Any) -> dict[str, str | None]:
    """How prompts are written for the base: the gateway needs it, and cannot read a base that is on the hub."""
    return {name: getattr(tokenizer, name) for name in ("chat_template", "bos_token", "eos_token")}


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """A whole model with its tokenizer, as Hugging Face reads it."""
    model.config.use_cache = True
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
