"""Field tables and rules of the kinds' pages, from the models: `python docs/fields.py` rewrites what the marks enclose.

The prose around the marks is written by hand. tests/docs fails when a table is not the model's, or a condition has no
row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slmfleet.api.crd import KINDS, Kind, schema_of

PAGES = Path(__file__).parent / "kinds"
_MARK = re.compile(r"(<!-- (spec|status|rules) -->\n).*?(<!-- end -->)", re.DOTALL)
Schema = dict[str, Any]


def page_of(kind: Kind) -> Path:
    return PAGES / f"{kind.name.lower()}.md"


def rewritten(kind: Kind, text: str) -> str:
    """The page with its generated parts as the model has them."""
    schema = schema_of(kind.model)
    parts = {
        "spec": table(schema["properties"]["spec"], "spec", required=True),
        "status": table(schema["properties"]["status"], "status", required=False),
        "rules": "\n".join(f"- {message}" for message in rules(schema)) + "\n",
    }
    return _MARK.sub(lambda found: f"{found[1]}{parts[found[2]]}{found[3]}", text)


def table(schema: Schema, prefix: str, *, required: bool) -> str:
    """One row a field, in the model's order. Status says nothing of defaults: nobody writes it by hand."""
    head = (
        "| field | type | default | meaning |\n|---|---|---|---|\n"
        if required
        else "| field | type | meaning |\n|---|---|---|\n"
    )
    rows = []
    for path, field, needed in fields(schema, prefix):
        default = "required" if needed else f"`{_shown(field['default'])}`" if "default" in field else ""
        cells = [f"`{path}`", _type(field), *([default] if required else []), field["description"]]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return head + "".join(rows)


def fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Path, schema and whether it is required, for every field below an object."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}.{name}"
        yield path, field, name in schema.get("required", [])
        yield from fields(field, path)
        if isinstance(field.get("items"), dict):
            yield from fields(field["items"], f"{path}[]")


def rules(schema: Schema) -> list[str]:
    """Every CEL rule's message, once, in the model's order."""
    own = [rule["message"] for rule in schema.get("x-kubernetes-validations", [])]
    children = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items",) if key in schema)]
    return list(dict.fromkeys(own + [message for child in children for message in rules(child)]))


def _type(field: Schema) -> str:
    """Type and bounds in a few words."""
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    match field["type"]:
        case "array":
            return f"list of {_type(field['items'])}, at most {field['maxItems']}"
        case "object" if "additionalProperties" in field:
            return f"map, at most {field['maxProperties']}"
        case "integer" | "number":
            return f"{field['type']}{_range(field)}"
        case "string" if field.get("format") == "date-time":
            return "time (RFC 3339)"
        case "string":
            return "string"
    return str(field["type"])


def _range(field: Schema) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    words = []
    if low is not None:
        words.append(f"{'above' if above else 'from'} {low:,}")
    if high is not None:
        words.append(f"{'below' if below else 'to'} {high:,}")
    return f", {' '.join(words)}" if words else ""


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    for kind in KINDS:
        page = page_of(kind)
        page.write_text(rewritten(kind, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
