"""A base model's chat template, applied as transformers' `apply_chat_template` does, without transformers.

Same engine (an immutable sandboxed Jinja environment with trimmed blocks and loop controls), same globals and
filters, same variables. Training and serving must see the same prompt to the letter, so nothing is added here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Render = Callable[[list[dict[str, Any]]], str]
"""Chat messages to the prompt's text. Raises TemplateError."""


class _Generation(Extension):
    """`{% generation %}` marks the answer for training masks; when rendering it is only its content."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


@lru_cache(maxsize=64)
def compile_template(template: str, bos_token: str = "", eos_token: str = "") -> Render:
    """Compile a chat template. Raises ValueError when it is not one."""
    try:
        compiled = _environment().from_string(template)
    except TemplateError as error:
        raise ValueError(f"not a chat template: {error}") from error

    def render(messages: list[dict[str, Any]]) -> str:
        return compiled.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            bos_token=bos_token,
            eos_token=eos_token,
        )

    return render


def plain_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as templates of text models expect them: content parts joined by lines, `developer` as `system`."""
    return [_plain(message) for message in messages]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    content, role = message.get("content"), message.get("role")
    if isinstance(content, str) and role != "developer":
        return message
    if isinstance(content, list):
        content = "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
    return {**message, "role": "system" if role == "developer" else role, "content": content or ""}


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)
