"""Cuts OpenAI's description of its API down to the paths that the gateway serves.

    python3 tests/golden/openai/cut.py openapi.json COMMIT > tests/golden/openai/description.json

(openapi.json: of github.com/openai/openai-openapi.) Prose, examples and vendor extensions are left out, and the schemas
of answers but for those that the gateway gives itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OPERATIONS = {
    "/chat/completions": "post",
    "/completions": "post",
    "/responses": "post",
    "/embeddings": "post",
    "/models": "get",
    "/models/{model}": "get",
}
OWN_ANSWERS = ("/chat/completions", "/models", "/models/{model}")
ALSO = ("CreateChatCompletionStreamResponse", "ErrorResponse")
_PROSE = frozenset(
    ("description", "summary", "title", "example", "examples", "tags", "deprecated", "externalDocs", "discriminator")
)


def cut(whole: dict[str, Any], commit: str) -> dict[str, Any]:
    paths = {path: {method: _operation(path, whole["paths"][path][method])} for path, method in OPERATIONS.items()}
    wanted = [f"#/components/schemas/{name}" for name in ALSO] + list(_references(paths))
    components: dict[str, dict[str, Any]] = {}
    while wanted:
        kind, name = wanted.pop().split("/")[2:]
        if name not in components.setdefault(kind, {}):
            components[kind][name] = _bare(whole["components"][kind][name])
            wanted += _references(components[kind][name])
    info = {"title": f"OpenAI's API, cut from openai/openai-openapi@{commit}", "version": whole["info"]["version"]}
    return {"openapi": whole["openapi"], "info": info, "paths": paths, "components": components}


def _operation(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    kept = {name: _bare(operation[name]) for name in ("operationId", "parameters", "requestBody") if name in operation}
    answer = _bare(operation["responses"]["200"]) if path in OWN_ANSWERS else {}
    return {**kept, "responses": {"200": {"description": "", **answer}}}


def _bare(value: Any, *, names: bool = False) -> Any:
    """Without prose. In `properties` the keys are names of fields, which may be called like prose."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _bare(item, names=key in ("properties", "schemas"))
        for key, item in value.items()
        if names or not (key in _PROSE or key.startswith("x-"))
    }


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for item in value.values() for found in _references(item)]


if __name__ == "__main__":
    json.dump(cut(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]), sys.stdout, indent=None, sort_keys=True)
    print()
