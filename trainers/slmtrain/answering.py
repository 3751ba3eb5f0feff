"""A trained model in this process: loaded, asked, and timed. Needs torch."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmtrain import memorised, stats
from slmtrain.data import Example, encode
from slmtrain.errors import Refused
from slmtrain.facts import Exposure
from slmtrain.files import base_digest, resolve_base
from slmtrain.heldout import Planted

SMALL_PARAMETERS = 20_000_000  # below it a second thread only waits for the first
BATCH_TOKENS = 8192  # prompt tokens generated for at once
LATENCY_CALLS = 24  # answered one by one, for the latency of a single caller
Say = Callable[[int, int, float], None]  # answered, of, seconds since the start


@dataclass(frozen=True)
class Run:
    """Answers in the order of the examples, and what they took. `memory_mib` is None where it cannot be seen."""

    texts: tuple[str, ...]
    tokens_per_second: float
    latency_seconds: dict[str, float]
    memory_mib: float | None
    measured_on: str


def load_model(model: Path, base: str | None) -> tuple[Any, Any, str]:
    """(model, tokenizer, base digest) of an adapter on its base, or of a whole model."""
    folder, adapter = folders_of(model, base)
    digest = base_digest(folder)
    if adapter:
        refuse_another_base(model, digest)
    loaded, tokenizer = read_model(folder)
    if not adapter:
        return loaded.eval().to(device()), tokenizer, digest

    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        adapted = PeftModel.from_pretrained(loaded, model)
    except (RuntimeError, ValueError) as error:
        raise Refused("WrongBase", f"{model} does not fit {folder}: {str(error).splitlines()[0]}") from error
    except (SafetensorError, OSError) as error:
        raise Refused("BadModel", f"cannot load {model}: {str(error).splitlines()[0]}") from error
    return adapted.merge_and_unload().eval().to(device()), tokenizer, digest


def read_model(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder. Whatever is broken in it is one refusal."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refused("BadModel", f"cannot load {folder}: {told}") from error


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def folders_of(model: Path, base: str | None) -> tuple[Path, bool]:
    """The folder with weights and tokenizer, and whether `model` is an adapter on it."""
    adapter = model / "adapter_config.json"
    if not adapter.is_file() and not (model / "config.json").is_file():
        raise Refused(
            "BadModel", f"{model} has neither adapter_config.json nor config.json; --model takes what train wrote"
        )
    if not adapter.is_file():
        return model, False
    recorded = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not (base or recorded):
        raise Refused("BadModel", f"{adapter} names no base; give --base")
    return resolve_base(base or recorded), True


def refuse_another_base(model: Path, digest: str) -> None:
    """An adapter on another base of the same shape loads, and answers nonsense."""
    facts = model / "slmtrain.json"
    expected = json.loads(facts.read_text(encoding="utf-8")).get("base_digest") if facts.is_file() else None
    if expected and expected != digest:
        raise Refused(
            "WrongBase", f"{model} was trained on base {expected[:19]}…, not on {digest[:19]}…; give that one as --base"
        )


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


def answer_all(model: Any, tokenizer: Any, examples: Sequence[Example], say: Say) -> Run:
    """Every example in batches, then some one by one for the latency of a single caller."""
    encoded = [encode(tokenizer, example) for example in examples]
    prompts = [list(e.ids[: e.answer_start]) for e in encoded]
    longest_answer = max(len(e.ids) - e.answer_start for e in encoded)
    context = getattr(model.config, "max_position_embeddings", 1 << 30)
    max_tokens = min(longest_answer + 8, max(1, context - max(map(len, prompts))))
    texts: dict[int, str] = {}
    tokens = 0
    began = time.monotonic()
    for batch in batches_of([len(p) for p in prompts], BATCH_TOKENS):
        for index, ids in zip(batch, generate(model, tokenizer, [prompts[i] for i in batch], max_tokens), strict=True):
            texts[index] = tokenizer.decode(ids, skip_special_tokens=True)
            tokens += len(ids) + 1
        say(len(texts), len(examples), time.monotonic() - began)
    seconds = time.monotonic() - began
    every = max(1, len(prompts) // LATENCY_CALLS)
    singles = []
    for prompt in prompts[::every][:LATENCY_CALLS]:
        start = time.monotonic()
        generate(model, tokenizer, [prompt], max_tokens)
        singles.append(time.monotonic() - start)
    ordered = tuple(texts[i] for i in range(len(examples)))
    return Run(
        ordered,
        tokens / seconds,
        percentiles(singles),
        peak_memory(),
        f"the trainer's process, {'a GPU' if model.device.type == 'cuda' else 'CPU'}, one call at a time",
    )


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": round(stats.percentile(seconds, 0.5), 4), "p95": round(stats.percentile(seconds, 0.95), 4)}


def peak_memory() -> float:
    """MiB at the peak: of the GPU where there is one, else of this process with Python and torch in it."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def exposures(model: Any, tokenizer: Any, planted: Sequence[Planted], count: int) -> list[Exposure]:
    """Rank and greedy completion of every planted secret."""
    found = []
    for item in planted:
        context = context_of(tokenizer, item)
        others = memorised.invented(item.secret, count, seed=0)
        likelihoods = log_likelihoods(model, tokenizer, context, [item.secret, *others])
        wanted = len(tokenizer(item.secret, add_special_tokens=False)["input_ids"])
        ids = tokenizer(context, add_special_tokens=False)["input_ids"]
        said = tokenizer.decode(generate(model, tokenizer, [ids], wanted + 8)[0], skip_special_tokens=True)
        completed = memorised.normal(item.secret) in memorised.normal(said)
        found.append(Exposure(item.name, memorised.rank(likelihoods[0], likelihoods[1:]), len(others) + 1, completed))
    return found


def context_of(tokenizer: Any, item: Planted) -> str:
    """The text that the secret followed in training."""
    if not item.messages:
        return item.prefix
    prompt = tokenizer.apply_chat_template(list(item.messages), tokenize=False, add_generation_prompt=True)
    return str(prompt) + item.prefix


def log_likelihoods(model: Any, tokenizer: Any, context: str, texts: Sequence[str]) -> list[float]:
    """Natural logarithm of each text's probability after the context, summed over its tokens."""
    import torch

    start = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    rows = [tokenizer(context + text, add_special_tokens=False)["input_ids"] for text in texts]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    found: list[float] = [0.0] * len(rows)
    for batch in batches_of([len(row) for row in rows], BATCH_TOKENS):
        longest = max(len(rows[i]) for i in batch)
        ids = torch.tensor([rows[i] + [pad] * (longest - len(rows[i])) for i in batch], device=model.device)
        mask = torch.tensor([[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in batch], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, start - 1 : -1]
        taken = logits.float().log_softmax(-1).gather(-1, ids[:, start:, None])[..., 0] * mask[:, start:]
        for index, value in zip(batch, taken.sum(1).tolist(), strict=True):
            found[index] = value
    return found
