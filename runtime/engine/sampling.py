"""What a caller asks for: sampling parameters checked, stop strings, text as it grows. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import EngineError

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Sampling:
    """How to continue one prompt. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 leave all tokens in."""

    adapter: str | None = None
    max_tokens: int = 48
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


def parse_object(text: str) -> dict[str, Any]:
    """sampling_parameters, or Triton's request parameters, as an object."""
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise EngineError("BadRequest", f"sampling_parameters is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise EngineError("BadRequest", "sampling_parameters must be a JSON object")
    return value


def parse_sampling(given: dict[str, Any]) -> Sampling:
    """From vLLM's names. Numbers may come as strings, as Triton's request parameters do. Unknown keys are ignored."""
    if number(given, "n", int, 1, 1) > 1:
        raise EngineError("BadRequest", "n above 1 is not served here")
    stop = given.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stop, list | tuple) or not all(isinstance(s, str) and s for s in stop):
        raise EngineError("BadRequest", "stop must be a string or a list of strings")
    name = given.get("lora_name") or None
    if name is not None and not isinstance(name, str):
        raise EngineError("BadRequest", "lora_name must be a string")
    seed = given.get("seed")
    return Sampling(
        adapter=name,
        max_tokens=number(given, "max_tokens", int, 48, 1),
        min_tokens=number(given, "min_tokens", int, 0, 0),
        temperature=number(given, "temperature", float, 0.0, 0.0),
        top_p=number(given, "top_p", float, 1.0, 0.0),
        top_k=max(0, number(given, "top_k", int, 0, -1)),
        seed=None if seed is None else number(given, "seed", int, 0, -(1 << 63)),
        stop=tuple(stop),
        ignore_eos=str(given.get("ignore_eos", False)).lower() in ("true", "1"),
    )


def number(given: dict[str, Any], key: str, kind: type, default: Any, lowest: float) -> Any:
    value = given.get(key)
    if value is None:
        return default
    try:
        parsed = kind(value)
    except (TypeError, ValueError, OverflowError):
        parsed = None
    if parsed is None or isinstance(value, bool) or not lowest <= parsed < 1 << 63:
        raise EngineError("BadRequest", f"{key} must be a number of at least {lowest:g}, not {value!r}")
    return parsed


class GrowingText:
    """Turns token ids into text piece by piece.

    Held back: a character whose bytes are not complete, and an end that may be the beginning of a stop string.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: tuple[str, ...]) -> None:
        self.decode, self.stop = decode, stop
        self.sent = 0
        self.stopped = False
        self.whole = ""

    def grow(self, ids: list[int], *, last: bool) -> str:
        """The new text that is safe to send after these ids; sets `stopped` once a stop string was met."""
        text = self.decode(ids)
        ends = [text.find(stop) for stop in self.stop if stop in text]
        if ends:
            self.stopped = True
            text = text[: min(ends)]
        elif not last:
            text = self.safe_part(text)
        self.whole = text
        new, self.sent = text[self.sent :], max(self.sent, len(text))
        return new

    def safe_part(self, text: str) -> str:
        text = text.rstrip(REPLACEMENT)
        hold = max((n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        return text[: len(text) - hold] if hold else text
