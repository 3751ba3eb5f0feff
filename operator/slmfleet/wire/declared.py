"""Tasks that a person declared: TaskCluster manifests as files, and what of them jobs and gateways are told.

One reading of a manifest for `slmfleet curate`, the jobs and the route table. Unknown keys are refused by name; what
the API server adds (status, other metadata) is passed over, so that `kubectl get -o yaml` can be read as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from slmfleet.wire.base import Strict
from slmfleet.wire.routes import OutputFormat, Signature

API_VERSION = "slmfleet.dev/v1alpha1"
LISTS = ("List", "TaskClusterList")


class DeclaredTask(Strict):
    """One task: how its calls are recognised, and what a valid answer to them is."""

    name: str = Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    description: str = ""
    signature: Signature = Signature()
    output_format: OutputFormat = OutputFormat()

    @property
    def version(self) -> str:
        """Digest of what decides which calls are its own and which answers are valid: `sha256:<hex>`."""
        stated = [part.model_dump(exclude_defaults=True) for part in (self.signature, self.output_format)]
        return "sha256:" + hashlib.sha256(orjson.dumps(stated, option=orjson.OPT_SORT_KEYS)).hexdigest()


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class _Signature(_Camel):
    fingerprints: list[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]] = []
    tools: list[str] = []
    response_format: str | None = None
    system_prompt: str | None = None


class _Output(_Camel):
    type: Literal["json", "label", "tool", "text"] = "text"
    json_schema: str | None = None
    labels: list[str] | None = None


class _Spec(_Camel):
    router: str | None = None
    title: str | None = None
    description: str = ""
    signature: _Signature = _Signature()
    output_format: _Output = _Output()
    metric: str = "auto"


class _Metadata(BaseModel):
    name: str


class _Manifest(_Camel):
    api_version: Literal["slmfleet.dev/v1alpha1"]
    kind: Literal["TaskCluster"]
    metadata: _Metadata
    spec: _Spec
    status: Any = None


def parse_tasks(text: str) -> list[DeclaredTask]:
    """The TaskClusters of YAML documents; objects of other kinds are passed over. Raises ValueError with the field."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ValueError(f"neither YAML nor JSON: {' '.join(str(error).split())[:300]}") from error
    tasks = [_task(each) for document in documents for each in _objects(document)]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"metadata.name: {name} is declared twice")
    return tasks


def _objects(document: Any) -> list[Any]:
    if document is None:
        return []
    if not isinstance(document, dict):
        raise ValueError("not a Kubernetes object")
    items = document.get("items")
    found = items if document.get("kind") in LISTS and isinstance(items, list) else [document]
    return [each for each in found if not isinstance(each, dict) or each.get("kind") in (None, "TaskCluster")]


def _task(document: Any) -> DeclaredTask:
    try:
        manifest = _Manifest.model_validate(document)
        spec = manifest.spec
        form = OutputFormat(
            type=spec.output_format.type,
            json_schema=_schema(spec.output_format.json_schema),
            labels=spec.output_format.labels,
        )
        if form.type == "label" and not form.labels:
            raise ValueError("spec.outputFormat.labels: is required when outputFormat.type is label")
        return DeclaredTask(
            name=manifest.metadata.name,
            description=spec.description,
            signature=Signature.model_validate(spec.signature.model_dump()),
            output_format=form,
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'TaskCluster'}: {first['msg']}") from error


def _schema(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"spec.outputFormat.jsonSchema: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError("spec.outputFormat.jsonSchema: not a JSON object")
    return found


def manifests(tasks: Sequence[DeclaredTask]) -> str:
    """Tasks as the manifests that `parse_tasks` reads, each a YAML document."""
    return yaml.safe_dump_all([_manifest(task) for task in tasks], sort_keys=True, allow_unicode=True)


def _manifest(task: DeclaredTask) -> dict[str, Any]:
    form = task.output_format
    output: dict[str, Any] = {"type": form.type}
    if form.json_schema is not None:
        output["jsonSchema"] = orjson.dumps(form.json_schema, option=orjson.OPT_SORT_KEYS).decode()
    if form.labels is not None:
        output["labels"] = form.labels
    given = task.signature.model_dump(exclude_defaults=True)
    spec = {"signature": {to_camel(key): value for key, value in given.items()}, "outputFormat": output}
    if task.description:
        spec["description"] = task.description  # type: ignore[assignment]
    return {"apiVersion": API_VERSION, "kind": "TaskCluster", "metadata": {"name": task.name}, "spec": spec}
