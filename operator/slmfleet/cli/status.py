"""`slmfleet status` (`kubectl slm status`): one specialist as a tree, from cluster to weight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from slmfleet.cli.cluster import connect
from slmfleet.cli.problem import fail

Line = tuple[int, str]


def status(
    name: Annotated[str | None, typer.Argument(help="Specialist; absent: all.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig's.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="Default: $KUBECONFIG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the objects for a program.")] = False,
) -> None:
    """Print the tree of one specialist: cluster, dataset, base, training, gate, shadow, canary, weight."""
    import json

    found = asyncio.run(_fetch(name, namespace, kubeconfig))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for specialist in found:
        for depth, text in tree(specialist):
            typer.echo("  " * depth + text)


async def _fetch(name: str | None, namespace: str | None, kubeconfig: str | None) -> list[dict[str, Any]]:
    from slmfleet.kube.client import SPECIALIST, ApiError, NotFound

    kube = connect(namespace, kubeconfig)
    try:
        return [await kube.get(SPECIALIST, name)] if name else await kube.list(SPECIALIST)
    except NotFound:
        fail(f"there is no Specialist {name} in namespace {kube.namespace}; see kubectl get specialists")
    except ApiError as error:
        fail(str(error))


def tree(specialist: dict[str, Any]) -> Iterator[Line]:
    """Lines with their depth."""
    spec, found = specialist["spec"], specialist.get("status") or {}
    yield 0, f"Specialist {specialist['metadata']['name']}: {found.get('stage', 'new')}, " \
             f"{found.get('weightPercent', 0)} % of the task's conversations"
    yield 1, f"task        {spec['taskCluster']} (router {found.get('router', '?')})"
    yield 1, f"base        {found.get('base', 'not chosen yet')}: {found.get('baseReason', '')}"
    training = found.get("training") or {}
    yield from _trials(training.get("trials") or [])
    if training.get("key"):
        yield 1, f"in making   {training['key']} from cluster version {str(training.get('clusterVersion'))[:19]}, " \
                 f"{training.get('percent', 0):.0f} % trained, ray {training.get('rayJob', '-')}, " \
                 f"{training.get('restarts', 0)} restarts"
    if "refused" in training:
        yield from _gate(training["refused"])
    for role in ("stable", "candidate"):
        if role in found:
            yield from _revision(role, found[role])
    rollout = found.get("rollout") or {}
    if "candidate" in found:
        trial = rollout.get("trial") or {}
        yield 2, f"rollout   {rollout.get('stage')} {rollout.get('weightPercent', 0)} %: " \
                 f"{trial.get('good', 0)} good, {trial.get('bad', 0)} bad, {trial.get('verdict', 'continue')}"
    for condition in found.get("conditions") or []:
        yield 1, f"{condition['type']:<12}{condition['status']:<8}{condition['reason']}: {condition.get('message', '')}"
    for entry in found.get("history") or []:
        because = f" (made because of {entry['trigger']})" if "trigger" in entry else ""
        told = f"{entry['revision']} {entry['outcome']}: {entry.get('reason', '')}{because}"
        yield 1, f"history     {entry.get('time', '')} {told}"


def _trials(trials: list[dict[str, Any]]) -> Iterator[Line]:
    """Each base with what was measured of it."""
    for trial in trials:
        figure = trial.get("failure") or "not measured yet"
        if "estimate" in trial:
            figure = f"{trial['estimate']:.3f} [{trial['lower']:.3f}, {trial['upper']:.3f}] on {trial['n']}"
        yield 2, f"trial     {trial['base']}: {figure}"


def _gate(gate: dict[str, Any]) -> Iterator[Line]:
    """The figure, then every check that failed."""
    yield 2, f"gate      {gate['metric']} {gate['estimate']:.3f} [{gate['lower']:.3f}, {gate['upper']:.3f}] " \
             f"on {gate['n']}: {gate['verdict']}"
    for check in gate.get("checks") or []:
        if not check["passed"]:
            mark = "refuses" if check.get("required", True) else "noted"
            yield 3, f"{mark:<8}{check['name']} {check['reason']}: {check.get('message', '')}"


def _revision(role: str, revision: dict[str, Any]) -> Iterator[Line]:
    yield 1, f"{role:<12}{revision['name']} on {revision['base']}"
    links = [("because", "trigger"), ("cluster", "clusterVersion"), ("dataset", "dataset"), ("job", "trainingJob"),
             ("ray", "rayJob"), ("artifact", "artifact")]
    for label, key in links:
        if key in revision:
            yield 2, f"{label:<10}{revision[key]}"
    if "keptShare" in revision:
        yield 2, f"extracted {revision['keptShare']:.1%} of what was trained"
    if "evaluation" in revision:
        yield from _gate(revision["evaluation"])
    for trial in ("shadow", "canary"):
        if trial in revision:
            counts = revision[trial]
            yield 2, f"{trial:<10}{counts['good']} good, {counts['bad']} bad: {counts['verdict']}"
    if "promoted" in revision:
        yield 2, f"promoted  {revision['promoted']}"
