"""schemathesis on OpenAI's own description of the served paths: whatever it makes of it, right or wrong.

The LLM behind answers every call alike, so that all that differs is the gateway's. Nothing of the gateway may be a
5xx, its own errors have OpenAI's shape, and what it passes on is what it was given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, settings
from tests.clients.process import LoopThread, Process, fleet_table
from tests.unit.gateway.gateway_fakes import FakeServer, FakeTriton, Heard, whole

schemathesis = pytest.importorskip("schemathesis")
pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]
DESCRIPTION = json.loads((Path(__file__).parents[1] / "golden" / "openai" / "description.json").read_text())
SAID = b'{"id": "x",  "said": "by the LLM"}'
MODELS = b'{"object":"list","data":[{"id":"big","object":"model","created":1,"owned_by":"fake"}]}'
EXAMPLES = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def cases(*paths: str, coverage: bool = True) -> Any:
    """Parametrizes by the operations of these paths. `coverage`: with schemathesis' systematic cases too."""
    part = {**DESCRIPTION, "paths": {path: DESCRIPTION["paths"][path] for path in paths}}
    config = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": coverage}}})
    return schemathesis.openapi.from_dict(part, config=config).parametrize()


class Mirror(FakeServer):
    """An LLM that says the same to everything."""

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(MODELS if heard.target.partition("?")[0] == "/v1/models" else SAID))


@pytest.fixture(scope="module")
def mirror(fakes: LoopThread) -> Iterator[Mirror]:
    with fakes.serving(Mirror()) as server:
        yield server


@pytest.fixture(scope="module")
def served(mirror: Mirror, triton: FakeTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("described"), fleet_table(mirror.url, triton.url))
    yield process
    process.stop()
    assert [event for event in process.said if event.get("level") == "error"] == []


@pytest.fixture
def asked(served: Process) -> Iterator[None]:
    """The specialist was asked in this test."""
    before = served.get("/signals")["tiers"]["specialist"]["calls"]
    yield
    assert served.get("/signals")["tiers"]["specialist"]["calls"] > before


def validator(name: str) -> Any:
    """For one of the description's schemas."""
    return jsonschema.Draft202012Validator({**DESCRIPTION, "$ref": f"#/components/schemas/{name}"})


@cases("/chat/completions", "/completions", "/embeddings", "/models", "/models/{model}")
@EXAMPLES
def test_no_call_fails_in_the_gateway(case: Any, served: Process, mirror: Mirror) -> None:
    before = len(mirror.heard)
    check(case.call(base_url=f"{served.url}/v1"), mirror.heard[before:])


@cases("/responses", coverage=False)
@EXAMPLES
def test_no_response_fails_in_the_gateway(case: Any, served: Process, mirror: Mirror) -> None:
    before = len(mirror.heard)
    check(case.call(base_url=f"{served.url}/v1"), mirror.heard[before:])


@pytest.mark.long
@cases("/responses")
@EXAMPLES
def test_no_response_fails_in_8500_systematic_cases(case: Any, served: Process, mirror: Mirror) -> None:
    before = len(mirror.heard)
    check(case.call(base_url=f"{served.url}/v1"), mirror.heard[before:])


@cases("/chat/completions")
@EXAMPLES
def test_no_call_that_names_a_specialist_fails(case: Any, served: Process, mirror: Mirror, asked: None) -> None:
    if isinstance(case.body, dict):
        case.body = {**case.body, "model": "intents"}
    before = len(mirror.heard)
    check(case.call(base_url=f"{served.url}/v1"), mirror.heard[before:])


def check(response: Any, heard: list[Heard]) -> None:
    [route] = response.headers.get("x-slmfleet-route", [""])
    assert response.headers["x-request-id"] != [""]
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.content
        validator("ErrorResponse").validate(response.json())
        assert heard == []
        return
    if route.startswith("tier=specialist"):
        assert heard == []
        check_own_answer(response)
        return
    assert heard[-1].body == (response.request.body or b"")
    if heard[-1].target.partition("?")[0] != "/v1/models":
        assert response.content == SAID


def check_own_answer(response: Any) -> None:
    if "/models" in response.request.path_url:
        validator("Model").validate(response.json())
        return
    if not response.headers["content-type"][0].startswith("text/event-stream"):
        validator("CreateChatCompletionResponse").validate(response.json())
        return
    *chunks, done = response.content.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    for chunk in chunks:
        validator("CreateChatCompletionStreamResponse").validate(json.loads(chunk.removeprefix("data: ")))
