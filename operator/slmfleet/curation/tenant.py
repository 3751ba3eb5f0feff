"""A tenant's own rules: a list of values to replace, patterns, and the model of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from slmfleet.curation.detect import Detector, TenantPattern
from slmfleet.curation.failures import CurationError
from slmfleet.curation.models import model_of
from slmfleet.wire.base import Strict
from slmfleet.wire.denylist import KIND, denied
from slmfleet.wire.jobs import RedactionRules


class PatternRule(Strict):
    """One pattern. Group `v` of the expression, where it has one, is the value; else all of it is."""

    kind: str = Field(pattern=KIND, description="Name in the report.")
    regex: str = Field(min_length=1, max_length=2_000, description="RE2's syntax.")
    ignore_case: bool = False


class PatternFile(Strict):
    """`--patterns`."""

    patterns: list[PatternRule] = Field(max_length=1_000)


def detector_of(
    model: str = "default", deny: Sequence[Path] = (), patterns: Path | None = None, keep: Iterable[str] = ()
) -> Detector:
    """The detector of a run. Raises CurationError where a file or the model cannot be used."""
    return Detector(
        model_of(model),
        tuple(entry for path in deny for entry in deny_list(path)),
        tuple(tenant_patterns(patterns)) if patterns is not None else (),
        frozenset(k.casefold() for k in keep),
        model,
    )


def rules_of(detector: Detector) -> RedactionRules:
    """What was asked for. The digest is of model and patterns: one of a private list could be guessed from."""
    patterns = [[p.kind, p.expression.regex, p.expression.ignore_case] for p in detector.patterns]
    stated = json.dumps([detector.name, patterns], separators=(",", ":"))
    return RedactionRules(
        model=detector.name,
        denied=len(detector.deny),
        patterns=[p.kind for p in detector.patterns],
        digest="sha256:" + hashlib.sha256(stated.encode()).hexdigest(),
    )


def deny_list(path: Path) -> list[tuple[str, str]]:
    """(value, kind) of each line (`wire.denylist`). Raises CurationError for one that cannot be used."""
    found = list(denied(_read("--deny", path)))
    for entry in found:
        if (fault := entry.fault) is not None:
            raise CurationError("DenyListInvalid", f"--deny {path} line {entry.line}: {fault}")
    return [(entry.value, entry.kind) for entry in found]


def tenant_patterns(path: Path) -> list[TenantPattern]:
    """The patterns of a YAML file."""
    try:
        file = PatternFile.model_validate(yaml.safe_load(_read("--patterns", path)))
    except (yaml.YAMLError, ValidationError) as error:
        where = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        name = ".".join(str(x) for x in where["loc"]) or "file"
        message = str(where["msg"]).splitlines()[0]
        raise CurationError("PatternsInvalid", f"--patterns {path}: {name}: {message}") from error
    return [_compiled(path, i, rule, len(file.patterns)) for i, rule in enumerate(file.patterns)]


def _compiled(path: Path, index: int, rule: PatternRule, count: int) -> TenantPattern:
    from slmfleet.wire.expressions import Expression, memory_of_one  # RE2 is needed by tenants' patterns alone

    try:
        return TenantPattern(rule.kind, Expression(rule.regex, rule.ignore_case, memory_of_one(count)))
    except ValueError as error:
        raise CurationError("PatternsInvalid", f"--patterns {path}: patterns.{index}.regex: {error}") from error


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CurationError("RulesNotReadable", f"{option} {path}: {what}") from error
