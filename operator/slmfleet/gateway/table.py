"""A route table made ready for the data path: indexed by name, fingerprint and cluster; templates and checks compiled.

Compiling is where a table is refused: what comes out of here cannot fail on a request. Done outside the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import yaml
from pydantic import ValidationError

from slmfleet.gateway.balance import Placement, Server
from slmfleet.gateway.checks import Check, compile_check
from slmfleet.gateway.match import Match, compile_match
from slmfleet.gateway.origin import Origin, parse_url
from slmfleet.gateway.render import Render, compile_template
from slmfleet.recognise.signature import Signatures
from slmfleet.store.segments import parse_recipients
from slmfleet.wire.routes import ClassifierRef, Pool, RouteTable, Rule, SpecialistRoute, Upstream


class TableError(Exception):
    """A table that is refused: which field, and why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Decision(Protocol):
    """What a classifier says of a call."""

    @property
    def label(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def runner_up(self) -> str | None: ...
    @property
    def threshold(self) -> float: ...
    @property
    def rule(self) -> str: ...


class Classifier(Protocol):
    """The learned part of routing."""

    def classify(self, request: dict[str, Any]) -> Decision: ...


LoadClassifier = Callable[[Path, str], Classifier]
Fingerprint = Callable[[dict[str, Any]], str]


@dataclass(frozen=True, slots=True)
class CompiledPool:
    """A pool with its template compiled and its servers' state attached."""

    spec: Pool
    render: Render
    placements: list[Placement]


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A specialist's route with its check compiled."""

    spec: SpecialistRoute
    check: Check


@dataclass(frozen=True, slots=True)
class Llm:
    """The LLM, or the generalist: where, with which key, under which model name."""

    spec: Upstream
    origin: Origin
    base: bytes
    key: bytes | None

    @property
    def authorization(self) -> bytes | None:
        """The key as OpenAI's API takes it."""
        return None if self.key is None else b"Bearer " + self.key


@dataclass(frozen=True, slots=True)
class Table:
    """Everything the data path looks at. Replaced as a whole."""

    spec: RouteTable
    llm: Llm
    pools: Mapping[str, CompiledPool]
    by_name: Mapping[str, CompiledRoute]
    by_fingerprint: Mapping[str, CompiledRoute]
    by_cluster: Mapping[str, CompiledRoute]
    conversation_header: bytes
    generalist: Llm | None = None
    classifier: Classifier | None = None
    classifier_problem: str | None = None
    rules: tuple[Match, ...] = ()
    declared: Signatures = field(default_factory=Signatures)
    calls_tools: bool = False  # whether any specialist answers by tool calls


def parse(data: bytes) -> RouteTable:
    """A table from YAML or JSON. Raises TableError."""
    try:
        content = orjson.loads(data) if data.lstrip()[:1] == b"{" else yaml.load(data, yaml.CSafeLoader)
    except (orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TableError("(file)", f"neither JSON nor YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(content, dict):
        raise TableError("(file)", "not a mapping")
    try:
        return RouteTable.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise TableError(".".join(str(part) for part in first["loc"]) or "(file)", first["msg"]) from error


def compile_table(
    spec: RouteTable,
    servers: dict[str, Server],
    store: Path | None,
    load: LoadClassifier | None,
    before: Table | None = None,
) -> Table:
    """Make a table ready. `servers` keeps the state of each server by URL over changes. Raises TableError.

    What `before` has ready is taken from there: most changes move a weight, and checks and classifier are most of the
    work.
    """
    pools = {pool.name: _pool(index, pool, servers) for index, pool in enumerate(spec.pools)}
    if len(pools) != len(spec.pools):
        raise TableError("pools", "two pools have one name")
    known = before.by_name if before is not None else {}
    routes = [_route(index, route, pools, known.get(route.name)) for index, route in enumerate(spec.specialists)]
    _check_recipients(spec)
    classifier, problem = _classifier(spec.classifier, store, load, before)
    return Table(
        spec=spec,
        llm=_upstream("llm", spec.llm),
        generalist=_upstream("generalist", spec.generalist) if spec.generalist else None,
        pools=pools,
        by_name=_unique("name", ((route.spec.name, route) for route in routes)),
        by_fingerprint=_unique("fingerprints", ((f, route) for route in routes for f in route.spec.fingerprints)),
        by_cluster=_unique("cluster", ((route.spec.cluster, route) for route in routes)),
        conversation_header=spec.conversation_header.lower().encode(),
        classifier=classifier,
        classifier_problem=problem,
        rules=tuple(_rule(index, rule) for index, rule in enumerate(spec.rules)),
        declared=Signatures((each.cluster, each.signature) for each in spec.declared),
        calls_tools=any(route.spec.output.type == "tool" for route in routes),
    )


def _unique(field: str, pairs: Any) -> dict[str, CompiledRoute]:
    found: dict[str, CompiledRoute] = {}
    for key, route in pairs:
        other = found.setdefault(key, route)
        if other is not route:
            raise TableError(f"specialists.{field}", f"{key!r} belongs to {other.spec.name} and to {route.spec.name}")
    return found


def _pool(index: int, pool: Pool, servers: dict[str, Server]) -> CompiledPool:
    try:
        render = compile_template(pool.chat_template, pool.bos_token, pool.eos_token)
    except ValueError as error:
        raise TableError(f"pools.{index}.chat_template", str(error)) from error
    placements = []
    for place, endpoint in enumerate(pool.endpoints):
        try:
            origin, _ = parse_url(endpoint.url)
        except ValueError as error:
            raise TableError(f"pools.{index}.endpoints.{place}.url", str(error)) from error
        server = servers.setdefault(endpoint.url, Server(origin))
        placements.append(Placement(server, frozenset(endpoint.adapters)))
    return CompiledPool(pool, render, placements)


def _route(
    index: int, route: SpecialistRoute, pools: Mapping[str, CompiledPool], before: CompiledRoute | None
) -> CompiledRoute:
    for name, revision in (("stable", route.stable), ("candidate", route.candidate)):
        if revision is not None and revision.pool not in pools:
            raise TableError(f"specialists.{index}.{name}.pool", f"no pool {revision.pool!r} in this table")
        if revision is not None and revision.name == "llm":
            raise TableError(f"specialists.{index}.{name}.name", "`llm` is taken: it names the LLM's own arm")
    if before is not None and before.spec.output == route.output:
        return CompiledRoute(route, before.check)
    try:
        return CompiledRoute(route, compile_check(route.output))
    except ValueError as error:
        raise TableError(f"specialists.{index}.output.json_schema", str(error)) from error


def _rule(index: int, rule: Rule) -> Match:
    try:
        return compile_match(rule)
    except ValueError as error:
        raise TableError(f"rules.{index}", str(error)) from error


def _upstream(field: str, spec: Upstream) -> Llm:
    try:
        origin, base = parse_url(spec.url)
    except ValueError as error:
        raise TableError(f"{field}.url", str(error)) from error
    key = None
    if spec.api_key_file is not None:
        try:
            key = Path(spec.api_key_file).read_bytes().strip()
        except OSError as error:
            raise TableError(
                f"{field}.api_key_file", f"{spec.api_key_file} cannot be read: {error.strerror}"
            ) from error
    return Llm(spec, origin, base, key)


def _check_recipients(spec: RouteTable) -> None:
    if not spec.capture.enabled:
        return
    if not spec.capture.recipients:
        raise TableError("capture.recipients", "capture is on and nobody could open the log; name an age public key")
    for index, recipient in enumerate(spec.capture.recipients):
        try:
            parse_recipients([recipient])
        except ValueError as error:
            raise TableError(f"capture.recipients.{index}", str(error)) from error


def _classifier(
    reference: ClassifierRef | None, store: Path | None, load: LoadClassifier | None, before: Table | None
) -> tuple[Classifier | None, str | None]:
    """The classifier, or why it is absent: then calls go to the LLM, and weights still reach this gateway."""
    if reference is None:
        return None, None
    if before is not None and before.classifier is not None and before.spec.classifier == reference:
        return before.classifier, None
    if store is None or load is None:
        return None, "classifier.path: this gateway runs without --store"
    path = (store / reference.path).resolve()
    if not path.is_relative_to(store.resolve()):
        return None, "classifier.path: leaves the store"
    try:
        return load(path, reference.digest), None
    except Exception as error:
        return None, f"classifier.path: {reference.path} cannot be loaded: {error}"[:500]
