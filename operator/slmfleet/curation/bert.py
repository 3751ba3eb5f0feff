"""A sentence encoder of the BERT family in numpy: the forward pass of a sentence-transformers folder, and no torch.

Curation needs the vectors of short texts and nothing else; torch would make its image ten times as large. Texts of one
length in tokens are run together, so nothing is padded and nothing masked. Covers what such a folder of the BERT
architecture holds (absolute positions, GELU, mean pooling or the first token, unit length); any other model is refused
by name. Not covered: half precision, GPUs. Source of the architecture: Devlin et al. 2018, arXiv 1810.04805.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.curation.failures import CurationError

BATCH_TOKENS = 1_024
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One transformer layer; matrices are (in, out), query, key and value side by side."""

    attend: Matrix
    attend_bias: Matrix
    join: Matrix
    join_bias: Matrix
    first_norm: tuple[Matrix, Matrix]
    widen: Matrix
    widen_bias: Matrix
    narrow: Matrix
    narrow_bias: Matrix
    second_norm: tuple[Matrix, Matrix]


class Encoder:
    """A loaded model. `encode` gives one row of unit length a text."""

    def __init__(self, folder: Path, tokens: int = 128) -> None:
        """`tokens`: the longest input looked at; the model's own limit where that is less. Raises CurationError."""
        config = _config(folder)
        weights = _weights(folder)
        self.heads = int(config["num_attention_heads"])
        self.width = int(config["hidden_size"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.words = weights["embeddings.word_embeddings.weight"]
        self.places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][:1]
        )
        self.norm = (weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
        self.layers = [
            _layer(weights, f"encoder.layer.{k}.", self.width // self.heads)
            for k in range(int(config["num_hidden_layers"]))
        ]
        self.first_token = bool(_pooling(folder).get("pooling_mode_cls_token"))
        self.tokens = min(tokens, len(self.places))
        self.tokenizer = _tokenizer(folder, self.tokens)

    def encode(self, texts: Sequence[str], workers: int = 1) -> Matrix:
        """Shape (texts, width), float32. An empty text is a row like any other."""
        out = np.empty((len(texts), self.width), dtype=np.float32)
        batches = list(self._batches(texts))

        def run(batch: tuple[list[int], NDArray[np.int64]]) -> None:
            rows, ids = batch
            out[rows] = self._forward(ids)

        with _one_thread_each(), ThreadPoolExecutor(max(1, workers)) as pool:
            for _ in pool.map(run, batches):
                pass
        return out

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        of_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for start in range(0, len(texts), 10_000):
            found = self.tokenizer.encode_batch([t or " " for t in texts[start : start + 10_000]])
            for number, encoded in enumerate(found, start):
                of_length[len(encoded.ids)].append((number, encoded.ids))
        for length in sorted(of_length, reverse=True):
            step = max(1, BATCH_TOKENS // length)
            for at in range(0, len(of_length[length]), step):
                chunk = of_length[length][at : at + step]
                yield [n for n, _ in chunk], np.array([ids for _, ids in chunk], dtype=np.int64)

    def _forward(self, ids: NDArray[np.int64]) -> Matrix:
        count, length = ids.shape
        x = self._normed((self.words[ids] + self.places[:length]).reshape(-1, self.width), self.norm)
        for layer in self.layers:
            x = self._normed(x + self._attention(x, layer, count, length), layer.first_norm)
            wide = x @ layer.widen
            wide += layer.widen_bias
            x = self._normed(x + _gelu(wide) @ layer.narrow + layer.narrow_bias, layer.second_norm)
        rows = x.reshape(count, length, self.width)
        pooled = rows[:, 0] if self.first_token else rows.mean(axis=1)
        found: Matrix = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return found

    def _attention(self, x: Matrix, layer: Layer, count: int, length: int) -> Matrix:
        size = self.width // self.heads
        mixed = x @ layer.attend
        mixed += layer.attend_bias
        query, key, value = mixed.reshape(count, length, 3, self.heads, size).transpose(2, 0, 3, 1, 4)
        score = np.matmul(query, key.transpose(0, 1, 3, 2))
        score -= score.max(axis=-1, keepdims=True)
        np.exp(score, out=score)
        score /= score.sum(axis=-1, keepdims=True)
        joined = np.matmul(score, value).transpose(0, 2, 1, 3).reshape(-1, self.width)
        out: Matrix = joined @ layer.join
        out += layer.join_bias
        return out

    def _normed(self, x: Matrix, norm: tuple[Matrix, Matrix]) -> Matrix:
        x -= x.mean(axis=1, keepdims=True)
        scale = np.einsum("ij,ij->i", x, x)
        x *= (1 / np.sqrt(scale / self.width + self.epsilon)).astype(np.float32)[:, None]
        x *= norm[0]
        x += norm[1]
        return x


def _gelu(x: Matrix) -> Matrix:
    from scipy.special import erf

    half = x * np.float32(0.7071067811865476)
    erf(half, out=half)
    half += 1
    half *= x
    half *= np.float32(0.5)
    return half


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CurationError("EmbedderNotReadable", f"{folder}: {error}; name a sentence-transformers folder") from error
    if config.get("model_type") != "bert" or config.get("hidden_act", "gelu") != "gelu":
        kind = f"{config.get('model_type')} with {config.get('hidden_act')}"
        raise CurationError("EmbedderNotSupported", f"{folder}: {kind}; only BERT with GELU is read without torch")
    return config


def _weights(folder: Path) -> dict[str, Matrix]:
    from safetensors.numpy import load_file

    try:
        found = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise CurationError("EmbedderNotReadable", f"{folder}/model.safetensors: {error}") from error
    return {
        name.removeprefix("bert."): np.asarray(value, dtype=np.float32)
        for name, value in found.items()
        if value.dtype.kind == "f"
    }


def _layer(weights: dict[str, Matrix], prefix: str, head_size: int) -> Layer:
    """The query carries the scale of the scores."""

    def linear(name: str) -> tuple[Matrix, Matrix]:
        return np.ascontiguousarray(weights[f"{prefix}{name}.weight"].T), weights[f"{prefix}{name}.bias"]

    def norm(name: str) -> tuple[Matrix, Matrix]:
        return weights[f"{prefix}{name}.LayerNorm.weight"], weights[f"{prefix}{name}.LayerNorm.bias"]

    query, key, value = (linear(f"attention.self.{name}") for name in ("query", "key", "value"))
    scale = np.float32(head_size**-0.5)
    attend = np.concatenate([query[0] * scale, key[0], value[0]], axis=1)
    bias = np.concatenate([query[1] * scale, key[1], value[1]])
    return Layer(
        attend, bias, *linear("attention.output.dense"), norm("attention.output"),
        *linear("intermediate.dense"), *linear("output.dense"), norm("output"),
    )  # fmt: skip


def _pooling(folder: Path) -> dict[str, Any]:
    path = folder / "1_Pooling" / "config.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _tokenizer(folder: Path, tokens: int) -> Any:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.enable_truncation(tokens)
    found.no_padding()
    return found


def _one_thread_each() -> Any:
    """Batches run side by side; threads of the matrix library under them would only wait for each other."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)
