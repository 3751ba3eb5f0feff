"""Rules written by hand: they win over names, fingerprints and the classifier. The first that matches decides.

A rule cannot make a specialist answer what it cannot give, nor the generalist what its own settings keep from it: such
a call stays with the LLM whatever a rule says. Only the generalist's share of conversations is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmfleet.gateway.decide import OF_TOOLS, Chosen, fitting, unsupported
from slmfleet.gateway.table import Table


def by_hand(table: Table, request: dict[str, Any] | None, headers: Mapping[bytes, bytes]) -> Chosen | None:
    """Who owns this chat call by a rule, or None where no rule speaks of it. Header names in lower case."""
    if request is None:
        return None
    rule = next((rule for rule in table.rules if rule.takes(request, headers)), None)
    if rule is None:
        return None
    if rule.specialist is None and not rule.generalist:
        return Chosen(None, "hand", detail=rule.name)
    reason = unsupported(table, request)
    if reason is not None and not (rule.generalist and reason in OF_TOOLS):
        return Chosen(None, "unsupported", detail=reason)
    if rule.specialist is None:
        found = Chosen(None, "hand", detail=rule.name, generalist=True)
        return found if table.generalist is not None else Chosen(None, "unserved", detail="generalist")
    route = table.by_name.get(rule.specialist)
    if route is None:
        return Chosen(None, "unserved", detail=rule.specialist)
    return fitting(Chosen(route, "hand", detail=rule.name), request)
