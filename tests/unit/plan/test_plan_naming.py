"""A Router's LLM may name tasks: the discovery job is told of it, and its failure is a note and nothing more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plan_builders import CONFIG, conditions, message, router, router_facts

from slmfleet.api.router import RouterStatus
from slmfleet.plan.facts import Plan
from slmfleet.plan.jobs import discover_job
from slmfleet.plan.pods import Object
from slmfleet.plan.router import plan_router
from slmfleet.wire.discovery import ClustersFile, DiscoveryResult, FoundCluster, Naming, Signature
from slmfleet.wire.routes import OutputFormat

LLM = {"url": "https://llm.example/v1", "model": "big", "apiKeySecretRef": {"name": "llm", "key": "token"}}


def template(**spec: Any) -> Object:
    made = discover_job(CONFIG, "d", ("agents", "uid"), router(**spec).spec, 1, "")
    found: Object = made["spec"]["template"]
    return found


def after_run(naming: Naming | None, title: str = "", mode: str = "LLM") -> Plan:
    task = FoundCluster(name="intent-play", version="sha256:0", description="d", title=title, size=9, share=0.5,
                        signature=Signature(), output_format=OutputFormat())
    file = ClustersFile(records=18, records_digest="sha256:0", clusters=[task], naming=naming)
    me = router(llm=LLM, discovery={"naming": {"mode": mode}})
    busy = replace(me, status=RouterStatus.model_validate({"discovery": {"job": "discover-agents-0001"}}))
    return plan_router(CONFIG, busy, router_facts(discovery=DiscoveryResult(clusters=file)))


ASKED: list[tuple[dict[str, Any], str, str | None]] = [
    ({}, "big", "llm"),
    ({"model": "small"}, "small", "llm"),
    ({"apiKeySecretRef": {"name": "namer", "key": "k"}}, "big", "namer"),
]


@pytest.mark.parametrize("naming, model, secret", ASKED)
def test_the_job_is_told_whom_to_ask(naming: dict[str, Any], model: str, secret: str) -> None:
    made = template(llm=LLM, discovery={"naming": {"mode": "LLM", **naming}})
    container = made["spec"]["containers"][0]
    told = " ".join(container["args"])
    assert f"--name-with https://llm.example/v1 --name-model {model} --name-key-env SLMFLEET_NAME_KEY" in told
    source = next(e for e in container["env"] if e["name"] == "SLMFLEET_NAME_KEY")["valueFrom"]["secretKeyRef"]
    assert source["name"] == secret and source["optional"] is True
    assert made["metadata"]["labels"]["slmfleet.dev/naming"] == "llm"


def test_an_llm_without_a_key_is_asked_without_one() -> None:
    made = template(llm={"url": "http://vllm/v1", "model": "big"}, discovery={"naming": {"mode": "LLM"}})
    assert "--name-with" in made["spec"]["containers"][0]["args"]
    assert "--name-key-env" not in made["spec"]["containers"][0]["args"]


@pytest.mark.parametrize("spec", [{"llm": LLM}, {"llm": {"url": LLM["url"]}, "discovery": {"naming": {"mode": "LLM"}}}])
def test_nobody_is_asked_by_default_or_without_a_model(spec: dict[str, Any]) -> None:
    made = template(**spec)
    assert "--name-with" not in made["spec"]["containers"][0]["args"]
    assert "slmfleet.dev/naming" not in made["metadata"]["labels"]


def test_a_title_goes_into_the_task_cluster() -> None:
    plan = after_run(Naming(model="big", asked=1, named=1), "Home control" * 10)
    (made,) = (o for o in plan.apply if o["kind"] == "TaskCluster")
    assert made["spec"]["title"] == ("Home control" * 10)[:80]
    (plain,) = (o for o in after_run(None).apply if o["kind"] == "TaskCluster")
    assert "title" not in plain["spec"]


def test_what_came_of_it_is_a_note() -> None:
    assert conditions(after_run(Naming(model="big", asked=2, named=2)))["TasksNamed"] == ("True", "Named")
    failed = after_run(Naming(model="big", asked=2, named=1, kept=3, own_words={"the LLM answered HTTP 500": 1}))
    assert conditions(failed)["TasksNamed"] == ("False", "OwnWords")
    told = "1 of 2 asked about named by big, 3 named before; 1 by their own words: the LLM answered HTTP 500"
    assert told in message(failed, "TasksNamed")
    assert conditions(failed)["Ready"] == conditions(after_run(None))["Ready"]
    assert conditions(failed)["Discovered"] == ("True", "TasksFound")


def test_without_asking_there_is_no_note() -> None:
    assert "TasksNamed" not in conditions(after_run(None))
    assert "TasksNamed" not in conditions(after_run(Naming(model="big", asked=1, named=1), mode="Words"))
