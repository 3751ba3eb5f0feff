"""A trace of calls: when each arrived, for which specialist, and how long prompt and answer are.

`.jsonl`, `.jsonl.gz`, `.csv` or `.csv.gz` with exactly the columns `time`, `specialist`, `input_tokens` and
`output_tokens`; `time` is RFC 3339 or a number of seconds, the same kind throughout. A wrong line is refused with its
number and field: a trace with holes would give wrong percentiles without a word. Lines need not be in order of time.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from slmfleet.simulate.problem import InputProblem

COLUMNS = ("time", "specialist", "input_tokens", "output_tokens")
MAX_TOKENS = 10_000_000


@dataclass(frozen=True)
class Trace:
    """Calls in order of arrival. `times`: seconds since the first one. `specialist`: index into `specialists`."""

    specialists: tuple[str, ...]
    times: list[float]
    specialist: list[int]
    input_tokens: list[int]
    output_tokens: list[int]
    digest: str

    @property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        return self.times[-1]


def read_trace(path: Path) -> Trace:
    """The calls of a file. Raises InputProblem, or OSError where it cannot be read."""
    data = path.read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputProblem(f"{path}: not gzip: {error}") from error
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (".jsonl", ".csv"):
        raise InputProblem(f"{path}: a trace is .jsonl, .jsonl.gz, .csv or .csv.gz")
    data = data.removeprefix(codecs.BOM_UTF8)
    return _trace(path, _jsonl(path, data) if kind == ".jsonl" else _csv(path, data), digest)


def _trace(path: Path, lines: Iterator[tuple[int, Mapping[str, Any]]], digest: str) -> Trace:
    names: dict[str, int] = {}
    rows: list[tuple[float, int, int, int]] = []
    dated: bool | None = None
    for number, line in lines:
        try:
            at, is_date = _time(line["time"])
            if dated is None:
                dated = is_date
            if dated is not is_date:
                raise ValueError("time: a date here and a number of seconds there; use one of them")
            name = line["specialist"]
            if not isinstance(name, str) or not name:
                raise ValueError("specialist: must be a name")
            rows.append((at, names.setdefault(name, len(names)), _tokens(line, "input_tokens"),
                         _tokens(line, "output_tokens")))
        except ValueError as error:
            raise InputProblem(f"{path}:{number}: {error}") from error
    if not rows:
        raise InputProblem(f"{path}: no calls in it")
    rows.sort(key=lambda row: row[0])  # stable: calls of one instant stay in the file's order
    start = rows[0][0]
    return Trace(tuple(names), [row[0] - start for row in rows], [row[1] for row in rows], [row[2] for row in rows],
                 [row[3] for row in rows], digest)


def _jsonl(path: Path, data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in enumerate(data.splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InputProblem(f"{path}:{number}: not JSON") from error
        if not isinstance(line, dict):
            raise InputProblem(f"{path}:{number}: not an object")
        if len(line) != len(COLUMNS) or not all(key in line for key in COLUMNS):
            _refuse_keys(f"{path}:{number}", list(line))
        yield number, line


def _csv(path: Path, data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise InputProblem(f"{path}: not UTF-8") from error
    head = next(reader, None)
    if head is None:
        raise InputProblem(f"{path}: empty; its first line names the columns: {','.join(COLUMNS)}")
    _refuse_keys(f"{path}:1", head)
    for row in reader:
        if not row:
            continue
        if len(row) != len(head):
            raise InputProblem(f"{path}:{reader.line_num}: {len(row)} fields, and {len(head)} columns")
        yield reader.line_num, dict(zip(head, row, strict=True))


def _refuse_keys(where: str, keys: list[str]) -> None:
    for key in keys:
        if key not in COLUMNS:
            raise InputProblem(f"{where}: unknown key {key}; a trace has {', '.join(COLUMNS)}")
        if keys.count(key) > 1:
            raise InputProblem(f"{where}: {key} is there twice")
    for key in COLUMNS:
        if key not in keys:
            raise InputProblem(f"{where}: {key} is missing")


def _time(value: Any) -> tuple[float, bool]:
    """Seconds, and whether they were written as a date."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _date(value), True
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"time: {value!r} is neither RFC 3339 nor a number of seconds")
    return float(value), False


def _date(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time: {text[:80]!r} is neither RFC 3339 nor a number of seconds") from None
    if found.tzinfo is None:
        raise ValueError(f"time: {text!r} has no zone; write {text}Z")
    return found.timestamp()


def _tokens(line: Mapping[str, Any], key: str) -> int:
    value = line[key]
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise ValueError(f"{key}: must be a whole number from 0 to {MAX_TOKENS}, not {value!r}")
    return value
