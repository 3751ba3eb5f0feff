"""What the operator renders, on a real API server: admitted whole, and every pod under Pod Security `restricted`.

The objects are the golden files of tests/golden/plan, which tests/unit/plan keeps equal to what is rendered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import Api, Refused

GOLDEN = {f.stem: f for f in sorted((Path(__file__).parents[1] / "golden" / "plan").glob("*.yaml"))}
BUILTIN = [name for name in GOLDEN if name != "rayjob-train"]
PODS = [name for name in GOLDEN if "deployment" in name or "job" in name]
ACCOUNTS = ("slmfleet-gateway", "slmfleet-job", "slmfleet-pool")


@pytest.fixture(scope="module")
def restricted(server: Api) -> str:
    """A namespace that refuses what is not restricted, with the accounts of the chart."""
    name = "operator-objects"
    server.namespace(name, enforce="restricted", warn="restricted")
    for account in ACCOUNTS:
        server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}})
    return name


def golden(name: str, namespace: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(GOLDEN[name].read_text())
    made["metadata"]["namespace"] = namespace
    return made


def pod_of(made: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The pod that the object asks for, as its controller would create it."""
    spec = made["spec"]
    template = spec["rayClusterSpec"]["headGroupSpec"]["template"] if made["kind"] == "RayJob" else spec["template"]
    return {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
            "metadata": {**template["metadata"], "name": "one", "namespace": namespace}}


@pytest.mark.parametrize("name", BUILTIN)
def test_the_server_takes_it_without_a_warning(server: Api, restricted: str, name: str) -> None:
    answer = server.apply(golden(name, restricted), dry_run=True)
    assert answer.warnings == ()


@pytest.mark.parametrize("name", PODS)
def test_its_pod_is_admitted_under_restricted(server: Api, restricted: str, name: str) -> None:
    pod = pod_of(golden(name, restricted), restricted)
    assert server.create(pod, dry_run=True).warnings == ()
    with pytest.raises(Refused, match="violates PodSecurity"):
        server.create({**pod, "spec": {**pod["spec"], "hostNetwork": True}}, dry_run=True)


@pytest.mark.parametrize("name", BUILTIN)
def test_applying_it_again_changes_nothing(server: Api, restricted: str, name: str) -> None:
    """Fields that the server would rewrite make an operator that writes for ever."""
    once = server.apply(golden(name, restricted)).object
    again = server.apply(golden(name, restricted)).object
    assert once["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
