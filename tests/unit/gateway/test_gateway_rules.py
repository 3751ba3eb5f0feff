"""Rules written by hand: which calls they take, and what they win over."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_fakes import FakeLlm, Rig, chat, task
from gateway_faults import PLAY, chat_model, healthy

from slmfleet.gateway.match import compile_match, system_text
from slmfleet.wire.routes import Rule


def rule(match: dict[str, Any], specialist: str | None = None, name: str = "mine") -> dict[str, Any]:
    where = {"tier": "specialist", "specialist": specialist} if specialist else {"tier": "llm"}
    return {"name": name, "match": match, **where}


CALL = {"model": "gpt-5-mini", "messages": [
    {"role": "system", "content": "You name intents."},
    {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": "You are the auditor"}]}  # fmt: skip
HEADERS = {b"x-team": b"audit", b"host": b"g"}
MATCHES: list[tuple[dict[str, Any], bool]] = [
    ({"model": "gpt-5-mini"}, True),
    ({"model": "gpt-5"}, False),
    ({"model_prefix": "gpt-5"}, True),
    ({"model_prefix": "o3"}, False),
    ({"headers": [{"name": "X-Team", "value": "audit"}]}, True),
    ({"headers": [{"name": "x-team", "value": "Audit"}]}, False),
    ({"headers": [{"name": "x-team", "value": "audit"}, {"name": "x-other", "value": "1"}]}, False),
    ({"system_contains": "name intents"}, True),
    ({"system_contains": "Be brief"}, True),
    ({"system_contains": "auditor"}, False),
    ({"model_prefix": "gpt", "system_contains": "NAME"}, False),
    ({"model_prefix": "gpt", "system_contains": "name", "headers": [{"name": "x-team", "value": "audit"}]}, True),
]


@pytest.mark.parametrize(("match", "takes"), MATCHES, ids=[str(match) for match, _ in MATCHES])
def test_everything_that_a_rule_names_must_hold(match: dict[str, Any], takes: bool) -> None:
    assert compile_match(Rule.model_validate(rule(match))).takes(CALL, HEADERS) is takes


@pytest.mark.parametrize("body", [
    {}, {"messages": 7}, {"messages": [None, {"role": "system"}, {"role": "system", "content": [1]}]}])
def test_a_body_of_any_shape_is_read(body: dict[str, Any]) -> None:
    assert system_text(body).strip() == ""
    assert not compile_match(Rule.model_validate(rule({"model_prefix": "gpt"}))).takes(body, {})


async def test_a_rule_keeps_a_call_with_the_llm_that_was_learned_otherwise(rig: Rig) -> None:
    assert (await rig.post(task())).route["rule"] == "fingerprint"
    await rig.use({**rig.content, "version": 2, "rules": [
        rule({"headers": [{"name": "x-team", "value": "audit"}]}, name="audit")]})  # fmt: skip
    answer = await rig.post(task(), headers="X-Team: audit\r\n")
    assert answer.route == {"tier": "llm", "rule": "hand", "detail": "audit"}
    named = await rig.post(task() | {"model": "intents"}, headers="X-Team: audit\r\n")
    assert named.route == {"tier": "llm", "rule": "hand", "detail": "audit"}
    assert (await rig.post(task())).route["tier"] == "specialist"


async def test_a_rule_brings_a_call_to_a_specialist_that_was_not_learned(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "rules": [rule({"model": "voice"}, "intents", name="voice")]})
    answer = await rig.post(chat("anything") | {"model": "voice"})
    assert answer.route == {
        "tier": "specialist", "specialist": "intents", "rule": "hand", "detail": "voice", "arm": "stable",
        "revision": "rev1",
    }  # fmt: skip


async def test_a_declared_tasks_calls_go_to_its_specialist_in_its_arms(rig: Rig) -> None:
    """A rule by hand comes before it, and what was learned after it."""
    declared = [{"cluster": "intents", "signature": {"system_prompt": "Book {what} for {whom}."}}]
    system = {"role": "system", "content": "Book a table of 4 for Ann O."}
    call = {**task(), "messages": [system, task()["messages"][-1]]}
    await rig.use({**rig.content, "version": 2, "declared": declared})
    assert (await rig.post(call)).route == {
        "tier": "specialist", "specialist": "intents", "rule": "signature", "arm": "stable", "revision": "rev1"}
    await rig.use({**rig.content, "version": 3, "declared": declared, "rules": [
        rule({"system_contains": "for Ann"}, name="ann")]})  # fmt: skip
    assert (await rig.post(call)).route == {"tier": "llm", "rule": "hand", "detail": "ann"}
    await rig.use({**rig.content, "version": 4, "declared": [
        {"cluster": "other", "signature": {"system_prompt": task()["messages"][0]["content"]}}]})  # fmt: skip
    assert (await rig.post(task())).route == {"tier": "llm", "rule": "unserved", "detail": "other"}


async def test_the_first_rule_that_matches_wins(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "rules": [
        rule({"model_prefix": "gpt-5"}, name="big"),
        rule({"model": "gpt-5-voice"}, "intents", name="voice")]})  # fmt: skip
    assert (await rig.post(chat("x") | {"model": "gpt-5-voice"})).route["detail"] == "big"


async def test_a_rule_cannot_make_a_specialist_give_what_it_has_not(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 2, "rules": [
        rule({"model": "a"}, "intents"), rule({"model": "b"}, "gone")]})  # fmt: skip
    tools = await rig.post(chat("x", tools=[{"type": "function", "function": {"name": "f"}}]) | {"model": "a"})
    assert tools.route == {"tier": "llm", "rule": "unsupported", "detail": "tools"}
    gone = await rig.post(chat("x") | {"model": "b"})
    assert gone.route == {"tier": "llm", "rule": "unserved", "detail": "gone"}


@pytest.mark.parametrize(("bad", "field"), [
    (rule({}), "rules.0"), (rule({"model": ""}), "rules.0"),
    ({"name": "x", "match": {"model": "a"}, "tier": "specialist"}, "rules.0"),
    ({"name": "x", "match": {"model": "a"}, "tier": "llm", "specialist": "intents"}, "rules.0"),
    ({"name": "x", "match": {"model": "a"}, "tier": "generalist", "specialist": "intents"}, "rules.0"),
    ({"name": "x", "match": {"modle": "a"}, "tier": "llm"}, "rules.0.match.modle"),
    ({"name": "x", "match": {"model": "a"}, "tier": "moon"}, "rules.0.tier"),
])  # fmt: skip
async def test_a_rule_that_says_half_is_refused_by_name(rig: Rig, bad: dict[str, Any], field: str) -> None:
    rig.write({**rig.content, "version": 2, "rules": [bad]})
    await rig.gateway.watcher.look()
    assert rig.signals.table_version == 1
    assert (rig.signals.table_problem or "").startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("more", "tools", "share", "route"),
    [
        ({}, False, 100, {"tier": "generalist", "rule": "hand", "detail": "small"}),
        ({}, False, 0, {"tier": "generalist", "rule": "hand", "detail": "small"}),
        ({"tools": [PLAY]}, True, 100, {"tier": "generalist", "rule": "hand", "detail": "small"}),
        ({"tools": [PLAY]}, False, 100, {"tier": "llm", "rule": "hand", "detail": "small"}),
        ({"n": 2}, True, 100, {"tier": "llm", "rule": "unsupported", "detail": "n"}),
        ({"metadata": {"long": "x" * 40_000}}, True, 100, {"tier": "llm", "rule": "hand", "detail": "small"}),
    ],
)
async def test_a_rule_may_name_the_generalist(
    rig: Rig, more: dict[str, Any], tools: bool, share: int, route: dict[str, str]
) -> None:
    small = FakeLlm()
    await small.start()
    small.reply = healthy(chat_model("small"))
    generalist = {"url": f"{small.url}/v1", "model": "small", "tools": tools, "share_percent": share}
    rules = [{"name": "small", "match": {"model": "intents"}, "tier": "generalist"}]
    await rig.use({**rig.content, "version": 2, "generalist": generalist, "rules": rules})
    answer = await rig.post(task(**more) | {"model": "intents"})
    assert (answer.status, answer.route) == (200, route)
    assert (len(small.heard), rig.triton.heard) == (route["tier"] == "generalist", [])
    await small.stop()


async def test_a_rule_that_names_a_generalist_that_is_not_there_leaves_calls_with_the_llm(rig: Rig) -> None:
    rules = [{"name": "small", "match": {"model": "big"}, "tier": "generalist"}]
    await rig.use({**rig.content, "version": 2, "rules": rules})
    assert (await rig.post(task())).route == {"tier": "llm", "rule": "unserved", "detail": "generalist"}


async def test_a_rule_that_keeps_a_call_with_the_llm_keeps_it_from_the_generalist(rig: Rig) -> None:
    rules = [rule({"model": "big"}, name="big")]
    generalist = {"url": "http://127.0.0.1:9/v1", "model": "small"}
    await rig.use({**rig.content, "version": 2, "generalist": generalist, "rules": rules})
    answer = await rig.post(chat("x"))
    assert answer.route == {"tier": "llm", "rule": "hand", "detail": "big"}
