"""The declared form of an answer, as gateways and jobs read it."""

from __future__ import annotations

import json
from typing import Any

from slmfleet.api.base import OutputFormat
from slmfleet.wire import routes


def output(wanted: OutputFormat) -> routes.OutputFormat:
    """The same with its schema parsed."""
    return routes.OutputFormat(type=wanted.type, json_schema=parsed_schema(wanted),
                               labels=list(wanted.labels) if wanted.labels else None)


def parsed_schema(wanted: OutputFormat) -> dict[str, Any] | None:
    """The schema as JSON; None where there is none, or where the text is no JSON object (CEL cannot check that)."""
    try:
        found = json.loads(wanted.json_schema or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


