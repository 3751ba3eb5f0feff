"""The official `openai` client for Python, unmodified but for its base URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from tests.clients.conftest import Target
from tests.clients.fake_api import BREAKS, KEY, LIMITS, VECTOR, FakeApi
from tests.clients.process import Process

pytestmark = pytest.mark.clients
MESSAGES: Any = [{"role": "system", "content": "Name the intent."}, {"role": "user", "content": "play some music"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("weather", "news")
]


class Intent(BaseModel):
    intent: str


@pytest.fixture
def client(target: Target) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=target.base_url, api_key=KEY, max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI, target: Target) -> None:
    raw = client.chat.completions.with_raw_response.create(model=target.model, messages=MESSAGES)
    answer = raw.parse()
    assert json.loads(answer.choices[0].message.content or "") == {"intent": "PlayMusic"}
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == target.model
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert raw.headers["x-slmfleet-route"].startswith(f"tier={target.tier};")
    assert raw.headers["x-request-id"]


@pytest.mark.parametrize("include_usage", [True, False])
def test_streamed_chat(client: openai.OpenAI, target: Target, include_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = client.chat.completions.create(model=target.model, messages=MESSAGES, stream=True, **options)
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert json.loads(text) == {"intent": "PlayMusic"}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [include_usage]
    assert chunks[-1].choices == [] if include_usage else chunks[-1].choices


def test_the_clients_own_stream_helper_and_parser(client: openai.OpenAI, target: Target) -> None:
    with client.chat.completions.stream(model=target.model, messages=MESSAGES, response_format=Intent) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.parsed == Intent(intent="PlayMusic")
    parsed = client.chat.completions.parse(model=target.model, messages=MESSAGES, response_format=Intent)
    assert parsed.choices[0].message.parsed == Intent(intent="PlayMusic")


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_tools(client: openai.OpenAI, target: Target, parallel: bool, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": target.model,
        "messages": MESSAGES,
        "tools": TOOLS,
        "parallel_tool_calls": parallel,
    }
    if stream:
        with client.chat.completions.stream(**asked) as streamed:
            message: Any = streamed.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**asked).choices[0].message
    called = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    expected = [("weather", {"city": "Town 0"}), ("news", {"city": "Town 1"})]
    assert called == (expected if parallel else expected[:1])
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    history = [*MESSAGES, message.model_dump(exclude_none=True), *results]
    after = client.chat.completions.create(model=target.model, messages=history, tools=TOOLS)
    assert after.choices[0].finish_reason == "stop"


def test_several_choices_seed_and_logprobs_reach_the_llm(client: openai.OpenAI, target: Target, llm: FakeApi) -> None:
    answer = client.chat.completions.create(
        model=target.model, messages=MESSAGES, n=3, seed=7, logprobs=True, top_logprobs=0, stop=["\n"]
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.system_fingerprint == "seed 7"
    assert answer.choices[2].logprobs is not None
    assert llm.heard[-1].json["stop"] == ["\n"]
    chunks = list(client.chat.completions.create(model=target.model, messages=MESSAGES, n=2, stream=True))
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


def test_images_go_to_the_llm_as_they_came(client: openai.OpenAI, target: Target, llm: FakeApi) -> None:
    parts: Any = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    client.chat.completions.create(
        model=target.model, messages=[{"role": "user", "content": parts}], extra_body={"x_unknown": 1.5}
    )
    assert llm.heard[-1].json["messages"][0]["content"] == parts
    assert llm.heard[-1].json["x_unknown"] == 1.5


def test_embeddings(client: openai.OpenAI) -> None:
    assert client.embeddings.create(model="embedder", input="hi").data[0].embedding == VECTOR
    both = client.embeddings.create(model="embedder", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in both.data] == [VECTOR, VECTOR]


def test_completions(client: openai.OpenAI) -> None:
    assert client.completions.create(model="big", prompt="The capital").choices[0].text == " Paris."
    chunks = client.completions.create(model="big", prompt="The capital", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == " Paris."


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="big", input="play some music")
    assert json.loads(answer.output_text) == {"intent": "PlayMusic"}
    parsed = client.responses.parse(model="big", input="play", text_format=Intent)
    assert parsed.output_parsed == Intent(intent="PlayMusic")
    with client.responses.stream(model="big", input="play some music") as stream:
        assert [event.type for event in stream][-1] == "response.completed"
        assert stream.get_final_response().output_text == answer.output_text
    tools: Any = [{"type": "function", "name": name, "parameters": {}, "strict": False} for name in ("a", "b")]
    called = client.responses.create(model="big", input="both", tools=tools)
    assert [item.name for item in called.output if item.type == "function_call"] == ["a", "b"]


def test_models(client: openai.OpenAI, target: Target) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == ["big", "embedder", *(["intents"] if target.tier == "specialist" else [])]
    assert client.models.retrieve(target.model).id == target.model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [
        ("status-401", openai.AuthenticationError, "invalid_api_key"),
        ("status-404", openai.NotFoundError, "model_not_found"),
        ("status-429", openai.RateLimitError, "rate_limit_exceeded"),
        ("status-500", openai.InternalServerError, None),
        ("status-context", openai.BadRequestError, "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_errors(client: openai.OpenAI, model: str, error: type[openai.APIStatusError], code: str, stream: bool) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert caught.value.code == code
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req-")


def test_a_stream_that_breaks_raises_in_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="broke off") as chat:
        list(client.chat.completions.create(model=BREAKS, messages=MESSAGES, stream=True))
    assert chat.value.code == "upstream_broken"
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.completions.create(model=BREAKS, prompt="The capital", stream=True))
    with pytest.raises(openai.APIError, match="broke off"):
        list(client.responses.create(model=BREAKS, input="play some music", stream=True))


def test_rate_limits_pass_and_the_client_waits_as_told(proxy: Process, llm: FakeApi) -> None:
    before = len(llm.heard)
    with (
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=KEY, max_retries=1) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model="status-429", messages=MESSAGES)
    headers = caught.value.response.headers
    assert {name: headers[name] for name in LIMITS} == LIMITS
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "20")
    retries = [heard.header("x-stainless-retry-count") for heard in llm.heard[before:]]
    assert retries == ["0", "1"]


def test_a_wrong_key_is_the_llms_to_judge(proxy: Process) -> None:
    with (
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="Incorrect API key"),
    ):
        client.models.list()


def test_a_path_that_is_not_served_is_an_error_of_the_clients_own_kind(proxy: Process) -> None:
    with (
        openai.OpenAI(base_url=f"{proxy.url}/v2", api_key=KEY, max_retries=0) as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.chat.completions.create(model="big", messages=MESSAGES)
    assert caught.value.code == "unknown_url"
    assert caught.value.request_id


async def test_the_asynchronous_client(target: Target) -> None:
    async with openai.AsyncOpenAI(base_url=target.base_url, api_key=KEY, max_retries=0) as client:
        stream = await client.chat.completions.create(model=target.model, messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        answer = await client.chat.completions.create(model=target.model, messages=MESSAGES)
    assert json.loads(text) == json.loads(answer.choices[0].message.content or "") == {"intent": "PlayMusic"}
