"""LiteLLM as a client, its `api_base` at the gateway."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a price list at import
litellm = pytest.importorskip("litellm")

from tests.clients.conftest import Target  # noqa: E402
from tests.clients.fake_api import BREAKS, KEY, VECTOR, FakeApi  # noqa: E402
from tests.clients.process import Process  # noqa: E402

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]
MESSAGES: Any = [{"role": "user", "content": "play some music"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("weather", "news")
]
SCHEMA: Any = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}


def options(target: Target) -> dict[str, Any]:
    return {"model": f"openai/{target.model}", "api_base": target.base_url, "api_key": KEY, "num_retries": 0}


def test_chat(target: Target) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "intent", "schema": SCHEMA}}
    answer = litellm.completion(**options(target), messages=MESSAGES, response_format=schema)
    assert json.loads(answer.choices[0].message.content) == {"intent": "PlayMusic"}
    assert answer.usage.total_tokens > 0
    assert answer._hidden_params["additional_headers"]["llm_provider-x-slmfleet-route"].startswith(
        f"tier={target.tier}"
    )


@pytest.mark.parametrize("include_usage", [True, False])
def test_streamed_chat(target: Target, include_usage: bool) -> None:
    more = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = list(litellm.completion(**options(target), messages=MESSAGES, stream=True, **more))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert json.loads(text) == {"intent": "PlayMusic"}
    assert any(getattr(chunk, "usage", None) for chunk in chunks) is include_usage


@pytest.mark.parametrize("stream", [True, False])
def test_parallel_tool_calls(target: Target, stream: bool) -> None:
    answer = litellm.completion(**options(target), messages=MESSAGES, tools=TOOLS, stream=stream)
    if stream:
        answer = litellm.stream_chunk_builder(list(answer))
    called = [call.function.name for call in answer.choices[0].message.tool_calls]
    assert called == ["weather", "news"]
    assert json.loads(answer.choices[0].message.tool_calls[1].function.arguments) == {"city": "Town 1"}


async def test_the_asynchronous_side(target: Target) -> None:
    answer = await litellm.acompletion(**options(target), messages=MESSAGES)
    assert json.loads(answer.choices[0].message.content) == {"intent": "PlayMusic"}


def test_embeddings_completions_and_responses(target: Target) -> None:
    given = options(target)
    embedded = litellm.embedding(**{**given, "model": "openai/embedder"}, input=["a"])
    assert embedded.data[0]["embedding"] == VECTOR
    completed = litellm.text_completion(**{**given, "model": "text-completion-openai/big"}, prompt="The capital")
    assert completed.choices[0].text == " Paris."
    responded = litellm.responses(**given, input="play some music")
    assert json.loads(responded.output[0].content[0].text) == {"intent": "PlayMusic"}


def test_models(target: Target) -> None:
    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_base=target.url, api_key=KEY
    )
    assert {"big", target.model} <= {name.removeprefix("openai/") for name in names}


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("status-401", "AuthenticationError"),
        ("status-404", "NotFoundError"),
        ("status-429", "RateLimitError"),
        ("status-500", "InternalServerError"),
        ("status-context", "ContextWindowExceededError"),
    ],
)
def test_errors_are_litellms_own_kinds(target: Target, model: str, error: str) -> None:
    with pytest.raises(getattr(litellm, error)):
        litellm.completion(**{**options(target), "model": f"openai/{model}"}, messages=MESSAGES)


def test_a_stream_that_breaks_raises_in_litellm(target: Target) -> None:
    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="broke off"):
        list(litellm.completion(**{**options(target), "model": f"openai/{BREAKS}"}, messages=MESSAGES, stream=True))


def test_anthropics_messages_by_litellm(proxy: Process, llm: FakeApi) -> None:
    answer = litellm.completion(
        model="anthropic/claude", api_base=proxy.url, api_key=KEY, messages=MESSAGES, max_tokens=9
    )
    assert answer.choices[0].message.content == "It plays."
    assert llm.heard[-1].target == "/v1/messages"
