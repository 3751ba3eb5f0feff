"""What maker, replay server and report agree on: a request's key, a text's normal form, a token's length."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any

MESSAGE_OVERHEAD_TOKENS = 4


def request_key(messages: list[dict[str, Any]]) -> str:
    """sha256 of the messages as canonical JSON. Model, temperature and the rest do not change a recorded answer."""
    text = json.dumps(messages, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def normal(text: str) -> str:
    """Two texts that differ only in case, width, spaces or punctuation are the same text."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip() or folded.strip()


def tokens(text: str) -> int:
    """An estimate that needs no tokenizer: a token is 4 bytes of UTF-8. English prose is within a fifth of that."""
    return max(1, -(-len(text.encode()) // 4))


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    """Estimate for a whole prompt: each message's text and 4 tokens of frame."""
    return sum(tokens(content_text(message.get("content"))) + MESSAGE_OVERHEAD_TOKENS for message in messages)


def content_text(content: Any) -> str:
    """A message's text: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""
