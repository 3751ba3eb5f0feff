"""Files that are whole or not there: atomic writes and digests of artifacts.

Apart, because gateway, curation and the jobs all lean on the same two promises: a reader never sees half a file, and
one folder has one digest wherever it lies. Knows nothing of what the files mean.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

RESULT_FILE = "result.json"
_CHUNK_BYTES = 1 << 20


def atomic_write(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Write `data` to `path` so that it is on stable storage when this returns and never seen in part.

    `data`: all of it, or its pieces one after the other. Temporary file beside it, fsync, rename, fsync of the folder.
    Missing folders are made (and synced as well).
    Raises OSError with the temporary file gone and the target as it was, or (only the folder's fsync failed) whole but
    not known to be durable: write it again.
    """
    _make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def digest_tree(folder: Path) -> str:
    """`sha256:…` of a folder: over its sorted relative POSIX paths, a line `path NUL sha256hex` each.

    `result.json` at the top is left out, since it is where the digest itself is written. Links are followed as the
    files they name; empty folders do not count.
    """
    files = sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for name, file in files:
        if name != RESULT_FILE:
            digest.update(f"{name}\0{sha256_file(file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
