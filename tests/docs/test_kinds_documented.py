"""The kinds' pages are the kinds: every field, every rule, every condition and reason, and examples that are files."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import fields as pages  # noqa: E402

from slmfleet.api.crd import KINDS, Kind, schema_of  # noqa: E402

PLANS = {"Router": ["router.py", "auto.py", "cleanup.py", "redaction.py", "naming.py"], "TaskCluster": ["clusters.py"],
         "Specialist": ["specialist.py", "attempt.py", "declared.py", "retrain.py", "trial.py", "stages.py"],
         "BaseModel": ["pool.py"]}
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def text(kind: Kind) -> str:
    return pages.page_of(kind).read_text(encoding="utf-8")


def stated(module: Path) -> Iterator[tuple[str, str]]:
    """Type and reason of every condition that a module states with both as words: state("Ready", "Waiting", …)."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and len(node.args) >= 2 and called(node) in {"true", "false", "unknown", "state"}:
            types, reasons = words(node.args[0]), words(node.args[1])
            yield from ((type, reason) for type in types for reason in reasons)


def called(node: ast.Call) -> str:
    """The function's last name: `conditions.true` and `state` both state a condition."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def words(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch("[A-Z][A-Za-z]+", node.value):
        return [node.value]
    return words(node.body) + words(node.orelse) if isinstance(node, ast.IfExp) else []


def rows(page: str) -> dict[str, str]:
    """Condition type to its row in the table."""
    table = page.partition("## Conditions")[2].partition("## Status")[0]
    return {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", table, re.MULTILINE)}


@kinds
def test_tables_are_those_of_the_model(kind: Kind) -> None:
    assert pages.rewritten(kind, text(kind)) == text(kind), "run `python docs/fields.py`"


@kinds
def test_every_field_has_a_row(kind: Kind) -> None:
    schema = schema_of(kind.model)["properties"]
    paths = [path for part in ("spec", "status") for path, _, _ in pages.fields(schema[part], part)]
    assert [path for path in paths if f"| `{path}` |" not in text(kind)] == []


@kinds
def test_every_condition_and_reason_of_the_code_has_its_row(kind: Kind) -> None:
    documented = rows(text(kind))
    modules = [list(stated(ROOT / "operator" / "slmfleet" / "plan" / name)) for name in PLANS[kind.name]]
    assert all(modules), "no condition found: has the code moved?"
    found = [pair for pairs in modules for pair in pairs]
    missing = [f"{type}/{reason}" for type, reason in found if f"`{reason}`" not in documented.get(type, "")]
    assert missing == []


@kinds
def test_every_kind_documents_the_conditions_that_tools_read(kind: Kind) -> None:
    assert {"Ready", "Reconciling", "Stalled"} <= rows(text(kind)).keys()


@kinds
def test_the_pages_example_is_part_of_its_file(kind: Kind) -> None:
    """The page may leave things out; what it says, the file says too."""
    page = text(kind)
    file = re.search(r"\(\.\./\.\./(examples/[\w-]+\.yaml)\)", page)
    block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert file and block
    assert is_part(yaml.safe_load(block[1]), yaml.safe_load((ROOT / file[1]).read_text()))


def is_part(some: Any, whole: Any) -> bool:
    if isinstance(some, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in some.items())
    return bool(some == whole)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
