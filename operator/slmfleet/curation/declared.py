"""Declared tasks in the stages of curation: read from manifests, and asked before anything that discovery found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slmfleet.curation.failures import CurationError
from slmfleet.recognise.signature import Signatures
from slmfleet.wire import routes
from slmfleet.wire.declared import DeclaredTask, parse_tasks
from slmfleet.wire.discovery import FoundCluster, Signature


def read_declared(path: Path) -> list[DeclaredTask]:
    """The TaskCluster manifests of a file. Raises CurationError with the field that is wrong."""
    try:
        tasks = parse_tasks(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CurationError("ClustersNotReadable", f"{path}: {error}") from error
    if not tasks:
        raise CurationError("ClustersNotReadable", f"{path}: holds no TaskCluster")
    return tasks


def signature_of(task: DeclaredTask) -> Signature:
    """A declared signature as clusters.json has one."""
    return Signature.model_validate(task.signature.model_dump())


def undiscovered(task: DeclaredTask) -> FoundCluster:
    """The task before any log was read: what was declared of it, and nothing measured."""
    return FoundCluster(
        name=task.name, version=task.version, description=task.description, size=0, share=0.0,
        signature=signature_of(task), output_format=task.output_format, declared=True,
    )  # fmt: skip


def signatures(clusters: Iterable[FoundCluster]) -> Signatures:
    """The declared ones among clusters."""
    return Signatures((c.name, _stated(c.signature)) for c in clusters if c.declared)


def _stated(signature: Signature) -> routes.Signature:
    return routes.Signature.model_validate(signature.model_dump(exclude={"api"}))


def no_signature(name: str) -> str:
    """What is said of a declared task that nothing is known by."""
    return (
        f"TaskCluster {name} does not say how its calls are recognised; give spec.signature systemPrompt, tools or "
        "responseFormat, or fingerprints"
    )
