"""JSON schemas made ready; those that callers send are kept for the next call that sends the same.

A caller's schema is untrusted. Refused are those that are long, that are no schema, or that hold regular expressions
(one can take for ever, and nothing else runs meanwhile); references are never fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import validators
from jsonschema.exceptions import SchemaError
from referencing import Registry

MAX_BYTES = 65_536
KEPT_BYTES = 8_192
KEPT = 512
Fits = Callable[[Any], bool]
"""Whether a value fits the schema. Never raises: what cannot be applied fits nothing."""


def validator_of(schema: dict[str, Any]) -> Any:
    """A validator of jsonschema's. Raises ValueError for what is no schema."""
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.message[:200]}") from error
    # A registry of its own: without one, jsonschema fetches remote references over the network.
    return kind(schema, registry=Registry())


def fits(schema: Any) -> Fits:
    """The check of a schema. Raises ValueError for one that is refused."""
    data = orjson.dumps(schema)
    if len(data) > MAX_BYTES:
        raise ValueError(f"a schema of more than {MAX_BYTES} bytes")
    return _kept(data) if len(data) <= KEPT_BYTES else _compile(data)


@lru_cache(maxsize=KEPT)
def _kept(data: bytes) -> Fits:
    return _compile(data)


def _compile(data: bytes) -> Fits:
    if b'"pattern' in data:
        raise ValueError("a schema with regular expressions")
    schema = orjson.loads(data)
    if not isinstance(schema, dict):
        raise ValueError("not a JSON schema")
    validator = validator_of(schema)

    def check(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except Exception:
            return False

    return check
