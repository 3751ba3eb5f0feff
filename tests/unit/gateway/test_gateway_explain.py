"""Explaining a call: the same decision as the data path's, with its reason, from a table and no server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway_fakes import (
    FakeClassifier,
    FakeServer,
    Heard,
    Rig,
    chat,
    classifier_from,
    fingerprint,
    table,
    task,
    whole,
)
from typer.testing import CliRunner

from slmfleet.cli.main import app
from slmfleet.gateway.explain import Explanation, explain, table_for_reading
from slmfleet.wire.routes import RouteTable

RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
CLASSIFIER = {"digest": "sha256:" + "0" * 64, "path": "c"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CANDIDATE = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
AUDIT = {"name": "audit", "match": {"headers": [{"name": "x-team", "value": "audit"}]}, "tier": "llm"}
SMALL = {"url": "http://small/v1", "model": "small", "api_key_file": "/nowhere"}


def content(**changes: Any) -> dict[str, Any]:
    made = table("http://llm", "http://triton:8000", RECIPIENT)
    route = changes.pop("route", {})
    made["specialists"][0] |= route
    return made | changes


def explained(request: dict[str, Any], *, headers: dict[str, str] | None = None, ask: bool = True,
              api: str = "chat.completions", **changes: Any) -> Explanation:
    spec = RouteTable.model_validate(content(classifier=CLASSIFIER, **changes))
    ready = table_for_reading(spec, FakeClassifier() if ask else None)
    return explain(ready, request, fingerprint, headers=headers, api=api)


CALLS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str | None, str, str]]] = [
    # what, call, table and headers, (tier, rule, words of the reason)
    ("fingerprint", task(), {}, ("specialist", "fingerprint", "its frame is one that the table lists")),
    ("declared", chat("x", system="Say {n}."), {"declared": [{"cluster": "intents", "signature": {
        "system_prompt": "Say {x}."}}]}, ("specialist", "signature", "declared for the specialist's task")),
    ("declared, and nobody serves it", task(), {"declared": [{"cluster": "other", "signature": {
        "system_prompt": "Name the intent."}}]}, ("llm", "unserved", "other has no specialist")),
    ("classifier", chat("some music"), {}, ("specialist", "classifier", "with a score of 0.900")),
    ("abstains", chat("x"), {}, ("llm", "abstain", "the classifier abstains (low score)")),
    ("by name", chat("x") | {"model": "intents"}, {}, ("specialist", "explicit", "the specialist's name")),
    ("tools", task(tools=TOOLS), {}, ("llm", "unsupported", "does not give: tools")),
    ("hand", task(), {"rules": [AUDIT], "headers": {"X-Team": "audit"}}, ("llm", "hand", "the rule audit takes it")),
    ("not this rule", task(), {"rules": [AUDIT]}, ("specialist", "fingerprint", "")),
    ("no specialist", chat("some music"), {"specialists": []}, ("llm", "none", "no specialists")),
    ("unserved", chat("some music"), {"route": {"cluster": "other"}}, ("llm", "unserved", "intents has no specialist")),
    ("cold", task(), {"route": {"stable": CANDIDATE | {"adapter": "gone"}}}, ("llm", "fingerprint", "holds gone now")),
    ("generalist", chat("x"), {"generalist": SMALL}, ("generalist", "abstain", "abstains")),
    ("in the LLM's arm", task(), {"route": {"stable": None, "candidate": CANDIDATE, "weight_percent": 0}},
     ("llm", "fingerprint", "the LLM's arm")),
    ("not asked", chat("some music"), {"ask": False}, (None, "abstain", "is not at hand")),
    ("not asked and not needed", task(), {"ask": False}, ("specialist", "fingerprint", "")),
    ("another API", task(), {"api": "embeddings"}, ("llm", "none", "a call of embeddings")),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "given", "expected"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_call_is_explained(
    request_: dict[str, Any], given: dict[str, Any], expected: tuple[str | None, str, str]
) -> None:
    found = explained(request_, **given)
    assert (found.tier, found.rule) == expected[:2]
    assert expected[2] in found.why


@pytest.mark.parametrize(("percent", "servers", "told"), [(5, 2, True), (0, 2, False), (5, 1, False)])
def test_that_a_late_answer_is_hedged_is_told_where_it_is(percent: float, servers: int, told: bool) -> None:
    pools = content()["pools"]
    pools[0]["endpoints"] = [{"url": f"http://t{n}:8000", "adapters": ["intents-1"]} for n in range(servers)]
    found = explained(task(), pools=pools, hedge_percent=percent)
    assert ("the latest 5 %, a second server is asked" in found.why) is told


def test_the_classifiers_figures_are_told_whoever_decided() -> None:
    found = explained(task("play some music"))
    assert (found.rule, found.label, found.score, found.threshold, found.runner_up) == (
        "fingerprint", "intents", 0.9, 0.8, "other")  # fmt: skip
    assert (found.specialist, found.arm, found.revision) == ("intents", "stable", "rev1")


async def test_the_explanation_is_what_the_gateway_does(rig: Rig) -> None:
    (rig.folder / "store").mkdir(exist_ok=True)
    (rig.folder / "store" / "c").write_bytes(b"x")
    spec = {**rig.content, "version": 2, "classifier": CLASSIFIER, "rules": [AUDIT]}
    spec["specialists"][0] |= {"candidate": CANDIDATE, "weight_percent": 50}
    await rig.use(spec)
    ready = table_for_reading(RouteTable.model_validate(spec), classifier_from(rig.folder / "store" / "c", ""))
    for number in range(8):
        for body in (task(str(number)), chat(f"music {number}"), chat(str(number)), task(str(number), tools=TOOLS)):
            for headers in ({}, {"x-team": "audit"}, {"x-conversation-id": f"c{number}"}):
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                route = (await rig.post(body, headers=lines)).route
                found = explain(ready, body, fingerprint, headers=headers)
                assert (found.tier, found.rule, found.revision) == (
                    route["tier"], route["rule"], route.get("revision"))  # fmt: skip


# --- the command ---


def run(*args: object) -> Any:
    return CliRunner().invoke(app, ["explain-route", *[str(arg) for arg in args]], prog_name="slmfleet")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "table.json"
    spec = content(rules=[{"name": "small", "match": {"model": "gpt-mini"}, "tier": "specialist",
                           "specialist": "intents"}])  # fmt: skip
    spec["llm"]["api_key_file"] = "/nowhere/key"
    path.write_text(json.dumps(spec))
    return path


def test_the_command_explains_by_a_table_without_its_key(written: Path) -> None:
    done = run("--table", written, "--prompt", "x", "--model", "gpt-mini")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[:3] == [
        "tier        specialist: specialist intents, revision rev1, arm stable", "rule        hand (small)",
        "why         the rule small takes it"]  # fmt: skip
    found = json.loads(run("--table", written, "--prompt", "x", "--model", "gpt-mini", "--json").stdout)
    assert found.keys() == set(Explanation.__slots__)
    assert (found["tier"], found["rule"], found["detail"], found["score"]) == ("specialist", "hand", "small", None)


def test_a_usage_record_is_explained_by_its_api(written: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"id": "1", "api": "embeddings", "request": {"input": "x"}}))
    assert "a call of embeddings" in run("--table", written, "--request", record).stdout


class FakeApi(FakeServer):
    """An API server that has one ConfigMap."""

    def __init__(self, table: Path) -> None:
        super().__init__()
        self.config_map: dict[str, Any] = {"data": {"table.json": table.read_text()}}

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.target == "/api/v1/namespaces/prod/configmaps/routes-agents":
            writer.write(whole(json.dumps({"kind": "ConfigMap", **self.config_map}).encode()))
            return
        body = {"kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404}
        writer.write(whole(json.dumps(body).encode(), status="404 Not Found"))


async def test_a_router_of_the_cluster_is_explained_by_its_configmap(written: Path, tmp_path: Path) -> None:
    api = FakeApi(written)
    await api.start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": api.url}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "prod"}}]}))  # fmt: skip
    call = ["--prompt", "x", "--model", "gpt-mini", "--kubeconfig", str(kubeconfig)]
    found = await asyncio.to_thread(run, "agents", *call, "--json")
    assert json.loads(found.stdout)["detail"] == "small"
    text = api.config_map["data"]["table.json"]
    api.config_map = {"binaryData": {"table.json.gz": base64.b64encode(gzip.compress(text.encode())).decode()}}
    again = await asyncio.to_thread(run, "agents", *call, "--json")
    assert again.stdout == found.stdout
    api.config_map = {"binaryData": {"table.json.gz": "eA=="}}
    broken = await asyncio.to_thread(run, "agents", *call)
    assert broken.exit_code == 1
    assert "ConfigMap routes-agents: table.json.gz is not what the operator writes" in broken.stderr
    gone = await asyncio.to_thread(run, "nobody", *call)
    assert gone.exit_code != 0
    assert "no ConfigMap routes-nobody in namespace prod" in gone.stderr
    elsewhere = await asyncio.to_thread(run, "agents", *call, "-n", "test")
    assert "in namespace test" in elsewhere.stderr
    await api.stop()


@pytest.mark.parametrize(("args", "words"), [
    (["--prompt", "x"], "ROUTER, --table or --classifier"),
    (["--table", "TABLE"], "--prompt and --request"),
    (["agents", "--table", "TABLE", "--prompt", "x"], "ROUTER and --table"),
    (["--table", "/nowhere", "--prompt", "x"], "--table /nowhere"),
    (["--table", "TABLE", "--prompt", "x", "--header", "team"], "NAME:VALUE"),
    (["agents", "--prompt", "x", "--kubeconfig", "/nowhere"], "no cluster"),
    (["--table", "TABLE", "--prompt", "x", "--classifier", "/nowhere.npz"], "--classifier /nowhere.npz"),
])  # fmt: skip
def test_what_cannot_be_explained_is_one_line(written: Path, args: list[str], words: str) -> None:
    done = run(*[str(written) if arg == "TABLE" else arg for arg in args])
    assert done.exit_code != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


def test_a_table_that_a_gateway_would_refuse_is_refused_by_field(written: Path) -> None:
    spec = json.loads(written.read_text())
    spec["specialists"][0]["stable"]["pool"] = "gone"
    written.write_text(json.dumps(spec))
    done = run("--table", written, "--prompt", "x")
    assert done.exit_code == 1
    assert "specialists.0.stable.pool" in done.stderr
