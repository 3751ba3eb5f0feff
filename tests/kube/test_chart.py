"""The chart on a real API server: admitted whole, under Pod Security `restricted`, with the rights it says, no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import Api, Refused, running
from chart import CHART, KUBERNETES, ROOT, helm, pods, render
from manifests import manifest

from slmfleet.api.crd import KINDS
from slmfleet.plan.config import Config

GOLDEN = ROOT / "tests" / "golden" / "chart.yaml"


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def test_helm_lints_it() -> None:
    assert "0 chart(s) failed" in helm("lint", CHART, "--strict", "--kube-version", KUBERNETES).stdout


def test_the_default_release_is_the_golden_one(request: pytest.FixtureRequest) -> None:
    """Without the CRDs and the catalogue, which have their own sources. SLMFLEET_GOLDEN=write renews it."""
    objects = [o for o in render() if o["kind"] != "CustomResourceDefinition"]
    named(objects, "ConfigMap", "slmfleet-catalogue")["data"] = {}
    text = yaml.safe_dump_all(objects, sort_keys=True)
    if os.environ.get("SLMFLEET_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "run again with SLMFLEET_GOLDEN=write and read the difference"


WRONG_VALUES = [
    ({"storre": {}}, "storre"),
    ({"store": {"claim": "x"}}, "claim"),
    ({"images": {"gateway": "x"}}, "gateway"),
    ({"imagePullPolicy": "Sometimes"}, "imagePullPolicy"),
    ({"trainer": {"volumes": [{"claimName": "env"}]}}, "mountPath"),
    ({"trainer": {"volumes": [{"claimName": "env", "mountPath": "/etc"}]}}, "mountPath"),
    ({"kubeRay": "perhaps"}, "kubeRay"),
    ({"autoSpecialists": "perhaps"}, "autoSpecialists"),
    ({"operator": {"replicas": 2}}, "replicas"),
    ({"networkPolicy": {"enabled": "yes"}}, "enabled"),
    ({"uninstall": {"timeoutSeconds": 1}}, "timeoutSeconds"),
]


@pytest.mark.parametrize("values, word", WRONG_VALUES, ids=lambda part: str(part)[:40])
def test_wrong_values_are_refused_by_name(tmp_path: Path, values: dict[str, Any], word: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm("template", "slmfleet", CHART, "--kube-version", KUBERNETES, "-f", file, check=False)
    assert done.returncode != 0
    assert word in done.stderr


def test_the_operator_reads_the_charts_config() -> None:
    values = {
        "images": {"trainer": "trainer:dev"},
        "trainer": {"volumes": [{"claimName": "env-train", "mountPath": "/opt/slmfleet/env"}]},
        "pool": {"python": "/opt/serve/bin/python"},
        "kubeRay": "never",
        "store": {"claimName": "elsewhere"},
    }
    text = named(render("staging", **values), "ConfigMap", "slmfleet-config")["data"]["config.yaml"]
    config = Config.model_validate(yaml.safe_load(text))
    assert (config.namespace, config.store_claim, config.kube_ray) == ("staging", "elsewhere", "never")
    assert (config.images.trainer, config.images.pool) == ("trainer:dev", "slmfleet-pool:0.1.0")
    assert config.trainer.volumes[0].claim_name == "env-train"
    assert config.pool.python == "/opt/serve/bin/python"


def test_a_change_of_the_config_starts_a_new_operator() -> None:
    def checksum(**values: Any) -> str:
        template = named(render(**values), "Deployment", "slmfleet-operator")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum()
    assert checksum() != checksum(kubeRay="never")


def test_the_store_is_made_only_when_asked_and_kept() -> None:
    assert not [o for o in render() if o["kind"] == "PersistentVolumeClaim"]
    claim = named(render(store={"create": True}), "PersistentVolumeClaim", "slmfleet-store")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_crds_can_be_left_to_somebody_else() -> None:
    crds = [o["metadata"]["name"] for o in render() if o["kind"] == "CustomResourceDefinition"]
    assert sorted(crds) == sorted(kind.crd_name for kind in KINDS)
    assert not [o for o in render(crds={"install": False}) if o["kind"] == "CustomResourceDefinition"]


def test_nothing_is_cluster_wide_but_the_crds() -> None:
    kinds = {o["kind"] for o in render()}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "Namespace", "PersistentVolume"}
    namespaced = [o for o in render() if o["kind"] != "CustomResourceDefinition"]
    assert {o["metadata"].get("namespace") for o in namespaced} == {"demo"}


ALL_ON = {"store": {"create": True}, "gateway": {"routeTables": ["agents-routes"]},
          "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}],
                            "jobEgress": [{"ports": [{"port": 443}]}], "poolEgress": [{"ports": [{"port": 443}]}],
                            "namingEgress": [{"ports": [{"port": 8443}]}]},
          "imagePullSecrets": [{"name": "pull"}],
          "operator": {"priorityClassName": "system-cluster-critical", "podAnnotations": {"a": "b"},
                       "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}}  # fmt: skip


@pytest.mark.parametrize("values", [{}, ALL_ON], ids=["defaults", "all on"])
def test_every_object_is_admitted_under_restricted(server: Api, values: dict[str, Any], request: Any) -> None:
    namespace = f"chart-{len(values)}"
    server.namespace(namespace, enforce="restricted", warn="restricted")
    objects = render(namespace, **values)
    for each in objects:
        if each["kind"] == "ServiceAccount":
            server.apply(each)
    for each in objects:
        answer = server.apply(each, dry_run=True)
        assert answer.warnings == (), each["metadata"]["name"]


def test_every_pod_passes_pod_security_restricted(server: Api) -> None:
    server.namespace("chart-pods", enforce="restricted")
    objects = render("chart-pods")
    for account in (o for o in objects if o["kind"] == "ServiceAccount"):
        server.apply(account)
    made = pods(objects)
    assert {pod["metadata"]["name"] for pod in made} == {"slmfleet-operator", "slmfleet-uninstall"}
    for pod in made:
        server.create(pod, dry_run=True)
        with pytest.raises(Refused, match="violates PodSecurity"):
            server.create({**pod, "spec": {**pod["spec"], "hostNetwork": True}}, dry_run=True)


def test_every_catalogue_model_is_admitted(api: Api, namespace: str) -> None:
    text = named(render(), "ConfigMap", "slmfleet-catalogue")["data"]["catalogue.yaml"]
    models = list(yaml.safe_load_all(text))
    assert len(models) >= 8
    for model in models:
        assert model["metadata"]["annotations"]["slmfleet.dev/source"].startswith("https://huggingface.co/")
        api.create({**model, "metadata": {**model["metadata"], "namespace": namespace}})


@pytest.fixture(scope="module")
def installed(server: Api) -> str:
    """Accounts, Roles and RoleBindings of a release, for real."""
    server.namespace("chart-rights")
    for each in render("chart-rights"):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            server.apply(each)
    return "chart-rights"


# Account, verb, group, resource, name, and whether it may.
RIGHTS = [
    ("operator", "watch", "slmfleet.dev", "specialists", "", True),
    ("operator", "update", "slmfleet.dev", "specialists/status", "", True),
    ("operator", "patch", "slmfleet.dev", "specialists/status", "", False),
    ("operator", "create", "slmfleet.dev", "taskclusters", "", True),
    ("operator", "create", "slmfleet.dev", "specialists", "", False),
    ("operator", "patch", "slmfleet.dev", "specialists", "", False),
    ("operator", "update", "slmfleet.dev", "routers", "", False),
    ("operator", "update", "slmfleet.dev", "basemodels/scale", "", False),
    ("operator", "delete", "slmfleet.dev", "routers", "", False),
    ("operator", "create", "apps", "deployments", "", True),
    ("operator", "create", "ray.io", "rayjobs", "", True),
    ("operator", "get", "", "secrets", "control-key", True),
    ("operator", "list", "", "secrets", "", False),
    ("operator", "watch", "", "secrets", "", False),
    ("operator", "delete", "", "secrets", "", False),
    ("operator", "create", "", "pods", "", False),
    ("operator", "create", "", "pods/exec", "", False),
    ("operator", "get", "", "pods/log", "", False),
    ("operator", "delete", "", "persistentvolumeclaims", "", False),
    ("operator", "create", "rbac.authorization.k8s.io", "roles", "", False),
    ("operator", "create", "", "serviceaccounts/token", "", False),
    ("operator", "update", "coordination.k8s.io", "leases", "slmfleet-operator", True),
    ("operator", "update", "coordination.k8s.io", "leases", "another", False),
    ("gateway", "watch", "", "configmaps", "agents-routes", True),
    ("gateway", "list", "", "configmaps", "", False),
    ("gateway", "patch", "", "configmaps", "agents-routes", False),
    ("gateway", "get", "", "secrets", "", False),
    ("gateway", "list", "", "pods", "", False),
    ("job", "get", "", "configmaps", "", False),
    ("job", "get", "", "secrets", "", False),
    ("pool", "get", "", "configmaps", "", False),
    ("uninstall", "delete", "ray.io", "rayjobs", "", True),
    ("uninstall", "create", "apps", "deployments", "", False),
    ("uninstall", "delete", "apps", "deployments", "", True),
    ("uninstall", "delete", "", "secrets", "", False),
    ("uninstall", "delete", "", "persistentvolumeclaims", "", False),
    ("uninstall", "delete", "slmfleet.dev", "specialists", "", False),
]


@pytest.mark.parametrize("account, verb, group, resource, name, allowed", RIGHTS)
def test_each_account_may_what_it_needs(
    server: Api, installed: str, account: str, verb: str, group: str, resource: str, name: str, allowed: bool
) -> None:
    user = server.as_user(f"system:serviceaccount:{installed}:slmfleet-{account}")
    assert user.may(verb, resource, group=group, namespace=installed, name=name) is allowed
    assert not user.may(verb, resource, group=group, namespace="default", name=name), "and nothing outside"
    assert not user.may(verb, resource, group=group), "and nothing cluster-wide"


def test_gateways_watch_only_the_named_route_tables(server: Api) -> None:
    """A watch with a resource name works with the field selector metadata.name, and only with it."""
    server.namespace("chart-tables")
    for each in render("chart-tables", gateway={"routeTables": ["agents-routes"]}):
        if each["kind"] in ("ServiceAccount", "Role", "RoleBinding"):
            server.apply(each)
    server.apply({"apiVersion": "v1", "kind": "ConfigMap",
                  "metadata": {"name": "agents-routes", "namespace": "chart-tables"}})  # fmt: skip
    gateway = server.as_user("system:serviceaccount:chart-tables:slmfleet-gateway")
    path, watch = "/api/v1/namespaces/chart-tables/configmaps", {"watch": "true", "timeoutSeconds": "1"}
    seen = gateway.get(path, **watch, fieldSelector="metadata.name=agents-routes")
    assert (seen["type"], seen["object"]["metadata"]["name"]) == ("ADDED", "agents-routes")
    for refused in ({}, {"fieldSelector": "metadata.name=slmfleet-config"}):
        with pytest.raises(Refused, match="Forbidden"):
            gateway.get(path, **watch, **refused)


def test_no_role_has_a_wildcard() -> None:
    for role in (o for o in render() if o["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_without_kuberay_the_operator_may_not_touch_rayjobs() -> None:
    role = named(render(kubeRay="never"), "Role", "slmfleet-operator")
    assert not [rule for rule in role["rules"] if "ray.io" in rule["apiGroups"]]


def test_specialists_are_made_only_where_that_was_asked_for() -> None:
    def may_create(**values: Any) -> bool:
        role = named(render(**values), "Role", "slmfleet-operator")
        return any("specialists" in rule["resources"] and "create" in rule["verbs"] for rule in role["rules"])

    assert not may_create()
    assert may_create(autoSpecialists=True)


def test_helm_installs_upgrades_and_uninstalls_it(tmp_path: Path) -> None:
    """The whole release on an empty server; the next install finds the kept CRDs and the store, and goes on."""
    with running(tmp_path) as api:
        api.namespace("fleet", enforce="restricted")
        api.namespace("other")
        where = ("-n", "fleet", "--kubeconfig", api.kubeconfig)
        store = ("--set", "store.create=true")
        assert (
            "Make a key pair for the usage log"
            in helm("install", "slmfleet", CHART, *where, *store, home=tmp_path).stdout
        )
        for kind in KINDS:
            api.wait_for_kind("slmfleet.dev/v1alpha1", kind.name)
        api.create(manifest("Router", "fleet"))
        helm("upgrade", "slmfleet", CHART, *where, *store, "--set", "kubeRay=never", home=tmp_path)
        second = ("-n", "other", "--kubeconfig", api.kubeconfig, "--set", "crds.install=false")
        helm("install", "slmfleet", CHART, *second, home=tmp_path)
        helm("uninstall", "slmfleet", *where, "--no-hooks", home=tmp_path)  # hooks need a node
        api.get("/api/v1/namespaces/fleet/persistentvolumeclaims/slmfleet-store")
        api.read(manifest("Router", "fleet"))
        assert api.get("/apis/apps/v1/namespaces/fleet/deployments")["items"] == []
        helm("install", "slmfleet", CHART, *where, *store, home=tmp_path)
