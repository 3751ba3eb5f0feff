"""Which files a log is, and their lines: plain, gzip or Zstandard, JSON lines or one JSON document.

Apart from what the lines mean (`normal`), so that both are tried alone. Nothing here is held longer than a line, but
for a document that is no JSON lines: it is read whole, up to DOCUMENT_BYTES.
"""

from __future__ import annotations

import codecs
import fnmatch
import glob
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from slmfleet.curation.failures import CurationError

SEALED = ".seg"
DOCUMENT_BYTES = 256 << 20
LINE_BYTES = 64 << 20
_LOG = re.compile(r"\.(jsonl|ndjson|json)(\.gz|\.zst)?$")
# Files that a GenAI upload hook writes beside a log: content that spans refer to, no log of its own.
_UPLOADED = re.compile(r"_(inputs|outputs|system_instruction|tool\.definitions)\.jsonl?$")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PIECE_BYTES = 1 << 16

Refuse = Callable[[str, str, bytes], None]


@dataclass(frozen=True)
class Source:
    """What --records names: `files` in order, `sealed` segments or folders of them, and `root`, where things
    beside the log are sought."""

    root: Path
    files: tuple[Path, ...]
    sealed: tuple[Path, ...]


def found(path: Path) -> Source:
    """A file, a folder with all below it, or a pattern of either. Raises CurationError where there is none."""
    named = _named(path)
    if not named:
        raise CurationError("LogNotFound", f"{path} does not exist; --records names files or a folder of records")
    files: dict[Path, None] = {}
    sealed = []
    for item in named:
        if item.is_file() and item.suffix == SEALED:
            sealed.append(item)
            continue
        if item.is_file():
            files[item] = None
            continue
        files.update(dict.fromkeys(sorted(p for p in item.rglob("*") if p.is_file() and _is_log(p.name))))
        if any(item.rglob(f"*{SEALED}")):
            sealed.append(item)
    root = path if path.is_dir() else named[0].parent
    return Source(root, tuple(files), tuple(sealed))


def belongs(path: Path, target: Path) -> bool:
    """Whether a file written to `target` would be read the next time that --records names `path`."""
    inside = _is_log(target.name) or target.suffix == SEALED
    if any(item.is_dir() and target.resolve().is_relative_to(item.resolve()) for item in _named(path)):
        return inside
    if path.exists():
        return False
    at, pattern = Path(os.path.normpath(target.absolute())), os.path.normpath(path.absolute())
    if "**" in pattern:  # of any number of folders, or of none
        return any(fnmatch.fnmatch(str(at), each) for each in (pattern, pattern.replace("**/", "")))
    return at.match(pattern) or (inside and any(folder.match(pattern) for folder in at.parents))


def _named(path: Path) -> list[Path]:
    return [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207


def _is_log(name: str) -> bool:
    return bool(_LOG.search(name)) and not _UPLOADED.search(name)


def lines(path: Path, refuse: Refuse) -> Iterator[tuple[str, bytes]]:
    """(where, line) of a file. What cannot be read is refused, and what came before it counts."""
    try:
        with _opened(path) as file:
            yield from _lines(path.name, file, refuse)
    except (OSError, EOFError, zlib.error) as error:
        refuse("file not readable to its end", f"{path.name}: {error}", b"")
    except Exception as error:  # zstandard's own error, which is not imported for who has no such file
        if type(error).__module__.split(".")[0] not in ("zstandard", "zstd"):
            raise
        refuse("file not readable to its end", f"{path.name}: {error}", b"")


def _lines(name: str, file: IO[bytes], refuse: Refuse) -> Iterator[tuple[str, bytes]]:
    first = file.readline(LINE_BYTES)
    if first.startswith(_UTF16):
        refuse("UTF-16 text; logs are UTF-8", name, b"")
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    if name.split(".")[-1] != "jsonl" and first.strip() in (b"{", b"["):
        yield from _document(name, first + file.read(DOCUMENT_BYTES), refuse)
        return
    number, line = 1, first
    while line:
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            refuse("line too long", f"{name}:{number}", line[:200])
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_BYTES)
        else:
            yield f"{name}:{number}", line.rstrip(b"\r\n")
        number, line = number + 1, file.readline(LINE_BYTES)


def _document(name: str, data: bytes, refuse: Refuse) -> Iterator[tuple[str, bytes]]:
    """A document that is written over several lines: itself, or the members of its list."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        refuse("not JSON", f"{name}: {error}", data)
        return
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        yield f"{name}#{number}", orjson.dumps(item)


def _opened(path: Path) -> IO[bytes]:
    """By what the file begins with, whatever its name says."""
    with path.open("rb") as file:
        start = file.read(4)
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    if kind == "gzip":
        return io.BufferedReader(_Decompressed(path, lambda: zlib.decompressobj(wbits=31)), 1 << 20)
    if kind == "zstd":
        import zstandard

        return io.BufferedReader(_Decompressed(path, zstandard.ZstdDecompressor().decompressobj), 1 << 20)
    return path.open("rb")


class _Decompressed(io.RawIOBase):
    """The content of a file of gzip members or Zstandard frames, up to where it is cut. zstandard's own reader takes a
    cut file for a whole one, and gzip's gives nothing of one that is shorter than its reader's buffer."""

    def __init__(self, path: Path, new: Callable[[], Any]) -> None:
        self._file = path.open("rb")
        self._new = new
        self._frame = self._new()
        self._begun = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if self._frame.eof:
                rest = self._frame.unused_data.lstrip(b"\0")  # files may be padded with zeros
                self._frame, self._begun = self._new(), False
            else:
                rest = b""
            data = rest or self._file.read(_PIECE_BYTES)
            if not data:
                if self._begun:
                    raise EOFError("the compressed file ends in the middle")
                return 0
            self._begun = True
            self._ready = self._frame.decompress(data)
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count
