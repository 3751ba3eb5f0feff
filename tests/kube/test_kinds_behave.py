"""Server-side apply by several managers, the status and scale subresources, and what kubectl shows."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from apiserver import Api, Refused, binary
from manifests import DIGEST, changed, manifest

READY = {
    "type": "Ready",
    "status": "False",
    "reason": "Waiting",
    "message": "a word",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def with_status(made: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {**made, "status": status}


def test_two_managers_own_their_own_fields(api: Api, namespace: str) -> None:
    """An autoscaler sets pool.replicas; applying the manifest again takes nothing from it."""
    made = changed(manifest("BaseModel", namespace), "spec.pool.maxReplicas", 4)
    api.apply(made, manager="git")
    scaled = {key: made[key] for key in ("apiVersion", "kind", "metadata")} | {"spec": {"pool": {"replicas": 3}}}
    api.apply(scaled, manager="autoscaler")
    after = api.apply(made, manager="git").object
    assert after["spec"]["pool"]["replicas"] == 3
    with pytest.raises(Refused, match='conflict with "git"'):
        api.apply({**scaled, "spec": {"pool": {"maxReplicas": 9}}}, manager="autoscaler")


def test_two_managers_own_their_own_list_items(api: Api, namespace: str) -> None:
    base = manifest("BaseModel", namespace)
    api.apply(changed(base, "spec.pool.overlay.env", [{"name": "A", "value": "1"}]), manager="one")
    other = {key: base[key] for key in ("apiVersion", "kind", "metadata")}
    other["spec"] = {"pool": {"overlay": {"env": [{"name": "B", "value": "2"}]}}}
    merged = api.apply(other, manager="two").object
    assert {item["name"] for item in merged["spec"]["pool"]["overlay"]["env"]} == {"A", "B"}


def test_status_is_written_apart_from_spec(api: Api, namespace: str) -> None:
    made = manifest("Specialist", namespace)
    before = api.apply(made).object
    written = api.apply(with_status(made, stage="Training", conditions=[READY]), subresource="status").object
    assert written["metadata"]["generation"] == before["metadata"]["generation"]
    assert written["status"]["stage"] == "Training"
    api.merge(made, {"spec": {"suspend": True}, "status": {"stage": "Nonsense"}})
    assert api.read(made)["status"]["stage"] == "Training", "a write of the object leaves status alone"
    assert api.read(made)["spec"]["suspend"] is True


def test_status_is_validated_too(api: Api, namespace: str) -> None:
    made = manifest("Specialist", namespace)
    api.apply(made)
    with pytest.raises(Refused, match=r"status.conditions\[0\].reason"):
        api.apply(with_status(made, conditions=[{**READY, "reason": ""}]), subresource="status")
    with pytest.raises(Refused, match=r"status.weightPercent"):
        api.apply(with_status(made, weightPercent=101), subresource="status")


def test_conditions_merge_by_type(api: Api, namespace: str) -> None:
    made = manifest("Specialist", namespace)
    api.apply(made)
    api.apply(with_status(made, conditions=[READY]), subresource="status", manager="one")
    other = {**READY, "type": "Trained"}
    both = api.apply(with_status(made, conditions=[other]), subresource="status", manager="two").object
    assert [condition["type"] for condition in both["status"]["conditions"]] == ["Ready", "Trained"]


def test_a_pool_scales_by_its_subresource_once_it_has_a_first_value(api: Api, namespace: str) -> None:
    made = changed(manifest("BaseModel", namespace), "spec.pool.maxReplicas", 4)
    api.apply(made)
    api.apply(with_status(made, replicas=1, selector="slmfleet.dev/pool=one"), subresource="status")
    with pytest.raises(Refused, match=r"spec.pool.replicas\" does not exist"):
        api.read(made, subresource="scale")
    api.merge(made, {"spec": {"pool": {"replicas": 1}}})
    scale = api.read(made, subresource="scale")
    assert scale["status"] == {"replicas": 1, "selector": "slmfleet.dev/pool=one"}
    api.merge(made, {"spec": {"replicas": 3}}, subresource="scale")
    assert api.read(made)["spec"]["pool"]["replicas"] == 3
    with pytest.raises(Refused, match="must lie between"):
        api.merge(made, {"spec": {"replicas": 5}}, subresource="scale")


@pytest.mark.parametrize("kind, field", [("TaskCluster", "spec.router"), ("Specialist", "spec.taskCluster")])
def test_children_are_selected_by_their_parent(api: Api, namespace: str, kind: str, field: str) -> None:
    for name, parent in (("a", "left"), ("b", "right")):
        api.apply(changed(manifest(kind, namespace, name), field, parent))
    path = f"/apis/slmfleet.dev/v1alpha1/namespaces/{namespace}/{kind.lower()}s"
    found = api.get(path, fieldSelector=f"{field}=left")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]


def test_kubectl_tells_the_story_in_120_columns(api: Api, namespace: str) -> None:
    """`kubectl get slm` of all four kinds, with names and figures as long as real ones get."""
    fill(api, namespace)
    kubectl = [str(binary("kubectl")), "--kubeconfig", str(api.kubeconfig), "-n", namespace, "get", "slm"]
    shown = subprocess.run(kubectl, capture_output=True, text=True, check=True).stdout
    print(shown)
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 120
    for word in (
        "specialist.slmfleet.dev/banking-intents",
        "Canary 50 %",
        "0.934",
        "62.5",
        "1234.56 USD",
        "Apache-2.0",
    ):
        assert word in shown


def fill(api: Api, namespace: str) -> None:
    router = manifest("Router", namespace, "support-agents")
    url = f"http://support-agents-gateway.{namespace}.svc:8080/v1"
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (router, {"conditions": [READY], "captured": 1234567, "specialistPercent": 62.5, "saved": "1234.56 USD",
                  "url": url}),
        (changed(manifest("TaskCluster", namespace, "banking-intents"), "spec.outputFormat",
                 {"type": "label", "labels": ["refund", "cancel"]}),
         {"sharePercent": 31.25, "calls": 1234567, "labels": 77, "specialist": "banking-intents"}),
        (changed(manifest("Specialist", namespace, "banking-intents"), "spec.taskCluster", "banking-intents"),
         {"conditions": [READY], "base": "smollm2-1-7b", "stage": "Canary 50 %", "weightPercent": 50,
          "score": "0.934"}),
        (changed(manifest("BaseModel", namespace, "qwen3-0-6b"), "spec.parameters", 9_999_999_999),
         {"chosen": True, "replicas": 2, "readyReplicas": 1}),
    ]  # fmt: skip
    for made, status in rows:
        api.apply(made)
        api.apply(with_status(made, **status), subresource="status")


def test_a_cluster_explains_its_fields(api: Api) -> None:
    kubectl = [str(binary("kubectl")), "--kubeconfig", str(api.kubeconfig), "explain", "spl.spec.rollout.promote"]
    assert (
        "Artifact whose promotion is approved"
        in subprocess.run(kubectl, capture_output=True, text=True, check=True).stdout
    )


def test_a_whole_lineage_fits_into_status(api: Api, namespace: str) -> None:
    made = manifest("Specialist", namespace)
    api.apply(made)
    revision = {"name": "abababababab", "artifact": DIGEST, "path": "adapters/one/ab", "base": "tiny"}
    history = [{"revision": f"{n:012d}", "outcome": "Promoted"} for n in range(20)]
    status = api.apply(with_status(made, stable=revision, history=history), subresource="status").object["status"]
    assert len(json.dumps(status)) < 10_000
    with pytest.raises(Refused, match=r"status.history"):
        api.apply(with_status(made, history=[*history, history[0]]), subresource="status")
