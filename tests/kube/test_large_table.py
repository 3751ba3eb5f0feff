"""A route table of several megabytes on a real API server, and what a gateway's watcher makes of it."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from apiserver import Api
from kubernetes import client

from slmfleet.api.router import RouterSpec, RouterStatus
from slmfleet.kube import watchfile
from slmfleet.kube.client import ApiError, Kube, load_client
from slmfleet.plan.facts import Meta, RouterObject
from slmfleet.plan.gateway import TABLE_KEY, table_name, table_object
from slmfleet.wire.routes import OutputFormat, RouteTable, SpecialistRoute, Upstream


def table_of(specialists: int) -> RouteTable:
    """Each with a schema of some 20 kB of words."""
    rng = random.Random(0)
    words = [f"word_{i}" for i in range(500)]

    def schema() -> dict[str, Any]:
        return {"type": "object", "properties": {
            f"{rng.choice(words)}_{i}": {"type": "string", "description": " ".join(rng.choices(words, k=10))}
            for i in range(150)}}  # fmt: skip

    return RouteTable(version=7, router="x/agents", llm=Upstream(url="http://llm/v1"), specialists=[
        SpecialistRoute(name=f"s{i}", cluster=f"s{i}", output=OutputFormat(type="json", json_schema=schema()))
        for i in range(specialists)])  # fmt: skip


@pytest.fixture
def router() -> RouterObject:
    spec = {"llm": {"url": "http://llm/v1"}, "store": {"claimName": "c", "url": "file:///x"},
            "capture": {"enabled": False}}  # fmt: skip
    return RouterObject(Meta("agents", "0b1e4ba5-0000-4000-8000-000000000000", 1), RouterSpec.model_validate(spec),
                        RouterStatus())


def test_a_table_goes_from_text_to_compressed_and_back_and_the_gateways_file_follows(
    server: Api, namespace: str, router: RouterObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is as long as that, written as text, is refused for good."""
    api = load_client(str(server.kubeconfig))
    kube, core, file = Kube(api, namespace), client.CoreV1Api(api), tmp_path / "table.json"
    monkeypatch.setattr(watchfile, "SERVER_TIMEOUT_SECONDS", 1)
    large = table_of(100)
    text = large.model_dump_json(exclude_none=True)
    assert len(text) > 1_500_000
    written = table_object(router, large)
    with pytest.raises(ApiError, match="Too long"):
        asyncio.run(kube.apply({**{k: v for k, v in written.items() if k != "binaryData"}, "data": {TABLE_KEY: text}}))
    for table in (table_of(1), large, table_of(2)):
        asyncio.run(kube.apply(table_object(router, table)))
        watchfile._follow_once(core, namespace, table_name("agents"), TABLE_KEY, file)
        assert json.loads(file.read_text()) == table.model_dump(mode="json", exclude_none=True)
