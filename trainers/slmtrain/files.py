"""Digests, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slmtrain.errors import Refused

RESULT = "result.json"
BASE_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def digest_files(root: Path, paths: Iterable[Path]) -> str:
    """sha256 over files in the order of their relative paths: path, one zero byte, size (8 bytes), contents."""
    total = hashlib.sha256()
    for relative, path in sorted((p.relative_to(root).as_posix(), p) for p in paths):
        total.update(relative.encode("utf-8") + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return "sha256:" + total.hexdigest()


def artifact_digest(folder: Path) -> str:
    """What an artifact is called: every regular file but result.json, which carries this digest and timings."""
    return digest_files(folder, (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder) != Path(RESULT)))


def base_digest(folder: Path) -> str:
    """A base by what decides its answers: weights, configuration, tokenizer. Its card and notes may change."""
    names = [folder / name for name in BASE_FILES if (folder / name).is_file()]
    return digest_files(folder, [*names, *folder.glob("*.safetensors")])


def dataset_digest(folder: Path) -> str:
    """A dataset's name, by its rows. What `slmfleet curate` writes into report.json is the definition: SHA-256 over the
    hexadecimal SHA-256 of train.jsonl, a line feed, and that of heldout.jsonl. A side that is not there has no bytes.
    """
    sides = (folder / name for name in ("train.jsonl", "heldout.jsonl"))
    return text_digest("\n".join(_hex_digest(side) for side in sides))


def _hex_digest(path: Path) -> str:
    total = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def text_digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step, so a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused("BadInput", f"{path} is not JSON ({error}); fix or remove it") from None


def readable_by_all(folder: Path) -> None:
    """peft writes weights as 0600, which another user's pod could not read."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def publish(staged: Path, out: Path) -> None:
    """Move a finished folder into place: one rename; file by file, result.json last, where `out` is a mount point."""
    readable_by_all(staged)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.replace(out)
        return
    except OSError as error:
        if not out.is_dir() or any(out.iterdir()):
            raise Refused("OutputTaken", f"{out} holds something else; choose another --out or empty it") from error
    for path in sorted(staged.iterdir(), key=lambda p: p.name == RESULT):
        shutil.move(path, out / path.name)
    shutil.rmtree(staged)


def staging_folder(out: Path) -> Path:
    """An empty folder on the same file system as `out`; what an earlier, killed run left there is removed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.parent / f".{out.name}.partial"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    return staged


def resolve_base(base: str) -> Path:
    """A base as a folder: a path as it is, a Hugging Face id (`owner/name`, or `owner/name@revision`) through the hub's
    cache."""
    folder = Path(base)
    if (folder / "config.json").is_file():
        return folder
    if folder.exists():
        raise Refused("BadBase", f"{base} has no config.json; --base takes a Hugging Face model folder or id")
    if base.startswith(("/", ".")) or base.count("/") != 1:
        raise Refused("BadBase", f"{base} does not exist; --base takes a Hugging Face model folder or id")
    name, _, revision = base.partition("@")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        files = ["*.json", "*.safetensors", "*.model", "*.jinja"]
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        line = str(error).strip().splitlines()[0]
        raise Refused("BaseUnreachable", f"cannot fetch {base} from the hub: {line}", retry=True) from error
