"""What an LLM says of a task, made safe to write: whoever wrote a prompt in the log has a part in it.

Pure. Not covered: words that mislead. An LLM may call a task what it is not; whoever accepts a task should read its
examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from slmfleet.curation import naming
from slmfleet.curation.words import latin

TITLE_CHARACTERS, ABOUT_CHARACTERS, SLUG_CHARACTERS = 80, 300, 40
_LINK = re.compile(r"\w+:/+\S*|www\.\S*", re.IGNORECASE)
# Without what begins or ends markup, a link, a mention or a heading anywhere that descriptions are shown.
_PUNCTUATION = frozenset(".,;:!?'\"()/&%+-–—’$€£")


def one_line(text: str, most: int) -> str:
    """Letters, digits and plain punctuation of a text in one line of at most `most` characters."""
    plain = _LINK.sub(" ", unicodedata.normalize("NFC", text))
    kept = " ".join("".join(c if _stays(c) else " " for c in plain).split())
    if len(kept) <= most:
        return kept
    cut = kept[: most - 1]
    return (cut[: cut.rindex(" ")] if " " in cut else cut).rstrip(" ,;:-–—(/") + "…"


def slug_of(text: str, first: str, denied: Container[str]) -> str | None:
    """A name for Kubernetes; None where nothing of the text may be in one.

    It begins with a word for what the task answers, as names of own words do: gateways take a call whose `model` is a
    specialist's name for that specialist's, so nobody may bring an LLM to call a task `gpt-4o`."""
    words = re.findall(r"[a-z0-9]+", latin(text))
    said = [w for w in words if w not in denied]
    if not any(c.isalpha() for w in said for c in w):
        return None
    rest = said[1:] if said[0] == first and len(said) > 1 else said
    return naming.slug([first, *rest])[:SLUG_CHARACTERS].strip("-")


def _stays(character: str) -> bool:
    return character.isalnum() or character in _PUNCTUATION or unicodedata.category(character) in ("Mn", "Mc")
