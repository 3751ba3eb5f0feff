"""`slmfleet select`: S4's ranking of base models for one task, from files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from slmfleet.api.basemodel import BaseModelSpec
from slmfleet.api.specialist import BaseLimits
from slmfleet.cli.problem import fail, read
from slmfleet.plan.select import Need, declared_need, rank, task_types
from slmfleet.wire.declared import parse_tasks


def select_base(
    cluster: Annotated[str, typer.Option(help="Name of the task.")],
    models: Annotated[Path, typer.Option(help="Folder with BaseModel manifests (*.yaml).")],
    clusters: Annotated[
        Path | None, typer.Option(help="Folder that discover wrote, for the task's lengths; or a file of TaskClusters.")
    ] = None,
    max_memory: Annotated[str | None, typer.Option(help="E.g. 8Gi.")] = None,
    max_parameters: Annotated[int | None, typer.Option(help="Most parameters.")] = None,
    licence: Annotated[list[str] | None, typer.Option(help="Accepted SPDX identifiers; default: permissive.")] = None,
    outputs_may_train: Annotated[
        bool, typer.Option("--outputs-may-train", help="Only bases whose outputs may train other models.")
    ] = False,
    capability: Annotated[
        list[str] | None, typer.Option(help="Only bases that state it, e.g. tool-calling; more than once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Rank base models for one task, best first, each with the reason for its place."""
    limits = _limits(max_memory=max_memory, max_parameters=max_parameters, licences=licence,
                     outputs_may_train=outputs_may_train, capabilities=capability or [])
    ranked = rank(_models(models), limits, _need(clusters, cluster))
    if as_json:
        typer.echo(json.dumps({"cluster": cluster, "ranking": [asdict(found) for found in ranked]}))
        return
    for place, found in enumerate(ranked, 1):
        typer.echo(f"{place:>2}. {found.name:<24} {'yes' if found.suitable else 'no ':<4} {found.reason}")


def _limits(**given: Any) -> BaseLimits:
    try:
        return BaseLimits(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"licences": "licence", "capabilities": "capability"}.get(str(first["loc"][0]), str(first["loc"][0]))
        fail(f"--{option.replace('_', '-')}: {first['msg']}")


def _models(folder: Path) -> dict[str, BaseModelSpec]:
    if not folder.is_dir():
        fail(f"--models {folder}: there is no such folder")
    found: dict[str, BaseModelSpec] = {}
    for file in sorted(folder.glob("*.yaml")):
        for document in _documents(file):
            if isinstance(document, dict) and document.get("kind") == "BaseModel":
                found[_name(file, document)] = _spec(file, document)
    if not found:
        fail(f"--models {folder}: no BaseModel in its *.yaml files")
    return found


def _documents(file: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(read("", file)))
    except yaml.YAMLError as error:
        fail(f"{file}: not YAML: {' '.join(str(error).split())}")


def _name(file: Path, document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else fail(f"{file}: a BaseModel without metadata.name")


def _spec(file: Path, document: dict[str, object]) -> BaseModelSpec:
    try:
        return BaseModelSpec.model_validate(document.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"{file}: spec.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _need(clusters: Path | None, name: str) -> Need:
    if clusters is None:
        return Need()
    if clusters.is_file():
        return _need_as_declared(clusters, name)
    file = clusters / "clusters.json"
    found = _tasks(file)
    task = next((c for c in found if c["name"] == name), None)
    if task is None:
        fail(f"--cluster {name}: not in {file}; it has {', '.join(c['name'] for c in found) or 'none'}")
    longest = task.get("input_tokens_p99") or task.get("input_tokens_p95") or 0
    form, tools = task.get("output_format", {}).get("type", "text"), task.get("signature", {}).get("tools")
    tasks = task_types(form, bool(tools))
    return Need(context_tokens=int(longest * 9 / 8), tasks=tasks)


def _need_as_declared(file: Path, name: str) -> Need:
    try:
        tasks = {task.name: task for task in parse_tasks(read("--clusters ", file))}
    except ValueError as error:
        fail(f"--clusters {file}: {error}")
    if name not in tasks:
        fail(f"--cluster {name}: not in {file}; it has {', '.join(tasks) or 'none'}")
    task = tasks[name]
    return declared_need(task.output_format.type, task.signature.tools, task.signature.system_prompt, None)


def _tasks(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(read("--clusters ", file))
    except ValueError:
        fail(f"--clusters {file}: not JSON")
    found = content.get("clusters") if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in found):
        fail(f"--clusters {file}: no list of named clusters; name a folder that `slmfleet discover` wrote")
    return found
