"""The official `anthropic` client for Python: its Messages API goes to the LLM untranslated, and into the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from tests.clients.fake_api import BREAKS, KEY, FakeApi
from tests.clients.process import Process, fleet_table
from tests.unit.gateway.gateway_fakes import FakeTriton

pytestmark = pytest.mark.clients
CALL: Any = {
    "model": "claude",
    "max_tokens": 64,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "play some music"}],
    "metadata": {"user_id": "alice"},
}
TOOLS: Any = [{"name": name, "input_schema": {"type": "object"}} for name in ("weather", "news")]


@pytest.fixture(params=["proxy", "fleet"])
def client(request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    url = request.getfixturevalue(request.param).url
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as made:
        yield made


def test_a_message(client: anthropic.Anthropic, llm: FakeApi) -> None:
    raw = client.messages.with_raw_response.create(**CALL)
    message = raw.parse()
    assert [block.text for block in message.content if block.type == "text"] == ["It plays."]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 6)
    assert raw.headers["x-slmfleet-route"] == "tier=llm"
    heard = llm.heard[-1]
    assert heard.json == CALL
    assert KEY in (heard.header("x-api-key") or heard.header("authorization") or "")
    assert heard.header("anthropic-version") is not None


def test_a_streamed_message_and_its_tools(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**CALL) as stream:
        assert "".join(stream.text_stream) == "It plays."
    with client.messages.stream(**CALL, tools=TOOLS) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    called = [(block.name, block.input) for block in final.content if block.type == "tool_use"]
    assert called == [("weather", {"city": "Town 0"}), ("news", {"city": "Town 1"})]
    assert final.usage.output_tokens == 6


def test_the_paths_below_are_passed_on_too(client: anthropic.Anthropic, llm: FakeApi) -> None:
    counted = client.messages.count_tokens(model="claude", messages=CALL["messages"])
    assert counted.input_tokens == 12
    assert client.beta.messages.create(**CALL, betas=["x-2026"]).content
    assert llm.heard[-1].target.partition("?")[0] == "/v1/messages"
    assert llm.heard[-1].header("anthropic-beta") == "x-2026"


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("status-401", anthropic.AuthenticationError),
        ("status-404", anthropic.NotFoundError),
        ("status-429", anthropic.RateLimitError),
        ("status-500", anthropic.InternalServerError),
        ("status-context", anthropic.BadRequestError),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_errors(client: anthropic.Anthropic, model: str, error: type[Exception], stream: bool) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(**{**CALL, "model": model}, stream=stream)
    if model == "status-429":
        assert caught.value.response.headers["retry-after"] == "1"  # type: ignore[attr-defined]


def test_the_log_has_the_message_that_the_stream_stood_for(llm: FakeApi, triton: FakeTriton, tmp_path: Path) -> None:
    process = Process(tmp_path, fleet_table(llm.url, triton.url))
    with anthropic.Anthropic(base_url=process.url, api_key=KEY, max_retries=0) as client:
        whole = client.messages.create(**CALL, tools=TOOLS)
        with client.messages.stream(**CALL, tools=TOOLS) as stream:
            stream.until_done()
    first, second = process.records()
    assert (first["api"], second["api"], first["streamed"], second["streamed"]) == ("messages", "messages", False, True)
    assert first["response"] == second["response"]
    assert [block["type"] for block in second["response"]["content"]] == [block.type for block in whole.content]
    assert first["request"]["metadata"]["user_id"] != "alice"
    assert first["conversation"] == second["conversation"]


def test_a_stream_that_breaks_raises_in_the_client(client: anthropic.Anthropic) -> None:
    stream = client.messages.create(**{**CALL, "model": BREAKS}, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        list(stream)
