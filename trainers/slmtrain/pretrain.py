"""A tiny Llama with its own tokenizer and chat template, from text alone: the demo's and the tests' base model.

    python -m slmtrain.pretrain --text FILE.jsonl... --out DIR --seed 7

Covered: byte-level BPE; a ChatML-like template; next-token loss on the whole conversation, the answers' tokens
weighing more; an ordinary Hugging Face folder; `pretrain.json` with the digest of every line it saw, so that anyone
can prove what it did not see. The same inputs, seed and thread count give the same bytes.
Not covered: a base worth using. With no model hub at hand it stands in for a real one, which trains by the same code.
A LoRA on a base that never saw the tokens of its task stays near 2 %: give it text that uses them.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmtrain.data import parse_messages, read_lines
from slmtrain.errors import OneLine, Refused, run_command
from slmtrain.files import base_digest, file_digest, publish, staging_folder, text_digest, write_json
from slmtrain.frame import frame_length, rest_logits

SCHEMA = "slmtrain/pretrain/v1"
FRAME_KEY = 12  # ids by which documents of one frame are known
START, END, TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the text."""

    seed: int
    steps: int
    hidden: int
    layers: int
    heads: int
    vocab: int
    context: int
    window: int  # tokens of one conversation seen at once
    long_share: float  # tokens of conversations longer than the window, by those of the others, in an epoch
    tokens_per_step: int
    learning_rate: float  # of embeddings and norms
    matrix_rate: float  # of the hidden matrices (Muon)
    weight_decay: float
    prompt_weight: float  # of a prompt's token in the loss; an answer's token weighs 1
    threads: int


@dataclass(frozen=True)
class Document:
    """One conversation as ids, and the weight of each id in the loss."""

    ids: list[int]
    weights: list[float]


def read_conversations(paths: list[Path]) -> list[tuple[dict[str, str], ...]]:
    conversations = [parse_messages(where, value) for path in paths for where, value in read_lines(path)]
    if len(conversations) < 10:
        raise Refused("TooFewExamples", f"{len(conversations)} conversations in --text; a tokenizer needs 10 or more")
    return conversations


def train_tokenizer(conversations: list[tuple[dict[str, str], ...]], vocab: int, context: int) -> Any:
    """Byte-level BPE, so that any text can be written; the template's markers are single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[TEXT, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((message["content"] for c in conversations for message in c), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=TEXT,
        additional_special_tokens=[START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def encode_document(tokenizer: Any, messages: tuple[dict[str, str], ...], prompt_weight: float) -> Document:
    """Every message as the template writes it, in pieces, so that each piece's weight is known."""
    ids: list[int] = []
    weights: list[float] = []
    for message in messages:
        answer = message["role"] == "assistant"
        for text, weight in (
            (f"{START}{message['role']}\n", prompt_weight),
            (message["content"] + END, 1.0 if answer else prompt_weight),
            ("\n", prompt_weight),
        ):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            weights += [weight] * len(piece)
    return Document(ids, weights)


def cut(document: Document, window: int, draw: random.Random) -> Document:
    """A long conversation shows one window an epoch: half the time its end, where the answer is."""
    spare = len(document.ids) - window
    if spare <= 0:
        return document
    start = spare if draw.random() < 0.5 else draw.randrange(spare)
    return Document(document.ids[start : start + window], document.weights[start : start + window])


def epoch_of_batches(documents: list[Document], recipe: Recipe, draw: random.Random) -> list[list[Document]]:
    """Batches of one frame (what they begin with) and of about `tokens_per_step` tokens, in random order.

    Within a frame, neighbours in length lie together. What a batch shares is computed once, and counts once.
    """
    frames: dict[tuple[int, ...], list[Document]] = {}
    for document in thinned(documents, recipe, draw):
        window = cut(document, recipe.window, draw)
        frames.setdefault(tuple(window.ids[:FRAME_KEY]), []).append(window)
    lone = [group[0] for group in frames.values() if len(group) == 1]
    batches: list[list[Document]] = []
    for group in [lone, *(group for group in frames.values() if len(group) > 1)]:
        draw.shuffle(group)
        for start in range(0, len(group), 512):
            batches += in_batches(sorted(group[start : start + 512], key=lambda d: len(d.ids)), recipe.tokens_per_step)
    draw.shuffle(batches)
    return batches


def thinned(documents: list[Document], recipe: Recipe, draw: random.Random) -> list[Document]:
    """One epoch's documents. Those longer than the window are only so many, else they would take most of the time."""
    long = [document for document in documents if len(document.ids) > recipe.window]
    short = [document for document in documents if len(document.ids) <= recipe.window]
    if not short:
        return documents
    wanted = int(recipe.long_share * sum(len(d.ids) for d in short) / recipe.window)
    return short + (draw.sample(long, wanted) if wanted < len(long) else long)


def in_batches(documents: list[Document], tokens: int) -> list[list[Document]]:
    """Consecutive documents, each batch of at most so many tokens to compute."""
    batches: list[list[Document]] = []
    for document in documents:
        if batches:
            grown = [*batches[-1], document]
            frame = frame_length([d.ids for d in grown], limit=len(document.ids) - 2)
            if frame + (len(document.ids) - frame) * len(grown) <= tokens:
                batches[-1] = grown
                continue
        batches.append([document])
    return batches


def loss_of(model: Any, batch: list[Document], pad: int) -> Any:
    """Weighted next-token loss; the tokens of the batch's common beginning count once."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(d.ids) for d in batch)
    frame = frame_length([d.ids for d in batch], limit=min(len(d.ids) for d in batch) - 2)
    ids = torch.tensor([d.ids + [pad] * (longest - len(d.ids)) for d in batch])
    weights = torch.tensor([d.weights + [0.0] * (longest - len(d.weights)) for d in batch])
    mask = (torch.arange(longest) < torch.tensor([[len(d.ids)] for d in batch])).long()
    head, rest = rest_logits(model, ids, mask, frame, keep=0)
    first = max(frame, 1)  # the first id after the frame is predicted from the frame's last logits
    before = rest[:, :0] if head is None else head[:, -1:].expand(len(batch), -1, -1)
    logits = torch.cat([before, rest[:, :-1]], dim=1)
    every = cross_entropy(logits.flatten(0, 1), ids[:, first:].flatten(), reduction="none")
    wanted = weights[:, first:].flatten()
    total, weight = (every * wanted).sum(), wanted.sum()
    if head is not None and frame > 1:
        once = cross_entropy(head[0, :-1], ids[0, 1:frame], reduction="none")
        total, weight = total + (once * weights[0, 1:frame]).sum(), weight + weights[0, 1:frame].sum()
    return total / weight


def schedule(step: int, steps: int) -> float:
    """Of the peak rate: linear warm-up over 5 %, then a cosine to a twentieth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def build_model(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=-(-recipe.hidden * 8 // 3 // 32) * 32,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.02,
    )
    return LlamaForCausalLM(config)


def fit(model: Any, documents: list[Document], recipe: Recipe, pad: int) -> float:
    """Train in place; returns the mean loss of the last twentieth."""
    import torch

    from slmtrain.muon import Muon

    hidden = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    optimizers: list[tuple[Any, float]] = [
        (Muon(hidden, lr=0.0, weight_decay=recipe.weight_decay), recipe.matrix_rate),
        (torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0), recipe.learning_rate),
    ]
    draw = random.Random(recipe.seed)
    batches: list[list[Document]] = []
    losses: list[float] = []
    began = spoke = time.monotonic()
    model.train()
    for step in range(recipe.steps):
        if not batches:
            batches = epoch_of_batches(documents, recipe, draw)
        batch = batches.pop()
        loss = loss_of(model, batch, pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in optimizers:
            optimizer.param_groups[0]["lr"] = peak * schedule(step, recipe.steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        now = time.monotonic()
        if now - spoke > 5 or step + 1 == recipe.steps:
            spoke = now
            left = (now - began) / (step + 1) * (recipe.steps - step - 1)
            recent = sum(losses[-20:]) / len(losses[-20:])
            print(f"step {step + 1}/{recipe.steps} loss {recent:.3f} {now - began:.1f} s left {left:.0f} s", flush=True)
    tail = losses[-max(1, recipe.steps // 20) :]
    return sum(tail) / len(tail)


def model_card(recipe: Recipe, parameters: int, conversations: int, loss: float) -> str:
    return f"""---
license: apache-2.0
library_name: transformers
tags: [slmfleet, demo]
---
# A tiny Llama, trained from scratch by `slmtrain.pretrain`

{parameters:,} parameters, {recipe.layers} layers, {recipe.vocab:,} tokens, context {recipe.context}. Seen:
{conversations:,} conversations, whose digests are in `pretrain.json`; {recipe.steps} steps of about
{recipe.tokens_per_step:,} tokens, seed {recipe.seed}, last loss {loss:.3f}.

A base for demonstrations and tests: it knows nothing but the text it was given. Adapt it, never ask it.
"""


def pretrain(texts: list[Path], out: Path, recipe: Recipe) -> dict[str, Any]:
    """The whole recipe; returns what `pretrain.json` says."""
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    conversations = read_conversations(texts)
    tokenizer = train_tokenizer(conversations, recipe.vocab, recipe.context)
    documents = [encode_document(tokenizer, c, recipe.prompt_weight) for c in conversations]
    model = build_model(recipe, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    tokens = sum(len(d.ids) for d in documents)
    print(
        f"{len(documents)} conversations, {tokens} tokens, {parameters} parameters, {time.monotonic() - began:.1f} s",
        flush=True,
    )
    loss = fit(model, documents, recipe, tokenizer.pad_token_id)

    staged = staging_folder(out)
    model.eval()
    model.save_pretrained(staged, safe_serialization=True)
    tokenizer.save_pretrained(staged, save_jinja_files=False)
    (staged / "README.md").write_text(model_card(recipe, parameters, len(documents), loss), encoding="utf-8")
    facts = {
        "schema": SCHEMA,
        "recipe": vars(recipe),
        "parameters": parameters,
        "tokens": tokens,
        "loss": loss,
        "seconds": round(time.monotonic() - began, 1),
        "base_digest": base_digest(staged),
        "files": {path.name: file_digest(path) for path in texts},
        "lines": sorted(
            {
                text_digest(line.strip())
                for path in texts
                for line in path.read_text("utf-8").splitlines()
                if line.strip()
            }
        ),
        "prompts": sorted({text_digest(m["content"]) for c in conversations for m in c if m["role"] == "user"}),
    }
    write_json(staged / "pretrain.json", facts)
    publish(staged, out)
    return facts


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = OneLine(prog="slmtrain.pretrain", description=__doc__.split("\n\n")[0])
    parser.add_argument("--text", type=Path, nargs="+", required=True, help='files of {"messages": [...]} lines')
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--long-share", type=float, default=0.05)
    parser.add_argument("--tokens-per-step", type=int, default=2048)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--prompt-weight", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args(arguments)


def main() -> None:
    # Threads that spin while they wait cost twentyfold on a machine that others use too. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    given = vars(parse_arguments())
    texts, out = given.pop("text"), given.pop("out")
    if out.exists() and any(out.iterdir()):
        raise Refused("OutputTaken", f"{out} is not empty; choose another --out or remove it")
    facts = pretrain(texts, out, Recipe(**given))
    print(f"wrote {out}: {facts['parameters']} parameters, {facts['base_digest']}, {facts['seconds']} s", flush=True)


if __name__ == "__main__":
    run_command("pretrain", main)
