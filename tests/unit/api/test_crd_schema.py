"""The generated schemas, walked: nothing undescribed, nothing unbounded, nothing that the API server refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from slmfleet.api.base import Model, rules
from slmfleet.api.crd import KINDS, Kind, crd, schema_of

FORBIDDEN = {"$ref", "$defs", "const", "anyOf", "oneOf", "allOf", "title", "propertyNames", "discriminator"}
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Path, schema, and whether it is a field (which has a description) or an item of a list or map."""
    yield from _children(schema, path)


def _children(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child, True
        yield from _children(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(child := schema.get(key), dict):
            yield f"{path}{mark}", child, False
            yield from _children(child, f"{path}{mark}")


def root(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def is_bounded(schema: dict[str, Any]) -> bool:
    match schema["type"]:
        case "string":
            return bool(schema.keys() & {"maxLength", "enum", "format"})
        case "array":
            return "maxItems" in schema
        case "object" if "additionalProperties" in schema:
            return "maxProperties" in schema
    return True


@kinds
def test_every_field_is_described(kind: Kind) -> None:
    silent = [path for path, schema, field in nodes(root(kind)) if field and not schema.get("description")]
    assert [path for path in silent if path != ".metadata"] == []


@kinds
def test_every_description_is_a_sentence(kind: Kind) -> None:
    texts = {path: schema.get("description", "") for path, schema, field in nodes(root(kind)) if field}
    assert [path for path, text in texts.items() if text and not text.endswith(".")] == []


@kinds
def test_every_string_list_and_map_is_bounded(kind: Kind) -> None:
    assert [path for path, schema, _ in nodes(root(kind)) if not is_bounded(schema)] == []


@kinds
def test_every_node_has_a_type(kind: Kind) -> None:
    assert [path for path, schema, _ in nodes(root(kind)) if "type" not in schema] == []


@kinds
def test_nothing_that_the_server_refuses_is_left(kind: Kind) -> None:
    assert [path for path, schema, _ in nodes(root(kind)) if schema.keys() & FORBIDDEN] == []


@kinds
def test_only_leaves_have_defaults(kind: Kind) -> None:
    defaults = {path: schema["default"] for path, schema, _ in nodes(root(kind)) if "default" in schema}
    assert [path for path, value in defaults.items() if value is None or isinstance(value, dict) or value == []] == []


@kinds
def test_a_default_keeps_to_its_own_bounds(kind: Kind) -> None:
    for path, schema, _ in nodes(root(kind)):
        if "default" in schema and schema["type"] in ("integer", "number"):
            assert schema.get("minimum", float("-inf")) <= schema["default"] <= schema.get("maximum", float("inf")), (
                path
            )


@kinds
def test_conditions_are_a_list_map_with_observed_generation(kind: Kind) -> None:
    conditions = root(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "observedGeneration" in conditions["items"]["properties"]
    assert "observedGeneration" in root(kind)["properties"]["status"]["properties"]


@kinds
def test_columns_show_fields_that_exist(kind: Kind) -> None:
    paths = {path for path, _, _ in nodes(root(kind))}
    shown = [column.path for column in kind.columns if not column.path.startswith((".metadata", ".status.conditions"))]
    assert [path for path in (*shown, *kind.selectable, *(kind.scale or {}).values()) if path not in paths] == []


def test_names_are_unique_and_clash_with_nothing_common() -> None:
    names = [name for kind in KINDS for name in (kind.plural, kind.name.lower(), *kind.short_names)]
    assert len(names) == len(set(names))
    assert not set(names) & {"po", "svc", "deploy", "cm", "ns", "pv", "pvc", "sa", "rs", "ds", "sts", "ing", "ep", "ev"}


class Leaf(Model):
    """A leaf."""

    size: float = Field(1, gt=0, lt=5, description="Size.")
    kind: Literal["only"] = Field("only", description="Kind.")
    note: Annotated[str, Field(max_length=9)] | None = Field(None, description="Note.")
    marks: dict[Annotated[str, Field(max_length=5)], str] | None = Field(None, max_length=3, description="Marks.")


class Branch(Model):
    """A branch."""

    leaf: Leaf = Field(description="The leaf of this branch.", json_schema_extra=rules(("self == oldSelf", "fixed")))


def test_pydantic_becomes_structural() -> None:
    """The bridge's rules by one small example each: exclusive bounds, const, null, key schemas, references."""
    assert schema_of(Branch)["properties"]["leaf"] == {
        "type": "object",
        "description": "The leaf of this branch.",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed"}],
        "properties": {
            "size": {
                "type": "number", "default": 1, "description": "Size.",
                "minimum": 0, "exclusiveMinimum": True, "maximum": 5, "exclusiveMaximum": True,
            },
            "kind": {"type": "string", "enum": ["only"], "default": "only", "description": "Kind."},
            "note": {"type": "string", "maxLength": 9, "description": "Note."},
            "marks": {
                "type": "object", "maxProperties": 3, "description": "Marks.",
                "additionalProperties": {"type": "string"},
            },
        },
    }  # fmt: skip
