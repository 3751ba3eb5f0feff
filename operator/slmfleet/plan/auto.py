"""`discovery.mode: Auto`: a Specialist for each task that is found suitable and has none.

It is made once and never written again, so what a person changes in it stays. One that is deleted is made again while
its task is suitable: `suspend` it, or set the mode to Suggest. Its owner is the Router.
"""

from __future__ import annotations

from collections.abc import Sequence

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.plan.config import Config
from slmfleet.plan.facts import RouterFacts, RouterObject
from slmfleet.plan.names import labels, owner_reference
from slmfleet.plan.pods import Object


def specialists(config: Config, me: RouterObject, facts: RouterFacts) -> tuple[tuple[Object, ...], Condition | None]:
    """The Specialists to make now, and how that stands; no condition where nothing is to be made by itself."""
    template = me.spec.discovery.specialist
    if me.spec.discovery.mode != "Auto" or template is None:
        return (), None
    if not config.auto_specialists:
        return (), conditions.false(
            "SpecialistsMade",
            "NotAllowed",
            "the operator may not make Specialists; install with --set autoSpecialists=true",
        )
    served = {each.spec.task_cluster for each in facts.specialists.values()}
    suitable = {
        name
        for name, cluster in facts.clusters.items()
        if cluster.spec.router == me.meta.name
        and cluster.status.suitability is not None
        and cluster.status.suitability.verdict == "Specialise"
    }
    taken = sorted((suitable - served) & set(facts.specialists))
    spec = template.model_dump(by_alias=True, exclude_none=True, mode="json")
    made = tuple(_specialist(me, name, spec) for name in sorted(suitable - served - set(facts.specialists)))
    if taken:
        return made, conditions.false(
            "SpecialistsMade",
            "NameTaken",
            f"a Specialist of another task has the name that this task's would have: "
            f"{', '.join(taken)}; make one for it by hand",
        )
    if made:
        names = ", ".join(each["metadata"]["name"] for each in made)
        return made, conditions.unknown(
            "SpecialistsMade",
            "Making",
            f"{names}; one that stays here is refused by the API server, in words of the operator's log",
        )
    return made, conditions.true(
        "SpecialistsMade", "AllMade", f"{len(suitable)} suitable tasks, each with its Specialist"
    )


def events(me: RouterObject, made: Sequence[Object]) -> list[tuple[str, str]]:
    """What is told of them, once: one that the API server refuses is asked for again and again."""
    stated = conditions.find(me.status.conditions, "SpecialistsMade")
    if stated is not None and stated.reason == "Making":
        return []
    return [("SpecialistMade", f"{each['metadata']['name']}: its task was found suitable") for each in made]


def _specialist(me: RouterObject, cluster: str, spec: Object) -> Object:
    return {
        "apiVersion": "slmfleet.dev/v1alpha1",
        "kind": "Specialist",
        "metadata": {
            "name": cluster,
            "labels": labels("discovery", "Router", me.meta.name),
            "ownerReferences": owner_reference("Router", me.meta.name, me.meta.uid),
        },
        "spec": {"taskCluster": cluster, **spec},
    }
