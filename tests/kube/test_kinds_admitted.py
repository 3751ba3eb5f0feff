"""What the API server admits of the four kinds, what it refuses, and that a refusal names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver import Api, Refused
from manifests import ABSENT, DIGEST, RECIPIENT, changed, manifest

KINDS = ("Router", "TaskCluster", "Specialist", "BaseModel")
ARTIFACT = f"file:///adapters/intents/1@{DIGEST}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_object_of_each_kind_is_admitted(api: Api, namespace: str, kind: str) -> None:
    answer = api.apply(manifest(kind, namespace))
    assert answer.warnings == ()


ADMITTED = [
    ("Router", "spec.capture", {"enabled": False}),
    ("Router", "spec.capture", ABSENT),
    ("Router", "spec.store.url", "file:///fleet-a/store"),
    ("Router", "spec.llm.apiKeySecretRef", {"name": "llm", "key": "token"}),
    ("Router", "spec.llm.prices", {"inputPerMillion": 2.5, "outputPerMillion": 10}),
    ("Router", "spec.rules", [
        {"name": "audit", "match": {"headers": [{"name": "X-Team", "value": "audit"}]}, "tier": "llm"},
        {"name": "small", "match": {"model": "small"}, "tier": "generalist"},
        {"name": "voice", "match": {"modelPrefix": "v-"}, "tier": "specialist", "specialist": "voice"}]),
    ("Router", "spec.discovery", {"mode": "Auto", "specialist": {"gate": {"floor": 0.8}, "retrain": {}}}),
    ("Router", "spec.discovery", {"naming": {"mode": "LLM", "model": "big"}}),
    ("Router", "spec.redaction", {"model": "spacy:en_core_web_lg", "denyList": [{"value": "Müller & Söhne"}],
                                  "denyListSecretRef": {"name": "never-said", "key": "names"},
                                  "patterns": [{"kind": "staff", "regex": r"\bST-\d{6}\b", "ignoreCase": True}]}),
    ("Router", "spec.limits", {"requestsPerMinute": 600, "tokensPerMinute": 100000}),
    ("Router", "spec.gateway", {"hedgePercent": 0}),
    ("Router", "spec.gateway", {"accessLogPercent": 0.5, "otlpEndpoint": "http://collector.monitoring:4318"}),
    ("TaskCluster", "spec.outputFormat", {"type": "label", "labels": ["refund", "cancel"]}),
    ("TaskCluster", "spec.outputFormat", {"type": "json", "jsonSchema": "{}"}),
    ("TaskCluster", "spec.outputFormat", {"type": "tool"}),
    ("TaskCluster", "spec.signature", {"systemPrompt": "Sort the tickets of {customer}.", "tools": ["book"],
                                       "responseFormat": "json_schema:intent", "fingerprints": [DIGEST]}),
    ("TaskCluster", "metadata.name", "t" * 48),
    ("Specialist", "spec.rollout.steps", [100]),
    ("Specialist", "spec.rollout.steps", [5, 5, 25, 100]),
    ("Specialist", "spec.rollout.promote", DIGEST),
    ("Specialist", "spec.retrain", {"schedule": "*/15 3 * * MON-FRI", "newExamples": 500, "driftPercent": 15}),
    ("Specialist", "spec.artifact", ARTIFACT),
    ("Specialist", "spec.training", {"method": "DoRA", "rank": 32}),
    ("Specialist", "spec.training", {"method": "Full", "resources": {"memory": "64Gi"}}),
    ("Specialist", "spec", {"taskCluster": "t", "rollout": {"holdbackPercent": 2},
                            "retrain": {"agreementPercent": 90}}),
    ("Specialist", "spec.base.name", "tiny"),
    ("Specialist", "spec.base.limits", {"licences": ["Apache-2.0", "LicenseRef-Own"], "maxMemory": "8Gi"}),
    ("BaseModel", "spec.source", {"huggingFace": "Qwen/Qwen3-0.6B"}),
    ("BaseModel", "spec.pool", {"minReplicas": 2, "maxReplicas": 2, "replicas": 2}),
    ("BaseModel", "spec.pool.overlay.env", [{"name": "OMP_NUM_THREADS", "value": "1"}]),
    ("BaseModel", "spec.pool.overlay.volumes", [{"claimName": "env", "mountPath": "/opt/slmfleet/env"}]),
    ("BaseModel", "spec.pool.overlay.nodeSelector", {"kubernetes.io/arch": "amd64"}),
]


@pytest.mark.parametrize("kind, path, value", ADMITTED, ids=lambda part: str(part)[:40])
def test_good_fields_are_admitted(api: Api, namespace: str, kind: str, path: str, value: Any) -> None:
    api.apply(changed(manifest(kind, namespace), path, value))


# Kind, field set, value, the field that the refusal names, and words of its message.
REFUSED = [
    ("Router", "spec.llm", ABSENT, "spec.llm", "Required"),
    ("Router", "spec.llm.url", "llm.example/v1", "spec.llm.url", "https?"),
    ("Router", "spec.llm.timeoutSeconds", 0, "spec.llm.timeoutSeconds", "greater than 0"),
    ("Router", "spec.store.url", "s3://bucket/logs", "spec.store.url", "store.url must be file:///PATH"),
    ("Router", "spec.store.url", "file:///a b", "spec.store.url", "should match"),
    ("Router", "spec.store.url", "file:///a/../b", "spec.store.url", "must not have .."),
    ("Router", "spec.store.claimName", "", "spec.store.claimName", "at least 1"),
    ("Router", "spec.capture", {}, "spec.capture.recipients", "at least one age public key"),
    ("Router", "spec.capture.recipients", [], "spec.capture.recipients", "at least one age public key"),
    ("Router", "spec.capture.recipients", ["AGE-SECRET-KEY-1"], "spec.capture.recipients[0]", "should match"),
    ("Router", "spec.capture.recipients", [RECIPIENT] * 17, "spec.capture.recipients", "at most 16"),
    ("Router", "spec.capture.samplePercent", 101, "spec.capture.samplePercent", "less than or equal to 100"),
    ("Router", "spec.capture.segmentSeconds", 3601, "spec.capture.segmentSeconds", "less than or equal to 3600"),
    ("Router", "spec.capture.bufferBytes", 1000, "spec.capture.bufferBytes", "greater than or equal to 1048576"),
    ("Router", "spec.capture.retentionDays", 0, "spec.capture.retentionDays", "greater than or equal to 1"),
    ("Router", "spec.discovery", {"mode": "Auto"}, "spec.discovery.specialist", "Auto needs discovery.specialist"),
    ("Router", "spec.discovery", {"mode": "Auto", "specialist": {}}, "spec.discovery.specialist.gate", "Required"),
    ("Router", "spec.discovery", {"mode": "Auto", "specialist": {"gate": {}, "rollout": {"steps": [50, 10, 100]}}},
     "spec.discovery.specialist.rollout.steps", "must not fall"),
    ("Router", "spec.discovery", {"naming": {"mode": "LLM"}}, "spec.discovery.naming.model", "needs discovery.naming"),
    ("Router", "spec.discovery", {"naming": {"mode": "Dice"}}, "spec.discovery.naming.mode", "supported values"),
    ("Router", "spec.redaction.model", "bert", "spec.redaction.model", "should match"),
    ("Router", "spec.redaction.denyList", [{"value": "x"}], "spec.redaction.denyList[0].value", "at least 2"),
    ("Router", "spec.redaction.denyList", [{"value": "a\tb"}], "spec.redaction.denyList[0].value", "should match"),
    ("Router", "spec.redaction.denyList", [{"value": "Falcon", "kind": "Project"}], "spec.redaction.denyList[0].kind",
     "should match"),
    ("Router", "spec.redaction.denyList", [{"value": "ab"}] * 201, "spec.redaction.denyList", "at most 200"),
    ("Router", "spec.redaction.patterns", [{"kind": "a", "regex": "b"}] * 33, "spec.redaction.patterns", "at most 32"),
    ("Router", "spec.redaction.patterns", [{"kind": "a", "regex": "b" * 501}], "spec.redaction.patterns[0].regex",
     "may not be more than 500"),
    ("Specialist", "spec.retrain", {"agreementPercent": 90}, "spec.retrain", "needs rollout.holdbackPercent above 0"),
    ("Router", "spec.gateway.replicas", 0, "spec.gateway.replicas", "greater than or equal to 1"),
    ("Router", "spec.gateway.resources", {"cpu": "lots"}, "spec.gateway.resources.cpu", "should match"),
    ("Router", "spec.rules", [{"name": "a", "match": {}, "tier": "llm"}], "spec.rules[0].match", "at least one of"),
    ("Router", "spec.rules", [{"name": "a", "match": {"headers": []}, "tier": "llm"}], "spec.rules[0].match",
     "at least one of"),
    ("Router", "spec.rules", [{"name": "a", "match": {"model": "m"}, "tier": "specialist"}],
     "spec.rules[0].specialist", "specialist is needed"),
    ("Router", "spec.rules", [{"name": "a", "match": {"model": "m"}, "tier": "llm", "specialist": "s"}],
     "spec.rules[0].specialist", "specialist is needed"),
    ("Router", "spec.rules", [{"name": "a", "match": {"model": "m"}, "tier": "moon"}], "spec.rules[0].tier",
     "supported values"),
    ("Router", "spec.rules", [{"name": "a", "match": {"model": "m"}, "tier": "llm"}] * 2, "spec.rules", "one name"),
    ("Router", "spec.rules", [{"name": "a", "match": {"headers": [{"name": "Authorization", "value": "x"}]},
                               "tier": "llm"}], "spec.rules[0].match.headers", "carries a secret"),
    ("Router", "spec.limits", {"requestsPerMinute": 0}, "spec.limits.requestsPerMinute", "greater than or equal to 1"),
    ("Router", "spec.gateway.otlpEndpoint", "collector:4317", "spec.gateway.otlpEndpoint", "should match"),
    ("Router", "spec.currency", "usd", "spec.currency", "should match"),
    ("Router", "spec.llm.url", "https://" + "x" * 1024, "spec.llm.url", "may not be more than 1024"),
    ("Router", "spec.capure", {}, "spec.capure", "unknown field"),
    ("TaskCluster", "spec.router", "Not_A_Name", "spec.router", "should match"),
    ("TaskCluster", "spec.description", "x" * 4097, "spec.description", "4096"),
    ("TaskCluster", "spec.metric", "vibes", "spec.metric", "supported values"),
    ("TaskCluster", "spec.outputFormat", {"type": "label"}, "spec.outputFormat.labels", "labels is required"),
    ("TaskCluster", "spec.outputFormat", {"type": "label", "labels": []}, "spec.outputFormat.labels", "is required"),
    ("TaskCluster", "spec.outputFormat", {"type": "xml"}, "spec.outputFormat.type", "supported values"),
    ("TaskCluster", "spec.signature.fingerprints", ["abc"], "spec.signature.fingerprints", "sha256:DIGEST"),
    ("TaskCluster", "spec.signature.systemPrompt", "x" * 20_001, "spec.signature.systemPrompt", "20000"),
    ("TaskCluster", "metadata.name", "t" * 49, "metadata.name", "48"),
    ("TaskCluster", "metadata.name", "has.dots", "metadata.name", "should match"),
    ("Specialist", "spec.taskCluster", ABSENT, "spec.taskCluster", "Required"),
    ("Specialist", "spec.training.method", "Magic", "spec.training.method", "supported values"),
    ("Specialist", "spec.training.rank", 0, "spec.training.rank", "greater than or equal to 1"),
    ("Specialist", "spec.training.alpha", 0, "spec.training.alpha", "greater than 0"),
    ("Specialist", "spec.rollout.steps", [10, 50], "spec.rollout.steps", "must be 100"),
    ("Specialist", "spec.rollout.steps", [50, 10, 100], "spec.rollout.steps", "must not fall"),
    ("Specialist", "spec.rollout.steps", [], "spec.rollout.steps", "at least 1"),
    ("Specialist", "spec.rollout.steps", [0, 100], "spec.rollout.steps[0]", "greater than or equal to 1"),
    ("Specialist", "spec.rollout.promote", "sha256:12", "spec.rollout.promote", "should match"),
    ("Specialist", "spec.rollout.approval", "Maybe", "spec.rollout.approval", "supported values"),
    ("Specialist", "spec.base", {"name": "tiny", "trial": 2}, "spec.base.trial", "not with base.name"),
    ("Specialist", "spec.base.trial", 1, "spec.base.trial", "greater than or equal to 2"),
    ("Specialist", "spec.retrain.schedule", "every monday", "spec.retrain.schedule", "five cron fields"),
    ("Specialist", "spec.retrain.driftPercent", 0, "spec.retrain.driftPercent", "greater than 0"),
    ("Specialist", "spec.retrain.minimumIntervalSeconds", 1, "spec.retrain.minimumIntervalSeconds", "equal to 10"),
    ("Specialist", "spec.gate.confidence", 1, "spec.gate.confidence", "less than 1"),
    ("Specialist", "spec.artifact", "file:///adapters/intents", "spec.artifact", "artifact must be file:///PATH@sha256"),
    ("Specialist", "spec.artifact", f"s3://b/a@{DIGEST}", "spec.artifact", "artifact must be file:///PATH@sha256"),
    ("Specialist", "spec.dataset.heldoutPercent", 0, "spec.dataset.heldoutPercent", "greater than 0"),
    ("BaseModel", "spec.source", {}, "spec.source", "exactly one of"),
    ("BaseModel", "spec.source", {"huggingFace": "a/b", "storePath": "bases/a"}, "spec.source", "exactly one of"),
    ("BaseModel", "spec.source.storePath", "../keys", "spec.source.storePath", "should match"),
    ("BaseModel", "spec.source.storePath", "bases/../../keys", "spec.source.storePath", "must not have .."),
    ("BaseModel", "spec.parameters", 70_000_000_000, "spec.parameters", "less than or equal to 10000000000"),
    ("BaseModel", "spec.licence", "do what you like", "spec.licence", "should match"),
    ("BaseModel", "spec.memory", "lots", "spec.memory", "should match"),
    ("BaseModel", "spec.pool", {"minReplicas": 3, "maxReplicas": 2}, "spec.pool.minReplicas", "must not exceed"),
    ("BaseModel", "spec.pool", {"replicas": 5, "maxReplicas": 2}, "spec.pool.replicas", "must lie between"),
    ("BaseModel", "spec.pool.runtime", "llama.cpp", "spec.pool.runtime", "supported values"),
    ("BaseModel", "spec.pool.overlay.volumes", [{"claimName": "x", "mountPath": "/etc/x"}],
     "spec.pool.overlay.volumes[0].mountPath", "should match"),
    ("BaseModel", "spec.pool.overlay.hostPath", "/", "spec.pool.overlay.hostPath", "unknown field"),
    ("BaseModel", "spec.pool.overlay.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
     "spec.pool.overlay.env", "Duplicate"),
]  # fmt: skip


@pytest.mark.parametrize("kind, path, value, field, words", REFUSED, ids=lambda part: str(part)[:40])
def test_bad_fields_are_refused_by_name(
    api: Api, namespace: str, kind: str, path: str, value: Any, field: str, words: str
) -> None:
    """As kubectl sends it: a create with strict field validation."""
    with pytest.raises(Refused) as refused:
        api.create(changed(manifest(kind, namespace), path, value))
    assert field in str(refused.value)
    assert words in str(refused.value)


IMMUTABLE = [
    ("TaskCluster", "spec.router", "others", "spec.router", "router is immutable"),
    ("Specialist", "spec.taskCluster", "others", "spec.taskCluster", "taskCluster is immutable"),
    ("BaseModel", "spec.source", {"storePath": "bases/other"}, "spec.source", "source is immutable"),
    ("BaseModel", "spec.source", {"huggingFace": "a/b"}, "spec.source", "source is immutable"),
]


@pytest.mark.parametrize("kind, path, value, field, words", IMMUTABLE, ids=lambda part: str(part)[:40])
def test_immutable_fields_stay(
    api: Api, namespace: str, kind: str, path: str, value: Any, field: str, words: str
) -> None:
    made = manifest(kind, namespace)
    api.create(made)
    with pytest.raises(Refused) as refused:
        api.apply(changed(made, path, value), force=True)
    assert field in refused.value.causes
    assert words in str(refused.value)


def test_a_digest_may_be_added_to_a_source(api: Api, namespace: str) -> None:
    made = manifest("BaseModel", namespace)
    api.apply(made)
    api.apply(changed(made, "spec.source.digest", DIGEST))


def test_defaults_fill_what_is_not_said(api: Api, namespace: str) -> None:
    specialist = changed(manifest("Specialist", namespace), "spec.rollout", {})
    spec = api.apply(specialist).object["spec"]
    assert spec["rollout"]["steps"] == [10, 50, 100]
    assert spec["rollout"]["approval"] == "Automatic"
    assert spec["suspend"] is False
    assert "gate" not in spec, "objects have no defaults, only their leaves"


def test_applying_again_changes_nothing(api: Api, namespace: str) -> None:
    made = manifest("Router", namespace)
    first, second = api.apply(made).object, api.apply(made).object
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_the_servers_object_is_read_by_the_model(api: Api, namespace: str) -> None:
    """What the server admits, the operator accepts; and a field it does not know does not break it."""
    from slmfleet.api.crd import KINDS as kinds

    for kind in kinds:
        admitted = api.apply(manifest(kind.name, namespace)).object
        admitted["spec"]["newerField"] = 1
        kind.model.model_validate(admitted)


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_is_admitted(api: Api, namespace: str, file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        answer = api.create({**document, "metadata": {**document["metadata"], "namespace": namespace}})
        assert answer.warnings == ()
