"""Every rendered object is the golden one. SLMFLEET_GOLDEN=write renews them: read the difference before committing.

That a real API server admits them under Pod Security `restricted` is tests/kube/test_operator_objects.py's.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import yaml
from plan_builders import CONFIG, CURATED, after, facts, router, specialist
from rendered import rendered

from slmfleet.plan.facts import Meta, SpecialistObject
from slmfleet.plan.gateway import objects
from slmfleet.plan.pods import Object
from slmfleet.plan.specialist import plan_specialist
from slmfleet.wire.routes import RouteTable, Upstream

GOLDEN = Path(__file__).parents[2] / "golden" / "plan"
OBJECTS = rendered()


class Plain(yaml.SafeDumper):
    """Without anchors: what is there twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_a_rendered_object_is_the_golden_one(name: str) -> None:
    text = yaml.dump(OBJECTS[name], Dumper=Plain, sort_keys=True, width=120)
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("SLMFLEET_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text(), "run again with SLMFLEET_GOLDEN=write and read the difference"


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(OBJECTS)


PODS = {name: found for name, found in OBJECTS.items() if found["kind"] in ("Deployment", "Job")}
KEYHOLDERS = {"job-discover", "job-curate", "job-curate-declared"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_only_curation_can_open_the_log(name: str) -> None:
    volumes = PODS[name]["spec"]["template"]["spec"]["volumes"]
    assert any(v.get("secret", {}).get("secretName") == "opener" for v in volumes) == (name in KEYHOLDERS)


WRITES = {
    "gateway-deployment": {"fleet/usage/agents"},
    "pool-deployment": set(),
    "job-clean": {"fleet/artifacts", "fleet/datasets"},  # of what the named folders are
    "job-discover": {"fleet/discovery/agents", "fleet/router"},
    "job-curate": {"fleet/datasets"},
    "job-curate-declared": {"fleet/datasets"},
    "job-train": {"fleet/artifacts", "fleet/training"},
    "job-evaluate": {"fleet/evaluations"},
}


@pytest.mark.parametrize("name", sorted(PODS))
def test_each_pod_writes_only_its_own_folder_of_the_store(name: str) -> None:
    pod = PODS[name]["spec"]["template"]["spec"]
    mounts = [m for c in pod["containers"] for m in c["volumeMounts"] if m["name"] == "store"]
    assert mounts
    assert {m["subPath"] for m in mounts if not m.get("readOnly")} == WRITES[name]


@pytest.mark.parametrize("name", sorted(PODS))
def test_only_the_route_watcher_holds_a_token_of_the_api_server(name: str) -> None:
    pod = PODS[name]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    holders = {c["name"] for c in [*pod.get("initContainers", []), *pod["containers"]]
               if any(m["name"] == "token" for m in c["volumeMounts"])}
    assert holders == ({"routes"} if name == "gateway-deployment" else set())


def test_a_ray_job_runs_what_the_job_runs() -> None:
    """Quoted as a shell takes it apart again."""
    container = OBJECTS["job-train"]["spec"]["template"]["spec"]["containers"][0]
    assert shlex.split(OBJECTS["rayjob-train"]["spec"]["entrypoint"]) == [*container["command"], *container["args"]]


def test_a_ray_jobs_name_is_short_enough_for_kuberay() -> None:
    me = SpecialistObject(Meta("x" * 48, "uid", 1), specialist().spec, specialist().status)
    me = after(me, plan_specialist(CONFIG, me, facts()))
    (made,) = plan_specialist(CONFIG, me, facts(curation=CURATED, ray_jobs_served=True)).apply
    assert len(made["metadata"]["name"]) <= 47


def test_the_gateway_of_a_router_without_a_key_passes_the_callers_on() -> None:
    table = RouteTable(router="demo/agents", llm=Upstream(url="https://llm.example/v1"))
    made: Object = objects(CONFIG, router(), table)[2]
    assert "llm" not in {v.get("secret", {}).get("secretName") for v in made["spec"]["template"]["spec"]["volumes"]}


def test_a_gateway_is_seen_as_its_router_asks() -> None:
    table = RouteTable(router="demo/agents", llm=Upstream(url="https://llm.example/v1"))
    seen = router(gateway={"accessLogPercent": 2.5, "otlpEndpoint": "http://collector:4318"})
    made: Object = objects(CONFIG, seen, table)[2]
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["args"][-4:] == ["--access-log-percent", "2.5", "--otlp-endpoint", "http://collector:4318"]
