"""Declared tasks in the stages of curation: read from manifests, and asked before anything that discovery found.

Discovery seeks tasks among the other calls, and does not teach its classifier on theirs. They are counted and described
as the tasks that it finds, so that a declared one has a share, a drift and a suitability as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from slmfleet.curation.calls import Call
from slmfleet.curation.failures import CurationError
from slmfleet.curation.shapes import COPIED_CALLS, copied_fields, label_field, narrowness, shape_of
from slmfleet.curation.tasks import Group
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


def claims(tasks: Sequence[DeclaredTask], calls: Iterable[Call]) -> dict[str, str]:
    """Whose the calls of declared tasks are, by their ids."""
    asked = Signatures((task.name, task.signature) for task in tasks)
    owners = ((call.id, asked.owner(call.frame, call.fingerprint)) for call in calls)
    return {call: name for call, name in owners if name is not None}


def groups(
    tasks: Sequence[DeclaredTask], calls: Sequence[Call], claimed: Mapping[str, str]
) -> Iterator[tuple[DeclaredTask, Group, list[Call]]]:
    """Each declared task with answered calls in the log, by name. Of a group, nothing is known of who else is in it."""
    for task in sorted(tasks, key=lambda task: task.name):
        members = [c for c in calls if claimed.get(c.id) == task.name and c.set_aside is None]
        if not members:
            continue
        shapes = [shape_of(c) for c in members]
        copied = copied_fields([c.frame.user for c in members[:COPIED_CALLS]], shapes)
        kind, verdict = Counter(s.kind for s in shapes).most_common(1)[0][0], narrowness(members, shapes)
        yield task, Group([], label_field(shapes, copied=copied), kind, verdict.narrow, verdict.reason), members
