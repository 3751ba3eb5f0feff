"""The real operator process against a real API server: a task that a person declared, with discovery off.

The test plays kubelet, controllers and jobs, as in test_operator_loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from apiserver import Api
from manifests import RECIPIENT
from test_operator_loop import ARTIFACT, CURATED, PASSED, TRAINED, World, gateway_at, until

from slmfleet.wire.declared import parse_tasks
from slmfleet.wire.routes import OutputFormat, RouteTable

PROMPT = "You sort the tickets of {customer}.\nAnswer refund or cancel.\n"
LABELS = {"type": "label", "labels": ["refund", "cancel"]}
ADDRESS = "127.77.9.9"


@pytest.fixture(scope="module")
def world(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """From manifests that are all there before the operator is, to a candidate in the route table."""
    api.namespace("declared")
    made = World(api, "declared", tmp_path_factory.mktemp("declared"), ADDRESS, kills=True)
    made.make_room()
    made.user_applies("BaseModel", "tiny")
    made.user_applies("Router", "agents", store__claimName="slmfleet-store", discovery={"enabled": False}, capture={
        "recipients": [RECIPIENT], "identitySecretRef": {"name": "opener", "key": "identity"}})  # fmt: skip
    made.user_applies("TaskCluster", "tickets", signature={"systemPrompt": PROMPT}, outputFormat=LABELS, metric="label")
    made.user_applies("TaskCluster", "silent")
    for name in ("tickets", "silent"):
        made.user_applies("Specialist", name, taskCluster=name, gate__floor=0.6)
    made.start()
    try:
        with gateway_at(ADDRESS, 1500):
            yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def jobs(world: World) -> dict[str, dict[str, Any]]:
    """The jobs in their order, each done; the operator is killed after each."""
    until("waiting for calls", lambda: world.reason("Specialist", "tickets", "DatasetReady") == "WaitingForCalls")
    until("the gateway", lambda: world.find("Deployment", "gateway-agents", "apps/v1"))
    world.gateway_runs()
    made = {}
    passed = PASSED.model_copy(update={"metric": "label"})
    results = (("curate", "report.json", CURATED.model_copy(update={"answered": {"llm": 900, "specialist": 30}})),
               ("train", "result.json", TRAINED), ("evaluate", "", passed))  # fmt: skip
    for step, file, result in results:
        made[step] = world.job(f"{step}-tickets-")
        world.perhaps_kill()
        world.finish(made[step], file, result)
    until("a candidate", lambda: world.status("Specialist", "tickets").get("candidate"))
    return made


def args(job: dict[str, Any]) -> list[str]:
    found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def test_curation_reads_the_declaration_and_the_log(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    given = args(jobs["curate"])
    assert given[given.index("--clusters") + 1] == "/redaction/rules/tasks.yaml"
    assert given[given.index("--cluster") + 1] == "tickets"
    until_ = world.status("Specialist", "tickets")["training"]["until"].replace("Z", "+00:00")
    assert given[given.index("--until") + 1] == until_
    (task,) = parse_tasks(jobs["curate"]["spec"]["template"]["metadata"]["annotations"]["slmfleet.dev/declared-tasks"])
    assert task.signature.system_prompt == PROMPT
    assert task.output_format == OutputFormat(type="label", labels=["refund", "cancel"])


def test_training_and_the_gate_follow(jobs: dict[str, dict[str, Any]]) -> None:
    dataset = args(jobs["curate"])[args(jobs["curate"]).index("--out") + 1]
    for step in ("train", "evaluate"):
        given = args(jobs[step])
        assert given[given.index("--dataset") + 1] == dataset
    given = args(jobs["evaluate"])
    assert given[given.index("--metric") + 1] == "label"


def test_the_task_shows_what_is_known_of_it(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    until("the candidate's dataset", lambda: "dataset" in world.status("TaskCluster", "tickets"))
    status = world.status("TaskCluster", "tickets")
    assert (status["calls"], status["teachable"]) == (930, 900)
    assert (status["dataset"], status["specialist"]) == (CURATED.dataset_digest, "tickets")
    assert "run" not in status
    assert world.reason("TaskCluster", "tickets", "Found") == "Declared"
    assert world.reason("TaskCluster", "tickets", "Recognised") == "BySignature"


def test_gateways_are_told_the_signature_with_the_candidate(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    def table() -> RouteTable | None:
        found = world.find("ConfigMap", "routes-agents", "v1") or {}
        read = RouteTable.model_validate(json.loads(found["data"]["table.json"]))
        return read if read.specialists else None

    # its pool has no server in this test, so the route is there before an adapter is
    told = until("a route", table)
    assert [(each.cluster, each.signature.system_prompt) for each in told.declared] == [("tickets", PROMPT)]
    assert told.specialists[0].candidate.name == ARTIFACT[7:19]


def test_one_that_cannot_be_recognised_says_what_is_missing(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    found = world.condition("Specialist", "silent", "DatasetReady")
    assert (found["status"], found["reason"]) == ("False", "NoSignature")
    assert "spec.signature" in found["message"]
    assert world.reason("Specialist", "silent", "Stalled") == "NoSignature"
    assert world.reason("TaskCluster", "silent", "Recognised") == "NoSignature"
    assert world.condition("TaskCluster", "silent", "Ready")["status"] == "True"


def test_no_discovery_ran(world: World, jobs: dict[str, dict[str, Any]]) -> None:
    found = world.api.get(f"/apis/batch/v1/namespaces/{world.namespace}/jobs")["items"]
    assert sorted(job["metadata"]["name"].split("-")[0] for job in found) == ["curate", "evaluate", "train"]
    assert "Traceback" not in world.log.read_text()
