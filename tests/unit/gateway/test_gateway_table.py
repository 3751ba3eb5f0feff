"""Following the route table: swapped whole, refused whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from gateway_fakes import FakeClassifier, Rig, chat, fingerprint, table, task, until

from slmfleet.gateway.server import Gateway, Options
from slmfleet.gateway.table import Table, compile_table
from slmfleet.wire.routes import RouteTable


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field changed."""
    copy = json.loads(json.dumps(content))
    copy["version"] += 1
    place: Any = copy
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("llm.url", "ftp://x", "llm.url"),
        ("llm.api_key_file", "/nowhere/key", "llm.api_key_file"),
        ("specialists.0.weight_percent", 101, "specialists.0.weight_percent"),
        ("specialists.0.stable.pool", "gone", "specialists.0.stable.pool"),
        ("specialists.0.output.json_schema", {"type": 7}, "specialists.0.output.json_schema"),
        ("specialists.0.wieght", 1, "specialists.0.wieght"),
        ("pools.0.chat_template", "{% if %}", "pools.0.chat_template"),
        ("pools.0.endpoints.0.url", "nope", "pools.0.endpoints.0.url"),
        ("capture.recipients", ["age1nope"], "capture.recipients.0"),
        ("capture.recipients", [], "capture.recipients"),
        ("capture.segment_seconds", 3601, "capture.segment_seconds"),
        ("capture.segment_records", 0, "capture.segment_records"),
        ("capture.buffer_bytes", 1000, "capture.buffer_bytes"),
        ("capture.retention_days", 0, "capture.retention_days"),
        ("router", "default/..", "router"),
        ("router", "default/a/../../b", "router"),
    ],
)
async def test_a_bad_table_is_refused_by_field_and_the_old_one_stays(
    rig: Rig, capsys: pytest.CaptureFixture[str], path: str, value: Any, field: str
) -> None:
    rig.write(changed(rig.content, path, value))
    await rig.gateway.watcher.look()
    assert rig.signals.table_version == 1
    assert (rig.signals.table_problem or "").startswith(f"{field}: ")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [line] = [line for line in lines if line["event"] == "TableRefused"]
    assert line["reason"].startswith(field)
    assert (await rig.post(task())).route["tier"] == "specialist"


async def test_a_lower_version_is_ignored(rig: Rig) -> None:
    await rig.use({**rig.content, "version": 5})
    rig.write({**rig.content, "version": 4, "specialists": []})
    await rig.gateway.watcher.look()
    assert rig.signals.table_version == 5
    assert (await rig.post(task())).route["tier"] == "specialist"


async def test_a_new_table_is_live_within_a_quarter_of_a_second_unasked(rig: Rig) -> None:
    rig.write(changed(rig.content, "specialists", []))
    await until(lambda: rig.signals.table_version == 2)
    assert (await rig.post(task())).route == {"tier": "llm", "rule": "none"}


async def test_a_gateway_waits_for_its_table_and_says_so(tmp_path: Path, identity: Any) -> None:
    path = tmp_path / "later.yaml"
    gateway = Gateway(Options(table=path, listen="127.0.0.1:0", admin="127.0.0.1:0"), fingerprint=fingerprint)
    await gateway.start()
    rig = Rig(tmp_path, identity, None, None)  # type: ignore[arg-type]
    rig.gateway = gateway
    assert (await rig.get("/readyz", admin=True)).status == 503
    assert (await rig.get("/healthz", admin=True)).status == 200
    answer = await rig.post(chat("hi"))
    assert (answer.status, answer.json["error"]["code"]) == (503, "no_route_table")
    content = table("http://127.0.0.1:9", "http://127.0.0.1:9", str(identity.to_public()))
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    await gateway.watcher.look()
    assert (await rig.get("/readyz", admin=True)).status == 200
    assert "without --store" in (gateway.counters.capture.failing or "")
    await gateway.stop()


def test_what_a_change_leaves_as_it_was_is_not_made_again(tmp_path: Path) -> None:
    """A table of a thousand specialists takes a second to make ready, and a moved weight must be live in a fraction."""
    loads: list[str] = []

    def load(path: Path, digest: str) -> FakeClassifier:
        loads.append(digest)
        return FakeClassifier()

    def ready(before: Table | None, path: str = "version", value: Any = 2, digest: str = "0") -> Table:
        content = table("http://llm", "http://t:8000", "") | {"capture": {"enabled": False}}
        content["classifier"] = {"path": "c", "digest": "sha256:" + digest * 64}
        spec = RouteTable.model_validate(changed(content, path, value))
        return compile_table(spec, {}, tmp_path, load, before)

    first = ready(None)
    moved = ready(first, "specialists.0.weight_percent", 50)
    assert moved.by_name["intents"].spec.weight_percent == 50
    assert moved.by_name["intents"].check is first.by_name["intents"].check
    assert moved.classifier is first.classifier
    assert len(loads) == 1
    other = ready(moved, "specialists.0.output", {"type": "label", "labels": ["a"]}, digest="1")
    assert (other.by_name["intents"].check("a"), other.by_name["intents"].check("b")) == (None, "not one of the labels")
    assert len(loads) == 2
