"""A specialist that is served elsewhere, asked over HTTP: a Triton pool, or anything that speaks OpenAI's chat API.

`--url http://HOST:8000/v2/models/slm/generate` is Triton's generate extension (`--served` is the adapter's name; the
prompt is rendered here with the base's tokenizer); any other URL is the base of OpenAI's API (`http://HOST/v1`), where
`--served` is the model. One call at a time: latency is that of a single caller, from outside. Memory is what the server
says of itself (`--metrics`: `process_resident_memory_bytes`, which our pools and vLLM expose), so without the GPU's.
`OPENAI_API_KEY`, where set, is sent as the bearer token.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmtrain.answering import Run, Say, folders_of, percentiles
from slmtrain.data import Example
from slmtrain.errors import Refused
from slmtrain.facts import Exposure
from slmtrain.heldout import Planted
from slmtrain.memorised import normal

TIMEOUT_SECONDS = 120
_RESIDENT = re.compile(r"^process_resident_memory_bytes(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and its name there."""

    url: str
    name: str | None = None
    metrics: str | None = None  # where Prometheus reads the server's


class Served:
    """An endpoint, and how a prompt is put to it."""

    def __init__(self, endpoint: Endpoint, model: Path, base: str | None) -> None:
        self.url, self.name, self.metrics = endpoint.url.rstrip("/"), endpoint.name, endpoint.metrics
        self.triton = self.url.endswith("/generate")
        if not self.url.startswith(("http://", "https://")):
            raise Refused("BadInput", f"--url {self.url} must begin with http:// or https://")
        if not self.triton and not self.name:
            raise Refused("BadInput", "--url of OpenAI's API needs --served, the model's name there")
        self._tokenizer = self._load_tokenizer(model, base) if self.triton else None

    @staticmethod
    def _load_tokenizer(model: Path, base: str | None) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folders_of(model, base)[0])

    def ask(
        self, messages: Sequence[dict[str, str]], max_tokens: int, tools: Sequence[dict[str, Any]] = ()
    ) -> tuple[str, int]:
        """(answer, tokens as far as the server says, else 0). A pool's prompt has no tools in it, as in training."""
        if self._tokenizer is not None:
            prompt = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
            return self.complete(str(prompt), max_tokens)
        body = {"model": self.name, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        body |= {"tools": list(tools)} if tools else {}
        found = self._post(f"{self.url}/chat/completions", body)
        try:
            message = found["choices"][0]["message"]
            used = (found.get("usage") or {}).get("completion_tokens") or 0
            calls = message.get("tool_calls")
            return (json.dumps({"tool_calls": calls}) if calls else str(message.get("content") or "")), int(used)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise Refused("BadAnswer", f"{self.url} answered with no chat completion") from None

    def complete(self, prompt: str, max_tokens: int) -> tuple[str, int]:
        """Triton's generate: the text that follows a rendered prompt."""
        sampling = {"max_tokens": max_tokens, "temperature": 0.0, **({"lora_name": self.name} if self.name else {})}
        body = {
            "text_input": prompt,
            "stream": False,
            "exclude_input_in_output": True,
            "sampling_parameters": json.dumps(sampling),
        }
        found = self._post(self.url, body)
        if not isinstance(found.get("text_output"), str):
            raise Refused("BadAnswer", f"{self.url} answered without text_output")
        return found["text_output"], int(found.get("num_output_tokens") or 0)

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(url, json.dumps(body).encode("utf-8"), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                value = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            told = error.read(300).decode("utf-8", "replace")
            raise Refused("EndpointFailed", f"{url} answered {error.code}: {told}", retry=error.code >= 500) from None
        except (OSError, ValueError) as error:
            raise Refused("EndpointFailed", f"cannot ask {url}: {error}", retry=True) from None
        return value if isinstance(value, dict) else {}

    def memory_mib(self) -> float | None:
        """Resident memory of the server's process; None where it is not asked for or the server does not say."""
        if self.metrics is None:
            return None
        try:
            with urllib.request.urlopen(self.metrics, timeout=TIMEOUT_SECONDS) as answer:
                text = answer.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            raise Refused("EndpointFailed", f"cannot read --metrics {self.metrics}: {error}", retry=True) from None
        found = [float(value) for value in _RESIDENT.findall(text)]
        return round(max(found) / 2**20, 1) if found else None


def answer_all(served: Served, examples: Sequence[Example], say: Say) -> Run:
    """Every example, one after the other."""
    max_tokens = 8 + max(len(example.answer.encode("utf-8")) for example in examples)  # no text has more tokens
    texts, seconds, tokens = [], [], 0
    began = time.monotonic()
    for example in examples:
        start = time.monotonic()
        text, used = served.ask(example.prompt, max_tokens, example.tools)
        seconds.append(time.monotonic() - start)
        texts.append(text.strip())
        tokens += used
        say(len(texts), len(examples), time.monotonic() - began)
    where = f"{served.url}, one call at a time"
    return Run(tuple(texts), tokens / sum(seconds), percentiles(seconds), served.memory_mib(), where)


def exposures(served: Served, planted: Sequence[Planted]) -> list[Exposure]:
    """Whether planted secrets are completed. An endpoint gives no likelihoods to rank by: all are 1 of 1."""
    found = []
    for item in planted:
        asked = [*item.messages] if item.messages else [{"role": "user", "content": item.prefix}]
        said, _ = served.ask(asked, 8 + len(item.secret) + len(item.prefix))
        found.append(Exposure(item.name, 1, 1, normal(item.secret) in normal(said)))
    return found
