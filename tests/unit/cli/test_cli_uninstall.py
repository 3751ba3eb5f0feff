"""What goes at an uninstall, and in what order: an operator on its way out still makes things anew."""

from __future__ import annotations

import asyncio
from typing import Any

from slmfleet.cli.uninstall import OPERATOR, remove
from slmfleet.kube.client import DEPLOYMENT, LEASE, POD
from slmfleet.plan.names import MANAGED, OWNER_LABEL


class Server:
    """A namespace: deployments with one pod each. A pod takes `seconds` to go, and the operator's makes the gateway's
    deployment anew as long as it is there."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.gone_at: dict[str, float] = {}
        self.objects: dict[tuple[str, str], dict[str, str]] = {
            (DEPLOYMENT.plural, "operator"): dict(OPERATOR),
            (DEPLOYMENT.plural, "gateway"): {**MANAGED, OWNER_LABEL: "fleet"},
            (DEPLOYMENT.plural, "somebody-elses"): {},
            (LEASE.plural, "slmfleet-operator"): {},
        }
        for kind, name in list(self.objects):
            if kind == DEPLOYMENT.plural:
                self.objects[POD.plural, name] = self.objects[kind, name]

    async def list(self, kind: Any, wanted: dict[str, str]) -> list[dict[str, Any]]:
        self._go_on()
        return [{"metadata": {"name": name, "labels": labels}} for (plural, name), labels in self.objects.items()
                if plural == kind.plural and wanted.items() <= labels.items()]

    async def delete(self, kind: Any, name: str) -> None:
        if self.objects.pop((kind.plural, name), None) is not None and kind.plural == DEPLOYMENT.plural:
            self.gone_at.setdefault(name, self.now + self.seconds.get(name, 0.0))

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._go_on()

    def names(self, kind: Any) -> set[str]:
        return {name for plural, name in self.objects if plural == kind.plural}

    def _go_on(self) -> None:
        if "operator" in self.names(POD) and "gateway" not in self.names(DEPLOYMENT):
            for kind in (DEPLOYMENT, POD):
                self.objects[kind.plural, "gateway"] = {**MANAGED, OWNER_LABEL: "fleet"}
            self.gone_at.pop("gateway", None)
        for name, at in list(self.gone_at.items()):
            if self.now >= at:
                self.objects.pop((POD.plural, name), None)


def removed(server: Server, timeout: float = 120) -> list[str]:
    return asyncio.run(remove(server, timeout, lambda: server.now, server.sleep))  # type: ignore[arg-type]


def test_nothing_is_made_anew_by_an_operator_that_takes_its_time() -> None:
    server = Server({"operator": 25.0, "gateway": 10.0})
    assert removed(server) == []
    assert server.names(DEPLOYMENT) == server.names(POD) == {"somebody-elses"}
    assert server.names(LEASE) == set()
    assert server.now <= 37


def test_what_does_not_go_in_time_is_named() -> None:
    assert removed(Server({"gateway": 500.0})) == ["gateway"]
    assert "operator" in removed(Server({"operator": 500.0}))
