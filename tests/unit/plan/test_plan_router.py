"""One Router: its store, its gateway, its route table, and when tasks are looked for."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from plan_builders import (
    ARTIFACT,
    CONFIG,
    NOW,
    applied,
    base,
    cluster,
    conditions,
    gateway,
    later,
    message,
    revision,
    router,
    router_facts,
    serving,
    specialist,
)

from slmfleet.api.router import RouterStatus
from slmfleet.gateway.origin import parse_url
from slmfleet.plan.facts import JobFact, Plan, RouterFacts, RouterObject
from slmfleet.plan.gateway import DIGEST
from slmfleet.plan.router import RETRY_SECONDS, plan_router
from slmfleet.plan.table import live_weights
from slmfleet.wire.discovery import ClassifierResult, ClustersFile, DiscoveryResult, FoundCluster, Signature
from slmfleet.wire.jobs import JobFailure
from slmfleet.wire.routes import OutputFormat
from slmfleet.wire.signals import CaptureSignals, TierSignals

CLASSIFIER = "sha256:" + "cf" * 32
GATEWAY = [("ConfigMap", "routes-agents"), ("Service", "gateway-agents"), ("Deployment", "gateway-agents")]


def planned(me: RouterObject, **observed: Any) -> Plan:
    return plan_router(CONFIG, me, router_facts(**observed))


def captured(records: int, instance: str = "g", **more: Any) -> Any:
    return gateway(instance, capture=CaptureSignals(records=records, **more))


def after(me: RouterObject, plan: Plan) -> RouterObject:
    return replace(me, status=RouterStatus.model_validate(plan.status))


STORE: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str], bool]] = [
    ("no claim", {}, {"claim": "Absent"}, ("False", "ClaimNotFound"), False),
    ("claim pending", {}, {"claim": "Pending"}, ("Unknown", "ClaimPending"), True),
    ("another claim", {"store": {"claimName": "other"}}, {}, ("False", "StoreNotMounted"), False),
    ("bound", {}, {}, ("True", "ClaimBound"), True),
]


@pytest.mark.parametrize("spec, observed, condition, made", [row[1:] for row in STORE], ids=[row[0] for row in STORE])
def test_without_its_store_no_gateway_is_made(
    spec: dict[str, Any], observed: dict[str, Any], condition: tuple[str, str], made: bool
) -> None:
    plan = planned(router(**spec), **observed)
    assert conditions(plan)["StoreReady"] == condition
    assert applied(plan) == (GATEWAY if made else [])
    assert ("Stalled" in conditions(plan)) == (not made)


PARTS: list[tuple[str, dict[str, Any], str, tuple[str, str], str]] = [
    ("no gateway yet", {"gateways_ready": 0}, "GatewayReady", ("False", "TooFewReplicas"), "0 of 1 gateways"),
    ("gateway ready", {}, "GatewayReady", ("True", "ReplicasReady"), "1 gateways"),
    ("store unwritable", {"signals": (captured(9, failing="No space left on device"),)}, "CaptureHealthy",
     ("False", "StoreUnwritable"), "No space left on device; calls go on"),
    ("records lost", {"signals": (captured(9, dropped=3),)}, "CaptureHealthy", ("True", "RecordsLost"), "3 records"),
    ("too few calls", {"signals": (captured(999),)}, "Discovered", ("Unknown", "WaitingForCalls"), "999 of 1,000"),
    ("no private key", {"secrets": frozenset()}, "Discovered", ("Unknown", "IdentityMissing"), "identitySecretRef"),
]  # fmt: skip


@pytest.mark.parametrize("observed, type_, condition, told", [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_each_part_says_how_it_is(
    observed: dict[str, Any], type_: str, condition: tuple[str, str], told: str
) -> None:
    plan = planned(router(), **observed)
    assert conditions(plan)[type_] == condition
    assert told in message(plan, type_)


def test_a_gateway_without_a_discovery_is_ready() -> None:
    assert conditions(planned(router()))["Ready"][0] == "True"


# --- discovery ---------------------------------------------------------------------------------------------------

def test_enough_new_calls_start_a_discovery_in_two_steps() -> None:
    """First its name goes into status, then the job is made: a restart in between makes no second one."""
    me = router()
    first = planned(me, signals=(captured(1000),))
    assert applied(first) == GATEWAY
    assert first.status["discovery"]["job"] == "discover-agents-0001"
    second = planned(after(me, first), signals=(captured(1200),))
    assert applied(second) == [*GATEWAY, ("Job", "discover-agents-0001")]
    assert conditions(second)["Discovered"] == ("Unknown", "JobRunning")


LEARNED: list[tuple[str, dict[str, Any], list[str]]] = [
    # what, the Specialist's status, what the job of run 4 is told beside the run before
    ("of an earlier run", {"stable": revision(discoveryRun=1)}, ["intents=/store/discovery/agents/0001"]),
    ("of the run before", {"stable": revision(discoveryRun=3)}, []),
    ("a candidate alone", {"candidate": revision(discoveryRun=1)}, []),
    ("trained elsewhere", {"stable": revision()}, []),
]


@pytest.mark.parametrize("status, told", [row[1:] for row in LEARNED], ids=[row[0] for row in LEARNED])
def test_drift_is_measured_from_what_the_stable_revision_learned_from(status: dict[str, Any], told: list[str]) -> None:
    me = router(status={"discovery": {"run": 3, "job": "discover-agents-0004", "time": NOW.isoformat()}})
    plan = planned(me, clusters={"intents": cluster()}, specialists={"intents": specialist("intents", status=status)})
    (job,) = [o for o in plan.apply if o["kind"] == "Job"]
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [b for a, b in pairwise(args) if a == "--trained"] == told
    assert "/store/discovery/agents/0003" in args


DISCOVERED = {"run": 1, "time": NOW.isoformat(), "clusters": 2, "capturedAtRun": 1000}
TRIGGERS: list[tuple[str, dict[str, Any], int, float, bool]] = [
    # what, discovery's status, calls in the log, seconds later, whether a run starts
    ("never run, enough", {}, 1000, 0, True),
    ("never run, too few", {}, 999, 0, False),
    ("too soon after the last", DISCOVERED, 9000, 3599, False),
    ("rested and enough new", DISCOVERED, 2000, 3600, True),
    ("rested, too few new", DISCOVERED, 1999, 3600, False),
]


@pytest.mark.parametrize("status, calls, seconds, starts", [t[1:] for t in TRIGGERS], ids=[t[0] for t in TRIGGERS])
def test_a_discovery_waits_for_new_calls_and_for_its_interval(
    status: dict[str, Any], calls: int, seconds: float, starts: bool
) -> None:
    plan = planned(router(status={"discovery": status}), signals=(captured(calls),), now=later(seconds))
    assert ("job" in plan.status["discovery"]) == starts


OFF: list[dict[str, Any]] = [{"discovery": {"enabled": False}}, {"capture": {"enabled": False}}]


@pytest.mark.parametrize("spec", OFF)
def test_without_a_log_nothing_is_discovered(spec: dict[str, Any]) -> None:
    plan = planned(router(**spec), signals=(captured(9999),))
    assert "Discovered" not in conditions(plan)
    assert "job" not in plan.status["discovery"]


UNDER_WAY = router(status={"discovery": {"job": "discover-agents-0001", "capturedAtRun": 1000}})
FAILURE = JobFailure(reason="StoreUnreachable", message="the store cannot be read")


@pytest.mark.parametrize("seconds, deleted", [
    (RETRY_SECONDS - 1, ()), (RETRY_SECONDS, (("Job", "discover-agents-0001"),))])
def test_a_failed_discovery_is_tried_again_after_a_while(seconds: float, deleted: Any) -> None:
    failed = {"discover-agents-0001": JobFact("Failed", FAILURE, ended=NOW)}
    plan = planned(UNDER_WAY, jobs=failed, now=later(seconds))
    assert conditions(plan)["Discovered"] == ("False", "StoreUnreachable")
    assert plan.delete == deleted
    assert ("Job", "discover-agents-0001") not in applied(plan)
    assert conditions(plan)["Ready"][0] == "True", "the gateway goes on"


def found(*names: str, unassigned: int = 250) -> DiscoveryResult:
    clusters = [FoundCluster(name=name, version=f"sha256:{name}", description="Answers with one intent.", size=375,
                             share=0.375, signature=Signature(fingerprints=["f1"], system_prompt="You name intents."),
                             output_format=OutputFormat(type="json", json_schema={
                                 "type": "object", "properties": {"intent": {"enum": ["a", "b"]}}}))
                for name in names]  # fmt: skip
    return DiscoveryResult(
        clusters=ClustersFile(records=1000, unassigned=unassigned, records_digest="sha256:r", clusters=clusters),
        classifier=ClassifierResult(digest=CLASSIFIER, path="router/x/classifier.npz", classes=list(names),
                                    foreign_rate=0.004, foreign_rate_upper=0.009, missed_rate=0.02))


def test_a_finished_discovery_becomes_task_clusters() -> None:
    plan = planned(UNDER_WAY, discovery=found("intents", "banking"), now=later(9))
    made = [o for o in plan.apply if o["kind"] == "TaskCluster"]
    assert [o["metadata"]["name"] for o in made] == ["intents", "banking"]
    assert made[0]["spec"]["metric"] == "label"
    assert made[0]["spec"]["router"] == "agents"
    assert json.loads(made[0]["spec"]["outputFormat"]["jsonSchema"])["type"] == "object"
    status = plan.status["discovery"]
    assert (status["run"], status["clusters"], status["unassignedPercent"]) == (1, 2, 25.0)
    assert "job" not in status
    assert conditions(plan)["Discovered"] == ("True", "TasksFound")


def test_a_discovery_in_a_sample_of_a_large_log_says_so() -> None:
    whole = found("intents")
    part = whole.model_copy(update={"clusters": whole.clusters.model_copy(update={"sample_share": 0.125})})
    for result, percent, words in ((whole, None, "run 1: 1 tasks"), (part, 12.5, "sought in 12.5 % of the conver")):
        plan = planned(UNDER_WAY, discovery=result, now=later(9))
        assert plan.status["discovery"].get("samplePercent") == percent
        assert words in next(c.message for c in plan.conditions if c.type == "Discovered")


def test_a_discovery_that_finds_nothing_says_so() -> None:
    plan = planned(UNDER_WAY, discovery=found())
    assert conditions(plan)["Discovered"] == ("True", "NoTaskFound")


def test_the_task_cluster_of_another_router_is_left_alone() -> None:
    theirs = {"intents": cluster(router="another")}
    plan = planned(UNDER_WAY, discovery=found("intents", "banking"), clusters=theirs)
    assert [o["metadata"]["name"] for o in plan.apply if o["kind"] == "TaskCluster"] == ["banking"]


def test_the_next_discovery_continues_from_the_last() -> None:
    me = router(status={"discovery": {**DISCOVERED, "job": "discover-agents-0002"}})
    (job,) = [o for o in planned(me).apply if o["kind"] == "Job"]
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--previous") + 1] == "/store/discovery/agents/0001"
    assert conditions(planned(me))["Discovered"] == ("True", "TasksFound"), "what was found stays found"


# --- the route table ---------------------------------------------------------------------------------------------

def table_of(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """The table, and what the next look will know of it."""
    made = next(o for o in plan.apply if o["kind"] == "ConfigMap")
    table = json.loads(made["data"]["table.json"])
    return table, {"version": table["version"], "digest": made["metadata"]["annotations"][DIGEST]}


def on_pool(**status: Any) -> dict[str, Any]:
    mine = specialist(status={"stable": revision(), **status})
    return {"clusters": {"intents": cluster()}, "specialists": {"intents": mine},
            "bases": {"tiny": base(status=serving("intents-adadadadadad"))}}


def test_the_version_grows_only_when_the_table_changes() -> None:
    me, known, versions = router(), None, []
    looks: list[dict[str, Any]] = [{}, {}, {"gateways_ready": 0}, on_pool(), on_pool(), {"now": later(99)}]
    for observed in looks:
        table, known = table_of(planned(me, table=known, **observed))
        versions.append(table["version"])
    assert versions == [1, 1, 1, 2, 2, 3]


def test_a_table_that_somebody_deleted_comes_back_with_a_newer_version() -> None:
    """A gateway never goes back to an older version: one that starts at 1 again would be ignored for ever."""
    me = router()
    plan = planned(me, table={"version": 41, "digest": "another"})
    assert table_of(plan)[0]["version"] == 42
    assert table_of(planned(after(me, plan), table=None))[0]["version"] == 43


def test_a_specialist_is_routed_once_it_has_a_revision() -> None:
    bare = {"clusters": {"intents": cluster()}, "specialists": {"intents": specialist()}}
    assert table_of(planned(router(), **bare))[0]["specialists"] == []
    table, _ = table_of(planned(router(), **on_pool()))
    (route,) = table["specialists"]
    assert route["stable"] == {"name": "adadadadadad", "adapter": "intents-adadadadadad", "pool": "tiny"}
    assert table["pools"][0]["endpoints"] == [{"url": "http://10.0.0.9:8000", "adapters": ["intents-adadadadadad"]}]


def test_a_server_with_an_ipv6_address_is_reached_by_it() -> None:
    held = serving("intents-adadadadadad")
    held["endpoints"][0]["address"] = "fd00::9"
    table, _ = table_of(planned(router(), **{**on_pool(), "bases": {"tiny": base(status=held)}}))
    (endpoint,) = table["pools"][0]["endpoints"]
    assert endpoint["url"] == "http://[fd00::9]:8000"
    assert str(parse_url(endpoint["url"])[0]) == endpoint["url"], "as the gateway reads it"


def test_a_specialist_of_another_router_is_not_routed() -> None:
    observed = on_pool() | {"clusters": {"intents": cluster(router="another")}}
    assert table_of(planned(router(), **observed))[0]["specialists"] == []


def test_a_server_that_does_not_answer_gets_no_calls() -> None:
    observed = on_pool() | {"bases": {"tiny": base(status=serving("intents-adadadadadad", ready=False))}}
    assert table_of(planned(router(), **observed))[0]["pools"][0]["endpoints"] == []


def test_a_pool_without_a_chat_template_is_left_out() -> None:
    assert table_of(planned(router(), **on_pool(), templates={}))[0]["pools"] == []


def test_a_schema_that_is_no_json_does_not_stop_the_gateway() -> None:
    broken = cluster(outputFormat={"type": "json", "jsonSchema": "{not json"})
    table, _ = table_of(planned(router(), **on_pool() | {"clusters": {"intents": broken}}))
    assert [route["name"] for route in table["specialists"]] == ["intents"]


@pytest.mark.parametrize("stage, weight, expected", [
    ("Placing", 0, (0, 0)), ("Shadow", 0, (0, 100)), ("Approval", 0, (0, 100)), ("Canary", 50, (50, 0)),
    ("Done", 100, (0, 0)), ("RolledBack", 0, (0, 0))])  # fmt: skip
def test_weights_follow_the_stage(stage: str, weight: int, expected: tuple[int, int]) -> None:
    status = {"candidate": revision(), "rollout": {"stage": stage, "weightPercent": weight}}
    assert live_weights(specialist(status=status)) == expected
    assert live_weights(specialist(status={"rollout": status["rollout"]})) == (0, 0)


def test_live_weights_are_in_status_and_in_the_table() -> None:
    observed = on_pool(candidate=revision("sha256:" + "0b" * 32), rollout={"stage": "Canary", "weightPercent": 10})
    plan = planned(router(), **observed)
    assert plan.status["weights"] == [{"specialist": "intents", "stable": "adadadadadad", "candidate": "0b0b0b0b0b0b",
                                       "candidatePercent": 10, "shadowPercent": 0}]
    assert table_of(plan)[0]["specialists"][0]["weight_percent"] == 10


def test_the_logs_bounds_and_its_retention_are_in_the_table_as_the_spec_states_them() -> None:
    stated = {"recipients": ["age1a"], "bodyLimitBytes": 2048, "segmentRecords": 7, "segmentSeconds": 1.5,
              "bufferBytes": 1 << 20, "retentionDays": 30}  # fmt: skip
    table = table_of(planned(router(capture=stated)))[0]
    assert table["capture"] == {
        "enabled": True, "sample_percent": 100.0, "recipients": ["age1a"], "body_limit_bytes": 2048,
        "segment_records": 7, "segment_seconds": 1.5, "buffer_bytes": 1 << 20, "retention_days": 30}  # fmt: skip


# --- totals ------------------------------------------------------------------------------------------------------

def tiers(instance: str, specialist_calls: int, llm_calls: int) -> Any:
    return gateway(instance, capture=CaptureSignals(records=specialist_calls + llm_calls), tiers={
        "specialist": TierSignals(calls=specialist_calls, input_tokens=1_000_000, output_tokens=500_000),
        "llm": TierSignals(calls=llm_calls)})  # fmt: skip


def test_totals_never_fall_when_gateways_come_and_go() -> None:
    me = router()
    me = after(me, planned(me, signals=(tiers("g-1", 30, 70),)))
    assert (me.status.captured, me.status.specialist_percent) == (100, 30.0)
    assert me.status.savings.llm_cost_avoided == pytest.approx(2 + 4)
    me = after(me, planned(me, signals=(tiers("g-2", 70, 30),)))
    assert (me.status.captured, me.status.specialist_percent) == (200, 50.0)
    me = after(me, planned(me))
    assert me.status.captured == 200


GENERALIST = {"url": "http://small.demo.svc/v1", "model": "small", "sharePercent": 30, "tools": True,
              "apiKeySecretRef": {"name": "small", "key": "token"}, "prices": {"inputPerMillion": 0.5}}  # fmt: skip


def test_a_generalist_is_in_the_table_with_its_rule_and_its_key_in_the_pod() -> None:
    plan = planned(router(generalist=GENERALIST))
    assert table_of(plan)[0]["generalist"] == {
        "url": "http://small.demo.svc/v1", "model": "small", "api_key_file": "/etc/slmfleet/generalist/key",
        "timeout_seconds": 30, "prices": {"input_per_million": 0.5, "output_per_million": 0}, "share_percent": 30,
        "max_request_bytes": 32768, "max_in_flight": 64, "tools": True, "escalations": False,
    }  # fmt: skip
    pod = plan.apply[2]["spec"]["template"]["spec"]
    [volume] = [v for v in pod["volumes"] if v.get("secret", {}).get("secretName") == "small"]
    assert volume["secret"]["items"] == [{"key": "token", "path": "key"}]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts[volume["name"]] == "/etc/slmfleet/generalist"
    assert "generalist" not in table_of(planned(router()))[0]


@pytest.mark.parametrize(("workers", "words"), [(1, []), (4, ["--workers", "4"])])
def test_a_pod_may_run_many_workers(workers: int, words: list[str]) -> None:
    plan = planned(router(gateway={"workers": workers}))
    arguments = plan.apply[2]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("/keys/origin") + 1 :] == words


def test_a_generalists_calls_and_savings_are_counted() -> None:
    counted = tiers("g-1", 25, 50)
    counted.tiers["generalist"] = TierSignals(calls=25, input_tokens=2_000_000)
    me = router(generalist=GENERALIST)
    me = after(me, planned(me, signals=(counted,)))
    assert [(tier.name, tier.calls, tier.share_percent) for tier in me.status.tiers] == [
        ("generalist", 25, 25.0), ("llm", 50, 50.0), ("specialist", 25, 25.0)]  # fmt: skip
    assert me.status.savings.llm_cost_avoided == pytest.approx(2 + 4 + 4)
    assert me.status.savings.specialist_cost == pytest.approx(1)
    me = after(me, planned(me))
    assert me.status.tiers[0].calls == 25


def test_totals_survive_more_gateways_than_are_listed() -> None:
    me = router()
    for i in range(230):
        me = after(me, planned(me, signals=(tiers(f"g-{997 - i}", 1, 0),)))
    assert me.status.captured == 230
    assert len(me.status.counted) <= 200


def test_the_same_facts_make_the_same_plan() -> None:
    observed: RouterFacts = router_facts(**on_pool(), signals=(captured(1000),))
    me = router()
    assert plan_router(CONFIG, me, observed) == plan_router(CONFIG, me, observed)


def test_the_gateway_holds_no_private_key() -> None:
    deployment = planned(router()).apply[2]
    mounted = {v["secret"]["secretName"] for v in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in v}
    assert mounted == {"slmfleet-keys"}
    assert ARTIFACT not in json.dumps(deployment)


def test_a_router_that_was_made_again_goes_on_after_the_runs_in_its_store() -> None:
    """Or it would take the old run's result, of traffic long gone, for that of its first own run."""
    me = router()
    plan = planned(me, signals=(captured(1000),), earlier_run=7)
    assert plan.status["discovery"]["job"] == "discover-agents-0008"
    again = planned(after(me, plan), signals=(captured(1000),))
    assert conditions(again)["Discovered"] == ("Unknown", "JobRunning")
    (job,) = [each for each in again.apply if each["kind"] == "Job"]
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--previous") + 1].endswith("discovery/agents/0007")
