"""`slmfleet explain-route` (`kubectl slm explain-route ROUTER`): where one call would go, and why.

By a route table (a file, or a Router's in the cluster), or by a classifier alone. Nothing is sent anywhere.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slmfleet.cli.cluster import connect
from slmfleet.cli.problem import fail, read

if TYPE_CHECKING:
    from slmfleet.gateway.explain import Explanation
    from slmfleet.recognise import Classifier
    from slmfleet.wire.routes import RouteTable


def explain_route(
    router: Annotated[str | None, typer.Argument(help="Router whose route table the cluster has.")] = None,
    table: Annotated[Path | None, typer.Option(help="A route table as a file, instead of a Router.")] = None,
    classifier: Annotated[Path | None, typer.Option(help="classifier.npz; alone: ask nothing else.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the store: the table's classifier is in it.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A user text.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt to send with --prompt.")] = None,
    model: Annotated[str | None, typer.Option(help="The call's model, with --prompt.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME:VALUE of the call; may be given again.")] = None,
    request: Annotated[Path | None, typer.Option(help="A request body as JSON, or a usage record.")] = None,
    digest: Annotated[str | None, typer.Option(help="sha256:… that the --classifier must have.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig's.")] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="Default: $KUBECONFIG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Say where a call would go: tier, specialist, by which rule, with what score and runner-up."""
    if (prompt is None) == (request is None):
        fail("give one of --prompt and --request")
    if router is not None and table is not None:
        fail("give one of ROUTER and --table")
    body, api = _body(request) if request is not None else (_chat(prompt or "", system, model), "chat.completions")
    if router is None and table is None:
        if classifier is None:
            fail("give a ROUTER, --table or --classifier to explain by")
        _print_classified(_load(classifier, digest), body, as_json)
        return
    if table is not None:
        spec = _parsed(table.read_bytes, f"--table {table}")
    else:
        spec = _of_router(router or "", namespace, kubeconfig)
    asked = _classifier(spec, classifier, store, digest)
    _print_explained(_explained(spec, asked, body, api, _headers(header)), as_json)


# --- by a table ---

def _explained(
    spec: RouteTable, classifier: Classifier | None, body: dict[str, Any], api: str, headers: dict[str, str]
) -> Explanation:
    from slmfleet.gateway.explain import explain, table_for_reading
    from slmfleet.gateway.table import TableError
    from slmfleet.recognise import frame_fingerprint

    try:
        ready = table_for_reading(spec, classifier)
    except TableError as error:
        fail(f"the route table is refused: {error}", 1)
    return explain(ready, body, frame_fingerprint, api=api, headers=headers)


def _parsed(read: Any, where: str) -> RouteTable:
    from slmfleet.gateway.table import TableError, parse

    try:
        return parse(read())
    except OSError as error:
        fail(f"{where}: {error.strerror}")
    except TableError as error:
        fail(f"{where}: {error}", 1)


def _of_router(router: str, namespace: str | None, kubeconfig: str | None) -> RouteTable:
    from slmfleet.kube.client import CONFIGMAP, ApiError, NotFound
    from slmfleet.plan.gateway import TABLE_KEY, table_name
    from slmfleet.wire.packing import unpacked

    kube = connect(namespace, kubeconfig)
    name = table_name(router)
    try:
        found = asyncio.run(kube.get(CONFIGMAP, name))
    except NotFound:
        fail(f"there is no ConfigMap {name} in namespace {kube.namespace}: Router {router} is not there, or has no "
             "gateway yet; see kubectl get routers")
    except ApiError as error:
        fail(str(error))
    try:
        text = unpacked(TABLE_KEY, found.get("data"), found.get("binaryData")) or ""
    except ValueError as error:
        fail(f"ConfigMap {name}: {error}", 1)
    return _parsed(lambda: text.encode(), f"ConfigMap {name}")


def _classifier(spec: RouteTable, file: Path | None, store: Path | None, digest: str | None) -> Classifier | None:
    """The table's classifier, from a file or a copy of the store; None where it is not at hand."""
    from slmfleet.gateway.explain import store_path

    wanted = digest or (spec.classifier.digest if spec.classifier is not None else None)
    if file is not None:
        return _load(file, wanted)
    path = store_path(spec, store) if store is not None else None
    return _load(path, wanted, "--store") if path is not None else None


def _headers(given: list[str] | None) -> dict[str, str]:
    found = {}
    for item in given or []:
        name, colon, value = item.partition(":")
        if not colon or not name.strip():
            fail(f"--header {item!r}: not NAME:VALUE")
        found[name.strip()] = value.strip()
    return found


def _print_explained(found: Explanation, as_json: bool) -> None:
    if as_json:
        figures = {"score": _rounded(found.score), "threshold": _rounded(found.threshold)}
        typer.echo(json.dumps({**asdict(found), **figures}))
        return
    where = found.tier or "not known without the classifier"
    if found.specialist is not None:
        weight = f", candidate at {found.weight_percent} %" if found.weight_percent is not None else ""
        where += f": specialist {found.specialist}, revision {found.revision}, arm {found.arm}{weight}"
    typer.echo(f"tier        {where}")
    typer.echo(f"rule        {found.rule}" + (f" ({found.detail})" if found.detail else ""))
    typer.echo(f"why         {found.why}")
    if found.score is not None:
        typer.echo(f"classifier  {found.label or 'abstains'}: score {found.score:.4f}, "
                   f"threshold {found.threshold:.4f}, runner-up {found.runner_up or 'none'}, rule {found.classifier}")
    typer.echo(f"frame       {found.fingerprint}")


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None else None


# --- by a classifier alone ---

def _load(path: Path, digest: str | None, option: str = "--classifier") -> Classifier:
    from slmfleet.recognise import Classifier

    try:
        return Classifier.load(path, digest)
    except OSError as error:
        fail(f"{option} {path}: {error.strerror}")
    except ValueError as error:
        fail(str(error), 1)


def _print_classified(classifier: Classifier, body: dict[str, Any], as_json: bool) -> None:
    from slmfleet.recognise import frame_fingerprint

    decision = classifier.classify(body)
    result = {
        "label": decision.label,
        "score": round(decision.score, 6),
        "threshold": round(decision.threshold, 6),
        "runner_up": decision.runner_up,
        "rule": decision.rule,
        "fingerprint": frame_fingerprint(body),
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(
        f"{decision.label or 'abstain'}: score {decision.score:.4f}, threshold {decision.threshold:.4f}, "
        f"runner-up {decision.runner_up or 'none'}, rule {decision.rule}"
    )
    typer.echo(f"frame {result['fingerprint']}")


# --- the call ---

def _chat(prompt: str, system: str | None, model: str | None) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    named = {"model": model} if model else {}
    return {**named, "messages": [*messages, {"role": "user", "content": prompt}]}


def _body(path: Path) -> tuple[dict[str, Any], str]:
    """Body and API of a request, or of the request in a usage record."""
    try:
        found = json.loads(read("--request ", path))
    except (ValueError, RecursionError) as error:
        fail(f"--request {path}: not JSON: {error}")
    if not isinstance(found, dict):
        fail(f"--request {path}: not an object")
    inner = found.get("request")
    if isinstance(inner, dict) and "messages" not in found:
        return inner, str(found.get("api") or "chat.completions")
    return found, "chat.completions"
