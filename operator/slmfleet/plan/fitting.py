"""The route table within what a ConfigMap takes: where it is too long, the largest specialists are left out of it.

Their calls go to the LLM as those of no task do, and everybody else's routes go on changing: a table that the API
server refuses would hold back roll-backs, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.wire.packing import LIMIT_BYTES, compressed, fits
from slmfleet.wire.routes import Declared, RouteTable, Signature, SpecialistRoute


@dataclass(frozen=True)
class LeftOut:
    """A specialist that the table has no room for, nor for the declared signature of its task. `field`: of its
    TaskCluster, the largest, with its bytes."""

    specialist: str
    cluster: str
    field: str
    size: int


def fitted(table: RouteTable) -> tuple[RouteTable, tuple[LeftOut, ...]]:
    """The table with as many specialists as there is room for, the smallest first; and who is left out, by name."""
    if fits(table.model_dump_json(exclude_none=True)):
        return table, ()
    # Together they take no more than one by one.
    declared = {each.cluster: each for each in table.declared}
    parts = {route.name: (route, declared.get(route.cluster)) for route in table.specialists}
    sizes = {name: sum(len(compressed(part.model_dump_json(exclude_none=True))) for part in both if part is not None)
             for name, both in parts.items()}
    rest = table.model_copy(update={"specialists": [], "declared": []})
    room = LIMIT_BYTES - len(compressed(rest.model_dump_json(exclude_none=True)))
    kept = set()
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        room -= sizes[name]
        if room < 0:
            break
        kept.add(name)
    inside = [route for route in table.specialists if route.name in kept]
    outside = (_left_out(*parts[route.name]) for route in table.specialists if route.name not in kept)
    served = {route.cluster for route in inside}
    told = [each for each in table.declared if each.cluster in served]  # the others only keep calls from the classifier
    return table.model_copy(update={"specialists": inside, "declared": told}), tuple(outside)


def note(left_out: Sequence[LeftOut]) -> tuple[Condition, ...]:
    """What is said of it; nothing where all have room."""
    if not left_out:
        return ()
    worst = sorted(left_out, key=lambda each: (-each.size, each.specialist))
    told = "; ".join(f"{each.specialist}: spec.{each.field} of TaskCluster {each.cluster} has {each.size:,} bytes"
                     for each in worst)
    return (conditions.false(
        "SpecialistsRouted", "TableTooLarge",
        f"the route table is larger than a ConfigMap takes ({LIMIT_BYTES:,} bytes, compressed), so the LLM answers the "
        f"calls of {len(worst)} Specialists. Shorten the fields, or spread the agents over Routers. {told}"),)


def _left_out(route: SpecialistRoute, declared: Declared | None) -> LeftOut:
    signature = declared.signature if declared else Signature(fingerprints=route.fingerprints)
    output = route.output.model_dump_json(include={"json_schema"}), route.output.model_dump_json(include={"labels"})
    sizes = {"outputFormat.jsonSchema": len(output[0]), "outputFormat.labels": len(output[1]),
             "signature.fingerprints": sum(len(each) for each in signature.fingerprints),
             "signature.systemPrompt": len(signature.system_prompt or "")}
    largest = max(sizes, key=lambda field: sizes[field])
    return LeftOut(route.name, route.cluster, largest, sizes[largest])
