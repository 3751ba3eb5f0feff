"""A Router's redaction: refused by the field's name, told to every job that redacts, and a mark of datasets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from plan_builders import CONFIG, CURATED, NOW, after, conditions, facts, message, router, router_facts, specialist

from slmfleet.api.router import RouterStatus
from slmfleet.plan import redaction
from slmfleet.plan.attempt import names
from slmfleet.plan.facts import DenyList, JobFact, RouterObject
from slmfleet.plan.jobs import curate_job, discover_job
from slmfleet.plan.pods import Object
from slmfleet.plan.router import plan_router
from slmfleet.plan.specialist import plan_specialist

SECRET = {"denyListSecretRef": {"name": "never-said", "key": "names"}}
RULES = {"model": "none", "denyList": [{"value": "Falcon", "kind": "project"}],
         "patterns": [{"kind": "staff", "regex": r"ST-\d{6}"},
                      {"kind": "mood", "regex": "(?:😀|\\x{2028})", "ignoreCase": True}]}
PRIVATE = DenyList(12, "0123456789abcdef")


def ruled(rules: dict[str, Any], private: DenyList | None = None) -> RouterObject:
    """The Router as it is once its own plan was written."""
    me = router(redaction=rules)
    return replace(me, status=RouterStatus.model_validate(planned(me, deny_list=private).status))


def planned(me: RouterObject, **observed: Any) -> Any:
    return plan_router(CONFIG, me, router_facts(**observed))


def jobs(me: RouterObject) -> list[Object]:
    owner = ("agents", "uid")
    return [discover_job(CONFIG, "d", owner, me.spec, 1, ""),
            curate_job(CONFIG, "c", owner, "agents", me.spec, 1, "task", "datasets/x", 10, 20.0, "")]


def pod(job: Object) -> Object:
    return job["spec"]["template"]["spec"]


def options(job: Object) -> list[str]:
    found: list[str] = pod(job)["containers"][0]["args"]
    return found


def test_every_job_that_redacts_is_told_the_rules() -> None:
    for job in jobs(router(redaction=RULES | SECRET)):
        told = options(job)
        assert told[told.index("--model") + 1] == "none"
        assert [told[i + 1] for i, word in enumerate(told) if word == "--deny"] == [
            "/redaction/rules/deny.txt", "/redaction/private/deny.txt"]
        assert told[told.index("--patterns") + 1] == "/redaction/rules/patterns.yaml"


def test_the_rules_travel_with_the_job_as_files_of_its_pod() -> None:
    for job in jobs(router(redaction=RULES)):
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        volume = next(v for v in pod(job)["volumes"] if v["name"] == "annotations")
        files = {item["path"]: item["fieldRef"]["fieldPath"] for item in volume["downwardAPI"]["items"]}
        assert annotations["slmfleet.dev/deny-list"] == "Falcon\tproject\n"
        assert files["deny.txt"] == "metadata.annotations['slmfleet.dev/deny-list']"
        assert yaml.safe_load(annotations["slmfleet.dev/patterns"])["patterns"] == [
            {"kind": "staff", "regex": r"ST-\d{6}"}, {"kind": "mood", "regex": "(?:😀|\\x{2028})", "ignore_case": True}]


def test_a_job_of_a_router_without_rules_is_as_before() -> None:
    for job in jobs(router()):
        assert not {"--model", "--deny", "--patterns"} & set(options(job))
        assert "annotations" not in job["spec"]["template"]["metadata"]


def test_values_of_a_secret_are_in_no_object_of_the_operator() -> None:
    me = ruled(SECRET, PRIVATE)
    for job in jobs(me):
        assert any(v.get("secret", {}).get("secretName") == "never-said" for v in pod(job)["volumes"])
    assert me.status.redaction is not None and me.status.redaction.denied == 12


REFUSED = [
    ({"patterns": [{"kind": "a", "regex": "b"}, {"kind": "a", "regex": r"ST-(?!0)\d+"}]},
     "spec.redaction.patterns[1].regex: no regular expression of RE2's: invalid perl operator: (?! (at character 4)"),
    ({"patterns": [{"kind": "a", "regex": "("}]}, "spec.redaction.patterns[0].regex: no regular expression"),
    ({"denyList": [{"value": "Falcon"}, {"value": "--"}]}, "spec.redaction.denyList[1].value: has no letter"),
]


@pytest.mark.parametrize("rules, words", REFUSED)
def test_a_rule_that_cannot_be_used_is_refused_by_its_field(rules: dict[str, Any], words: str) -> None:
    plan = planned(router(redaction=rules))
    assert conditions(plan)["RedactionReady"] == ("False", "RuleInvalid")
    assert words in message(plan, "RedactionReady")
    assert conditions(plan)["Ready"][0] == "False"


@pytest.mark.parametrize("rules", [REFUSED[0][0], SECRET])
def test_nothing_is_read_without_the_rules(rules: dict[str, Any]) -> None:
    me = ruled(rules)
    busy = replace(me, status=me.status.model_copy(update={
        "discovery": me.status.discovery.model_copy(update={"job": "discover-agents-0001"})}))
    assert "Job" not in {o["kind"] for o in planned(busy).apply}
    of_task = specialist()
    of_task = after(of_task, plan_specialist(CONFIG, of_task, facts(router=me)))
    waiting = plan_specialist(CONFIG, of_task, facts(router=me))
    assert not waiting.apply
    assert conditions(waiting)["DatasetReady"] == ("Unknown", redaction.held(me).reason)  # type: ignore[union-attr]


def test_a_run_under_way_goes_on_when_the_secret_goes() -> None:
    me = ruled(SECRET)
    busy = replace(me, status=me.status.model_copy(update={
        "discovery": me.status.discovery.model_copy(update={"job": "discover-agents-0001", "run": 0})}))
    plan = planned(busy, jobs={"discover-agents-0001": JobFact("Running", started=NOW)})
    assert conditions(plan)["Discovered"] == ("Unknown", "JobRunning")


def test_the_secrets_coming_is_noticed() -> None:
    me = ruled(SECRET)
    assert conditions(planned(me))["RedactionReady"] == ("False", "DenyListMissing")
    assert conditions(planned(me, deny_list=PRIVATE))["RedactionReady"] == ("True", "InUse")


def pinned(me: RouterObject, of_task: Any = None) -> Any:
    of_task = of_task or specialist()
    return after(of_task, plan_specialist(CONFIG, of_task, facts(router=me)))


def test_rules_that_change_make_a_new_dataset() -> None:
    first = pinned(ruled(RULES))
    other = pinned(ruled(RULES | {"denyList": [{"value": "Eagle"}]}), first)
    assert names(first).dataset != names(other).dataset  # type: ignore[union-attr]
    assert first.status.training.redaction != other.status.training.redaction


@pytest.mark.parametrize("before, now, same", [
    (PRIVATE, PRIVATE, True), (PRIVATE, DenyList(13, "fedcba9876543210"), False), (PRIVATE, None, True),
])  # fmt: skip
def test_a_private_list_marks_the_dataset_by_its_digest(before: DenyList, now: DenyList | None, same: bool) -> None:
    first = pinned(ruled(SECRET, before))
    plan = plan_specialist(CONFIG, first, facts(router=ruled(SECRET, now), curation=CURATED))
    again = after(first, plan)
    assert (names(first) == names(again)) == same


def test_a_dataset_of_the_default_has_the_name_that_it_always_had() -> None:
    """An upgrade must not train every Specialist again."""
    assert redaction.digest(router()) is None
    assert names(pinned(router())).dataset == "datasets/intents-6a0e28b1c3"  # type: ignore[union-attr]
