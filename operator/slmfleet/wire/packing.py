"""A text as a ConfigMap holds it: as it is, or compressed where it is longer than one takes.

The API server counts the bytes of all values, compressed ones as they are. JSON schemas shrink to a fifth or less, so
that a compressed table has room for several megabytes. What is small stays text: people read it with kubectl.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping

LIMIT_BYTES = 1_000_000  # of 1,048,576, which with the names is refused
SUFFIX = ".gz"


def compressed(text: str) -> bytes:
    """The same bytes for the same text, whenever it is called."""
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def packed(key: str, text: str) -> dict[str, dict[str, str]]:
    """`data` or `binaryData` of a ConfigMap. What is too long even so is given all the same: see `fits`."""
    if len(text.encode()) <= LIMIT_BYTES:
        return {"data": {key: text}}
    return {"binaryData": {key + SUFFIX: base64.b64encode(compressed(text)).decode()}}


def fits(text: str) -> bool:
    """Whether a ConfigMap takes it."""
    return len(text.encode()) <= LIMIT_BYTES or len(compressed(text)) <= LIMIT_BYTES


def unpacked(key: str, data: Mapping[str, str] | None, binary: Mapping[str, str] | None) -> str | None:
    """The text under a key; None where there is none. Raises ValueError where it is no compressed text."""
    if data and key in data:
        return data[key]
    if not binary or key + SUFFIX not in binary:
        return None
    try:
        return gzip.decompress(base64.b64decode(binary[key + SUFFIX], validate=True)).decode()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{key}{SUFFIX} is not what the operator writes: {error}") from None
