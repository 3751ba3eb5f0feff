"""Rules written by hand: they win over names, fingerprints and the classifier. The first that matches decides.

A rule cannot make a specialist answer what it cannot give: such a call stays with the LLM whatever a rule says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmfleet.gateway.decide import Chosen, fitting, unsupported
from slmfleet.gateway.table import Table


def by_hand(table: Table, request: dict[str, Any] | None, headers: Mapping[bytes, bytes]) -> Chosen | None:
    """Who owns this chat call by a rule, or None where no rule speaks of it. Header names in lower case."""
    if request is None:
        return None
    rule = next((rule for rule in table.rules if rule.takes(request, headers)), None)
    if rule is None:
        return None
    if rule.specialist is None:
        return Chosen(None, "hand", detail=rule.name)
    reason = unsupported(table, request)
    if reason is not None:
        return Chosen(None, "unsupported", detail=reason)
    route = table.by_name.get(rule.specialist)
    if route is None:
        return Chosen(None, "unserved", detail=rule.specialist)
    return fitting(Chosen(route, "hand", detail=rule.name), request)
