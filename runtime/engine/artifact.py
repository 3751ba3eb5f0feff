"""What is in an adapter's folder, and whether it is what was asked for. No torch.

The folder is read once: the digest is taken over the very bytes that are then loaded, so nobody can change the files
between the check and the use.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EngineError

CONFIG, WEIGHTS, FACTS, RESULT = "adapter_config.json", "adapter_model.safetensors", "slmtrain.json", "result.json"
BASE_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter in memory, not yet on the model."""

    path: str
    digest: str
    rank: int
    scaling: float
    base_digest: str | None
    weights: bytes


def read_adapter(path: str, digest: str | None) -> AdapterFiles:
    """Read and check a folder. Raises AdapterUnreadable, DigestMismatch, DoraRefused, AdapterDoesNotFit."""
    files = read_folder(Path(path))
    actual = digest_of(files)
    if digest and digest != actual:
        raise EngineError("DigestMismatch", f"{path} is {actual}, asked for {digest}; copy the right artifact")
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise EngineError("AdapterUnreadable", f"{path} has no {name}; it must be peft's folder, in safetensors")
    config = parse_object(path, CONFIG, files[CONFIG])
    facts = parse_object(path, FACTS, files[FACTS]) if FACTS in files else {}
    refuse_unservable(path, config)
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise EngineError("AdapterUnreadable", f"{path}/{CONFIG}: r must be a whole number above 0")
    scaling = float(config.get("lora_alpha", rank)) / (rank**0.5 if config.get("use_rslora") else rank)
    base = facts.get("base_digest") or config.get("base_digest")
    return AdapterFiles(path, actual, rank, scaling, base, files[WEIGHTS])


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every regular file but result.json, by POSIX relative path."""
    if not folder.is_dir():
        raise EngineError("AdapterUnreadable", f"{folder} is not a folder on this server; check its mount")
    try:
        found = (p for p in folder.rglob("*") if p.is_file())
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if p != folder / RESULT}
    except OSError as error:
        where = error.filename or folder
        raise EngineError("AdapterUnreadable", f"{where}: {error.strerror}; files must be readable by all") from error


def digest_of(files: dict[str, bytes]) -> str:
    """The artifact's name: path, one zero byte, size in 8 bytes, contents; in the order of the paths."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode("utf-8") + b"\0" + len(files[name]).to_bytes(8, "big") + files[name])
    return "sha256:" + total.hexdigest()


def base_digest(folder: Path) -> str:
    """A base by what decides its answers: weights, configuration, tokenizer."""
    names = [folder / name for name in BASE_FILES if (folder / name).is_file()]
    total = hashlib.sha256()
    for name, path in sorted((p.name, p) for p in [*names, *folder.glob("*.safetensors")]):
        total.update(name.encode("utf-8") + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return "sha256:" + total.hexdigest()


def parse_object(path: str, name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise EngineError("AdapterUnreadable", f"{path}/{name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise EngineError("AdapterUnreadable", f"{path}/{name} is not an object")
    return value


def refuse_unservable(path: str, config: dict[str, Any]) -> None:
    """What stacked matrices of one rank and scale cannot say."""
    if config.get("use_dora"):
        raise EngineError("DoraRefused", f"{path} is DoRA, which cannot ride in a mixed batch; merge it into its base")
    kind = str(config.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise EngineError("AdapterDoesNotFit", f"{path} is {kind}; only LORA is served here")
    for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication", "trainable_token_indices"):
        if config.get(key):
            raise EngineError("AdapterDoesNotFit", f"{path} uses {key}, which cannot be served; merge it into its base")
    if config.get("bias", "none") != "none":
        raise EngineError("AdapterDoesNotFit", f"{path} trains biases, which cannot be served; merge it into its base")
