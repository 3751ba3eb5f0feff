"""Names by the Router's LLM: what the discovery job is told, and what came of it.

The job holds the key of the log, so nothing opens a way out for it by itself: its pod has a label that the chart's
`networkPolicy.namingEgress` goes by. A missing key never stops it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.discovery import DiscoveryStatus
from slmfleet.api.router import RouterSpec
from slmfleet.plan.names import PART
from slmfleet.plan.pods import Object
from slmfleet.wire.discovery import Naming

KEY = "SLMFLEET_NAME_KEY"


@dataclass(frozen=True)
class Told:
    """Options, environment and labels of the discovery job's pod."""

    options: list[str] = field(default_factory=list)
    env: list[Object] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def told(spec: RouterSpec) -> Told:
    """For `discover`: nothing where tasks are called by their own words."""
    naming = spec.discovery.naming
    model = naming.model or spec.llm.model
    if naming.mode != "LLM" or model is None:
        return Told()
    options = ["--name-with", spec.llm.url, "--name-model", model]
    key = naming.api_key_secret_ref or spec.llm.api_key_secret_ref
    env: list[Object] = []
    if key is not None:
        options += ["--name-key-env", KEY]
        source = {"name": key.name, "key": key.key, "optional": True}
        env.append({"name": KEY, "valueFrom": {"secretKeyRef": source}})
    return Told(options, env, {f"{PART}/naming": "llm"})


def result(found: Naming | None) -> dict[str, object]:
    """What of a run goes into the discovery's status."""
    if found is None:
        return {"naming": None, "own_words": None}
    left = "; ".join(f"{count} by their own words: {why}" for why, count in found.own_words.items())
    kept = f", {found.kept} named before" if found.kept else ""
    text = f"{found.named} of {found.asked} asked about named by {found.model}{kept}" + (f"; {left}" if left else "")
    return {"naming": conditions.shortened(text), "own_words": sum(found.own_words.values())}


def note(spec: RouterSpec, status: DiscoveryStatus) -> tuple[Condition, ...]:
    """A condition that is no part of Ready: tasks have names in any case."""
    if spec.discovery.naming.mode != "LLM" or status.naming is None:
        return ()
    if not status.own_words:
        return (conditions.true("TasksNamed", "Named", f"run {status.run}: {status.naming}"),)
    return (conditions.false(
        "TasksNamed", "OwnWords", f"run {status.run}: {status.naming}. Check spec.llm.url, the model and its key, and "
        "that networkPolicy.namingEgress of the chart lets discovery jobs reach it; the next run asks again"),)
