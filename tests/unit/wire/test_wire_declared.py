"""TaskCluster manifests as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmfleet.wire.declared import DeclaredTask, manifests, parse_tasks
from slmfleet.wire.routes import OutputFormat, Signature

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: slmfleet.dev/v1alpha1\nkind: TaskCluster\nmetadata: {name: a}\n"


def test_the_example_can_be_read() -> None:
    (task,) = parse_tasks((ROOT / "examples/taskcluster.yaml").read_text("utf-8"))
    assert task.signature.given and task.output_format.labels


def test_what_is_written_for_a_job_is_read_as_it_was() -> None:
    tasks = [
        DeclaredTask(name="a", description="d: é", signature=Signature(system_prompt="x\n\ty # no: 1", tools=["t"]),
                     output_format=OutputFormat(type="json", json_schema={"type": "object"})),
        DeclaredTask(name="b", signature=Signature(fingerprints=["sha256:" + "0" * 64], response_format="json_object"),
                     output_format=OutputFormat(type="label", labels=["no", "1", "on"])),
    ]  # fmt: skip
    assert parse_tasks(manifests(tasks)) == tasks


def test_other_objects_are_passed_over_and_lists_are_read() -> None:
    inner = HEAD.replace("\n", "\n  ")
    text = f"kind: Router\n---\n---\nkind: List\nitems:\n- kind: Specialist\n- {inner}spec: {{}}"
    assert [task.name for task in parse_tasks(text)] == ["a"]


WRONG = [
    ("spec: {signature: {systemprompt: x}}", "spec.signature.systemprompt"),
    ("spec: {signature: {fingerprints: [abc]}}", "spec.signature.fingerprints.0"),
    ("spec: {outputFormat: {type: label}}", "spec.outputFormat.labels"),
    ("spec: {outputFormat: {type: json, jsonSchema: '{'}}", "spec.outputFormat.jsonSchema"),
    ("spec: {outputFormat: {type: json, jsonSchema: '[]'}}", "spec.outputFormat.jsonSchema"),
    ("spec: {metrik: x}", "spec.metrik"),
    ("", "spec"),
    ("spec: {}\n---\n" + HEAD + "spec: {}", "declared twice"),
    ("spec: {", "YAML"),
    ("spec: {}\n---\n[]", "not a Kubernetes object"),
]


@pytest.mark.parametrize("text, field", WRONG, ids=[row[1] for row in WRONG])
def test_what_is_wrong_is_named_by_its_field(text: str, field: str) -> None:
    with pytest.raises(ValueError, match=field.replace(".", r"\.")):
        parse_tasks(HEAD + text)


def test_a_version_says_what_the_task_is_and_not_how_it_is_described() -> None:
    one = DeclaredTask(name="a", signature=Signature(tools=["t"]))
    assert one.model_copy(update={"description": "other words"}).version == one.version
    assert one.model_copy(update={"signature": Signature(tools=["u"])}).version != one.version
    assert one.model_copy(update={"output_format": OutputFormat(type="tool")}).version != one.version
