"""What the operator plans, applied under its own account: its rights suffice, and every pod passes `restricted`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from apiserver import Api, Refused
from chart import pods, render
from manifests import manifest

from slmfleet.api.basemodel import BaseModelSpec, BaseModelStatus
from slmfleet.api.router import RouterSpec, RouterStatus
from slmfleet.api.specialist import Gate, Training
from slmfleet.controllers.apply import ONCE
from slmfleet.plan import gateway, jobs, pool
from slmfleet.plan.config import Config
from slmfleet.plan.facts import BaseObject, Meta, RouterObject
from slmfleet.wire.routes import RouteTable

Manifest = dict[str, Any]
NAMESPACE = "planned"
UID = "00000000-0000-0000-0000-000000000001"
OWNER = ("one", UID)
TABLE = {"router": f"{NAMESPACE}/one", "llm": {"url": "https://llm.example/v1"}}
REDACTION = {"denyList": [{"value": "Falcon Nine"}], "patterns": [{"kind": "staff_number", "regex": r"ST-\d{6}"}],
             "denyListSecretRef": {"name": "never-said", "key": "names"}}

KEY = {"name": "llm", "key": "key"}


def planned() -> list[Manifest]:
    config = Config(namespace=NAMESPACE)
    spec = RouterSpec.model_validate(manifest("Router", NAMESPACE)["spec"] | {
        "redaction": REDACTION, "discovery": {"naming": {"mode": "LLM", "model": "big", "apiKeySecretRef": KEY}}})
    router = RouterObject(Meta("one", UID, 1), spec, RouterStatus())
    base = BaseModelSpec.model_validate(manifest("BaseModel", NAMESPACE)["spec"])
    train = jobs.training_pod(config, "datasets/a", "bases/tiny", "artifacts/a", "training/a", Training(), "")
    wanted = spec.discovery.resources
    folders = ("datasets/a", "bases/tiny", "artifacts/a", "evaluations/a.json")
    judge = jobs.evaluation_pod(config, *folders, Gate(), "label", wanted, "")
    return [
        *gateway.objects(config, router, RouteTable.model_validate(TABLE)),
        pool.deployment(config, BaseObject(Meta("one", UID, 1), base, BaseModelStatus()), 1, ""),
        jobs.discover_job(config, "discover-one-0001", OWNER, spec, 1, ""),
        jobs.clean_job(config, "clean-one", OWNER, ["artifacts/a-0123456789"], ""),
        jobs.curate_job(config, "curate-one", OWNER, "one", spec, 1, "task", "datasets/a", 100, 20.0, ""),
        jobs.job("train-one", "Specialist", OWNER, "training", train, retries=1, deadline_seconds=60),
        jobs.job("evaluate-one", "Specialist", OWNER, "evaluation", judge, retries=1, deadline_seconds=60),
    ]


def placed(each: Manifest) -> Manifest:
    return {**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}}


@pytest.fixture(scope="module")
def operator(api: Api) -> Api:
    """The API as the operator's account sees it, in a namespace of a release under `restricted`."""
    api.namespace(NAMESPACE, enforce="restricted")
    for each in render(NAMESPACE):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            api.apply(each)
    return api.as_user(f"system:serviceaccount:{NAMESPACE}:slmfleet-operator")


def test_the_operator_may_apply_and_repair_all_it_plans(operator: Api) -> None:
    for each in planned():
        if each["kind"] in ONCE:
            operator.create(placed(each))
            continue
        operator.apply(placed(each), manager="slmfleet", force=True)
        operator.apply(placed(each), manager="slmfleet", force=True)


def test_every_planned_pod_passes_pod_security_restricted(api: Api, operator: Api) -> None:
    made = pods([placed(each) for each in planned()])
    assert len(made) == 7
    for pod in made:
        api.create(pod, dry_run=True)


def test_a_jobs_pod_has_no_token(operator: Api) -> None:
    tokens = {pod["metadata"]["name"]: pod["spec"]["automountServiceAccountToken"] for pod in pods(
        [placed(each) for each in planned()])}  # fmt: skip
    assert tokens == dict.fromkeys(tokens, False), "and the gateway's watcher has one of its own"


def test_the_operator_writes_status_and_cannot_write_the_spec(api: Api, operator: Api) -> None:
    for kind in ("Router", "TaskCluster", "Specialist", "BaseModel"):
        made = api.apply(manifest(kind, NAMESPACE)).object
        operator.replace({**made, "status": {"observedGeneration": 1}}, subresource="status")
        if kind in ("Router", "Specialist"):
            with pytest.raises(Refused, match="cannot patch"):
                operator.merge(made, {"spec": {"suspend": True}})
            with pytest.raises(Refused, match="cannot update"):
                operator.replace(made)


def test_a_stale_status_is_refused(api: Api, operator: Api) -> None:
    """How two operators, or a cache that lags, do no harm."""
    old = api.apply(manifest("Specialist", NAMESPACE, "stale")).object
    operator.replace({**old, "status": {"stage": "Training"}}, subresource="status")
    with pytest.raises(Refused, match="the object has been modified"):
        operator.replace({**old, "status": {"stage": "Curating"}}, subresource="status")


def test_the_operator_makes_its_keys_lease_and_events(operator: Api) -> None:
    def made(version: str, kind: str, name: str, **rest: Any) -> Manifest:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **rest}

    operator.create(made("v1", "Secret", "slmfleet-keys", stringData={"control": "x"}))
    operator.read(made("v1", "Secret", "slmfleet-keys"))
    with pytest.raises(Refused, match="cannot list"):
        operator.get(f"/api/v1/namespaces/{NAMESPACE}/secrets")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    lease = made("coordination.k8s.io/v1", "Lease", "slmfleet-operator", spec={"holderIdentity": "a", "renewTime": now})
    operator.replace(operator.create(lease).object)
    involved = {"kind": "Router", "name": "one", "namespace": NAMESPACE}
    operator.create(made("v1", "Event", "one.1", involvedObject=involved, reason="Ready", message="m", type="Normal"))


def test_discovered_tasks_are_applied_with_their_owner(operator: Api) -> None:
    task = manifest("TaskCluster", NAMESPACE, "found")
    task["metadata"]["ownerReferences"] = [
        {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "Router", "name": "one", "uid": UID, "controller": True,
         "blockOwnerDeletion": False}
    ]  # fmt: skip
    operator.apply(task, manager="slmfleet", force=True)
