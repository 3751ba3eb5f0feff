"""CustomResourceDefinitions from the kinds' pydantic models.

pydantic speaks JSON Schema 2020-12; the API server takes a structural subset of OpenAPI v3. This module is the bridge,
and the table of what a model cannot say: names, printer columns, subresources, selectable fields.

What the API server refuses, and what is done about it: `$ref` and `$defs` (inlined), `anyOf` with null (absent, never
null), `const` (an enum of one), numeric exclusive bounds (bound and flag), `additionalProperties` beside `properties`
and `propertyNames` (dropped), defaults on objects whose rules read a defaulted child (only leaves have defaults).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from slmfleet.api.base import GROUP, VERSION, Model
from slmfleet.api.basemodel import BaseModel_
from slmfleet.api.router import Router
from slmfleet.api.specialist import Specialist
from slmfleet.api.taskcluster import TaskCluster

Schema = dict[str, Any]

CATEGORY = "slm"
# Names of Deployments, Services, Jobs and label values are made of it, so it is a DNS label with room for a suffix.
_NAME = {"type": "string", "maxLength": 48, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "description": "A DNS label."}
_DROPPED = frozenset({"title", "$defs", "discriminator", "propertyNames"})
_VERBATIM = frozenset({"default", "enum", "required", "x-kubernetes-validations", "x-kubernetes-list-map-keys"})


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    type: str
    path: str
    description: str
    priority: int = 0

    def manifest(self) -> Schema:
        shown = {"priority": self.priority} if self.priority else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description, **shown}


def _ready(name: str = "Ready") -> Column:
    path = '.status.conditions[?(@.type=="Ready")].status'
    return Column(name, "string", path, "Whether it does what its spec asks for.")


_AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since it was made.")
_REASON = Column(
    "Message", "string", '.status.conditions[?(@.type=="Ready")].message', "What is going on, or wrong.", priority=1
)


@dataclass(frozen=True)
class Kind:
    """One kind: its model, and what the model cannot say."""

    model: type[Model]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"


KINDS: tuple[Kind, ...] = (
    Kind(
        Router,
        "routers",
        ("slmr",),
        (
            _ready(),
            Column("Calls", "integer", ".status.captured", "Calls in the log."),
            Column("Specialist%", "number", ".status.specialistPercent", "Share of calls that specialists answered."),
            Column("Saved", "string", ".status.saved", "Saved so far, net of the pools' cost."),
            _AGE,
            Column("URL", "string", ".status.url", "Where agents send their calls.", priority=1),
            _REASON,
        ),
    ),
    Kind(
        TaskCluster,
        "taskclusters",
        ("tc",),
        (
            Column("Share%", "number", ".status.sharePercent", "Share of all calls."),
            Column("Calls", "integer", ".status.calls", "Calls in the log."),
            Column("Format", "string", ".spec.outputFormat.type", "What an answer looks like."),
            Column("Labels", "integer", ".status.labels", "Distinct answers, where they are a closed set."),
            Column("Specialist", "string", ".status.specialist", "The Specialist that serves it."),
            _AGE,
            Column("Description", "string", ".spec.description", "What the task is.", priority=1),
        ),
        selectable=(".spec.router",),
    ),
    Kind(
        Specialist,
        "specialists",
        ("spl",),
        (
            Column("Task", "string", ".spec.taskCluster", "TaskCluster it serves."),
            Column("Base", "string", ".status.base", "BaseModel in use."),
            Column("Stage", "string", ".status.stage", "What it is doing."),
            Column("Weight", "integer", ".status.weightPercent", "Percent of the task's conversations it answers."),
            Column("Score", "string", ".status.score", "The gate's figure."),
            _ready(),
            _AGE,
            _REASON,
        ),
        selectable=(".spec.taskCluster",),
    ),
    Kind(
        BaseModel_,
        "basemodels",
        ("bm",),
        (
            Column("Parameters", "integer", ".spec.parameters", "Number of parameters."),
            Column("Licence", "string", ".spec.licence", "SPDX identifier."),
            Column("Memory", "string", ".spec.memory", "Memory of one server."),
            Column("Chosen", "boolean", ".status.chosen", "Whether a Specialist uses it."),
            Column("Ready", "integer", ".status.readyReplicas", "Servers that answered."),
            Column("Wanted", "integer", ".status.replicas", "Servers wanted now."),
            _AGE,
            _REASON,
        ),
        scale={
            "specReplicasPath": ".spec.pool.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
)


class _AbsentNeverNull(GenerateJsonSchema):
    """`X | None` is the schema of X on a field that is not required; a default of None is no default."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return {k: v for k, v in super().default_schema(schema).items() if k != "default" or _is_leaf(v)}


def _is_leaf(default: Any) -> bool:
    return default is not None and default != [] and not isinstance(default, dict)


def schema_of(model: type[Model]) -> Schema:
    """The structural schema of a model, by alias, with every reference inlined."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_AbsentNeverNull, mode="validation")
    schema: Schema = _structural(raw, raw.get("$defs", {}))
    return schema


def _structural(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = _without_exclusive_bounds(_inlined(node, definitions))
    return {key: _child(key, value, definitions) for key, value in node.items() if key not in _DROPPED}


def _child(key: str, value: Any, definitions: Schema) -> Any:
    if key in _VERBATIM:
        return value
    if key == "properties":  # a map from names to schemas, not a schema itself
        return {name: _structural(schema, definitions) for name, schema in value.items()}
    return _structural(value, definitions)


def _inlined(node: Schema, definitions: Schema) -> Schema:
    """The referenced schema in place of a reference; what stands beside the reference wins, rules of both hold."""
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        both = target.get("x-kubernetes-validations", []) + node.get("x-kubernetes-validations", [])
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
        if both:
            node["x-kubernetes-validations"] = both
    if "const" in node:
        node = {**{k: v for k, v in node.items() if k != "const"}, "enum": [node["const"]]}
    if "properties" in node:
        node = {k: v for k, v in node.items() if k != "additionalProperties"}
    return node


def _without_exclusive_bounds(node: Schema) -> Schema:
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if isinstance(node.get(exclusive), int | float) and not isinstance(node[exclusive], bool):
            node = {**node, bound: node[exclusive], exclusive: True}
    return node


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of one kind."""
    scale = {"scale": dict(kind.scale)} if kind.scale else {}
    selectable = {"selectableFields": [{"jsonPath": path} for path in kind.selectable]} if kind.selectable else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": list(kind.short_names),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _root(kind.model)},
                    "subresources": {"status": {}, **scale},
                    "additionalPrinterColumns": [column.manifest() for column in kind.columns],
                    **selectable,
                }
            ],
        },
    }


def _root(model: type[Model]) -> Schema:
    schema = schema_of(model)
    head = {
        "apiVersion": {"type": "string", "maxLength": 64, "description": f"{GROUP}/{VERSION}."},
        "kind": {"type": "string", "maxLength": 64, "description": f"{model.__name__}."},
        "metadata": {"type": "object", "properties": {"name": _NAME}},
    }
    return {**schema, "properties": {**head, **schema["properties"]}}


def all_crds() -> dict[str, Schema]:
    """File name to CustomResourceDefinition, for every kind."""
    return {f"{kind.crd_name}.yaml": crd(kind) for kind in KINDS}
