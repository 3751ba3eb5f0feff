"""Where a call would go by a table, and why: the data path's own decision, told in full. It asks no server.

Not covered: what only a running gateway knows. Whether a server is full, slow or left alone for its failures, and
whether an answer will pass its check, is not said; that a table lists no server with the adapter is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from slmfleet.gateway import generalist
from slmfleet.gateway.arms import LLM, choose
from slmfleet.gateway.balance import Placement
from slmfleet.gateway.call import APIS, Call, Calls
from slmfleet.gateway.decide import Chosen, decide
from slmfleet.gateway.exchange import Request
from slmfleet.gateway.headers import Headers
from slmfleet.gateway.rules import by_hand
from slmfleet.gateway.table import Classifier, Decision, Fingerprint, Table, compile_table
from slmfleet.wire.routes import Revision, RouteTable

CHAT = "chat.completions"
_WHY = {
    "hand": "the rule {detail} takes it",
    "explicit": "its model is the specialist's name",
    "signature": "it has the signature that was declared for the specialist's task",
    "fingerprint": "its frame is one that the table lists",
    "classifier": "the classifier takes it, with a score of {score:.3f}",
    "abstain": "no rule, name or frame takes it, and {classifier}",
    "unserved": "{detail} has no specialist that is served",
    "unsupported": "it asks for what the specialist does not give: {detail}",
    "none": "the table has no specialists",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a call goes. `tier` None: that depends on the classifier, which was not asked."""

    tier: str | None
    specialist: str | None
    rule: str
    detail: str | None
    score: float | None
    threshold: float | None
    runner_up: str | None
    label: str | None
    classifier: str | None
    arm: str | None
    revision: str | None
    weight_percent: int | None
    fingerprint: str
    why: str


def table_for_reading(spec: RouteTable, classifier: Classifier | None) -> Table:
    """A table compiled for explaining: no key is read, nothing is captured. Raises TableError."""
    bare: dict[str, Any] = {"classifier": None, "llm": spec.llm.model_copy(update={"api_key_file": None})}
    if spec.generalist is not None:
        bare["generalist"] = spec.generalist.model_copy(update={"api_key_file": None})
    table = compile_table(spec.model_copy(update=bare), {}, None, None)
    return replace(table, spec=spec, classifier=classifier)


def explain(
    table: Table,
    request: dict[str, Any],
    fingerprint: Fingerprint,
    *,
    api: str = CHAT,
    headers: Mapping[str, str] | None = None,
) -> Explanation:
    """What becomes of one call. `headers`: of the call, in any case."""
    if api != CHAT:
        why = f"only chat completions can go to a specialist, and this is a call of {api}"
        return _explanation(Chosen(None, "none"), "llm", request, fingerprint, None, why=why)
    call = _call(table, request, headers or {})
    said = table.classifier.classify(request) if table.classifier is not None else None
    chosen = by_hand(table, request, call.http.lookup) or decide(table, request, fingerprint)
    if chosen.route is None:
        return _unowned(table, call, chosen, fingerprint, said)
    arm, revision = choose(chosen.route.spec, call.conversation)
    why, tier = _reason(table, chosen, said), "specialist"
    if revision is None:
        tier, why = "llm", f"{why}; its conversation is in the LLM's arm"
    elif not _resident(table, revision):
        tier = _next(table, call)
        why = f"{why}; no server of pool {revision.pool} holds {revision.adapter} now, so it is passed on"
    elif table.spec.hedge_percent and len(_resident(table, revision)) > 1:
        why = f"{why}; if its answer is among the latest {table.spec.hedge_percent:g} %, a second server is asked, too"
    return replace(
        _explanation(chosen, tier, request, fingerprint, said, why=why),
        specialist=chosen.route.spec.name,
        arm=arm,
        revision=revision.name if revision is not None else LLM,
        weight_percent=chosen.route.spec.weight_percent if chosen.route.spec.candidate is not None else None,
    )


def _unowned(
    table: Table, call: Call, chosen: Chosen, fingerprint: Fingerprint, said: Decision | None
) -> Explanation:
    assert call.request is not None
    tier: str | None = "generalist" if generalist.takes(table.spec.generalist, call, chosen) else "llm"
    if chosen.rule == "abstain" and said is None and table.spec.classifier is not None:
        tier = None
    why = _reason(table, chosen, said)
    return _explanation(chosen, tier, call.request, fingerprint, said, why=why)


def _explanation(
    chosen: Chosen,
    tier: str | None,
    request: dict[str, Any],
    fingerprint: Fingerprint,
    said: Decision | None,
    *,
    why: str,
) -> Explanation:
    return Explanation(
        tier=tier, specialist=None, rule=chosen.rule, detail=chosen.detail,
        score=said.score if said else None, threshold=said.threshold if said else None,
        runner_up=said.runner_up if said else None, label=said.label if said else None,
        classifier=said.rule if said else None, arm=None, revision=None, weight_percent=None,
        fingerprint=fingerprint(request), why=why,
    )  # fmt: skip


def _reason(table: Table, chosen: Chosen, said: Decision | None) -> str:
    if said is not None:
        classifier = f"the classifier abstains ({said.rule.removeprefix('abstain: ')})"
    elif table.spec.classifier is not None:
        classifier = f"the classifier {table.spec.classifier.digest[:19]} would be asked, and is not at hand"
    else:
        classifier = "the table has no classifier"
    return _WHY[chosen.rule].format(detail=chosen.detail, score=chosen.score or 0.0, classifier=classifier)


def _resident(table: Table, revision: Revision) -> list[Placement]:
    return [place for place in table.pools[revision.pool].placements if revision.adapter in place.adapters]


def _next(table: Table, call: Call) -> str:
    return "generalist" if generalist.stands_in(table.spec.generalist, call) else "llm"


def _call(table: Table, request: dict[str, Any], headers: Mapping[str, str]) -> Call:
    path = next(path for path, name in APIS.items() if name == CHAT)
    given = Headers((name.lower().encode(), value.encode()) for name, value in headers.items())
    http = Request(b"POST", path, given, orjson.dumps(request), False, True, "")
    return Calls("explain", lambda: 0.0, lambda: 0.0).begin(http, table)


def store_path(spec: RouteTable, store: Path) -> Path | None:
    """Where the table's classifier is in a copy of the store."""
    return store / spec.classifier.path if spec.classifier is not None else None
