"""A gateway over real sockets, between a fake LLM and a fake Triton server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
import uvloop
from gateway_collector import FakeCollector
from gateway_fakes import FakeLlm, FakeTriton, Rig, classifier_from, fingerprint, table

from slmfleet.gateway.exchange import Limits
from slmfleet.gateway.server import Gateway, Options


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def identity() -> Iterator[Any]:
    yield pyrage.x25519.Identity.generate()


@pytest.fixture
async def collector() -> AsyncIterator[FakeCollector]:
    made = FakeCollector()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def rig(tmp_path: Path, identity: Any) -> AsyncIterator[Rig]:
    llm, triton = FakeLlm(), FakeTriton()
    await llm.start()
    await triton.start()
    made = Rig(tmp_path, identity, llm, triton)
    made.write(table(llm.url, triton.url, str(identity.to_public())))
    options = Options(
        table=made.table_path,
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        store=tmp_path / "store",
        origin_key=b"0123456789abcdef",
        drain_seconds=2.0,
        limits=Limits(head_bytes=8192, body_bytes=1 << 20),
    )
    made.gateway = Gateway(options, load=classifier_from, fingerprint=fingerprint)
    await made.gateway.start()
    yield made
    if not made.stopped:
        await made.gateway.stop()
    await llm.stop()
    await triton.stop()
