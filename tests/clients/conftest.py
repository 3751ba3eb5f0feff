"""Two gateway processes over the same fakes: one that only proxies, one where a specialist answers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.clients.fake_api import FakeApi
from tests.clients.process import LoopThread, Process, fleet_table, proxy_table
from tests.unit.gateway.gateway_fakes import FakeTriton

# Elsewhere than in the environment `clients` there is nothing to test with; tests/run.sh clients makes it.
if importlib.util.find_spec("litellm") is None:
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True)
class Target:
    """Where a client is pointed at, the model it names, and which tier answers a call that a specialist may take."""

    url: str
    model: str
    tier: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@pytest.fixture(scope="session")
def fakes() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def llm(fakes: LoopThread) -> Iterator[FakeApi]:
    with fakes.serving(FakeApi()) as server:
        yield server


@pytest.fixture(scope="session")
def triton(fakes: LoopThread) -> Iterator[FakeTriton]:
    with fakes.serving(FakeTriton()) as server:
        yield server


@pytest.fixture(scope="session")
def proxy(llm: FakeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("proxy"), proxy_table(llm.url))
    yield process
    process.stop()


@pytest.fixture(scope="session")
def fleet(llm: FakeApi, triton: FakeTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("fleet"), fleet_table(llm.url, triton.url))
    yield process
    process.stop()


@pytest.fixture(params=["llm", "specialist"])
def target(request: pytest.FixtureRequest) -> Target:
    """The same calls, once answered by the LLM and once by the specialist."""
    if request.param == "llm":
        return Target(request.getfixturevalue("proxy").url, "big", "llm")
    return Target(request.getfixturevalue("fleet").url, "intents", "specialist")
