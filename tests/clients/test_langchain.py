"""LangChain's `ChatOpenAI` and `OpenAIEmbeddings`, their `base_url` at the gateway."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

pytest.importorskip("langchain_openai")
from langchain_core.messages import AIMessageChunk, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from tests.clients.conftest import Target
from tests.clients.fake_api import BREAKS, KEY, VECTOR

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]
CALL = [("system", "Name the intent."), ("user", "play some music")]


class Intent(BaseModel):
    """What the user wants."""

    intent: str = Field(description="Its name.")


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@tool
def news(city: str) -> str:
    """The news of a city."""
    return f"none in {city}"


def chat(target: Target, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": target.model, "base_url": target.base_url, "api_key": KEY, "max_retries": 0, **more})


def test_chat(target: Target) -> None:
    answer = chat(target, include_response_headers=True).invoke(CALL)
    assert "PlayMusic" in answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["headers"]["x-slmfleet-route"].startswith(f"tier={target.tier};")


@pytest.mark.parametrize("usage", [True, False])
def test_streamed_chat(target: Target, usage: bool) -> None:
    whole: Any = None
    for piece in chat(target, stream_usage=usage).stream(CALL):
        whole = piece if whole is None else whole + piece
    assert isinstance(whole, AIMessageChunk)
    assert "PlayMusic" in whole.text
    assert (whole.usage_metadata is not None) is usage


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_structured_output(target: Target, method: Any) -> None:
    assert chat(target).with_structured_output(Intent, method=method).invoke(CALL) == Intent(intent="PlayMusic")


@pytest.mark.parametrize("stream", [True, False])
def test_parallel_tools_and_their_results(target: Target, stream: bool) -> None:
    model = chat(target, streaming=stream).bind_tools([weather, news])
    asked = model.invoke(CALL)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [
        ("weather", {"city": "Town 0"}),
        ("news", {"city": "Town 1"}),
    ]
    results = [
        ToolMessage({"weather": weather, "news": news}[call["name"]].invoke(call["args"]), tool_call_id=call["id"])
        for call in asked.tool_calls
    ]
    assert "PlayMusic" in model.invoke([*CALL, asked, *results]).text


def test_the_responses_api(target: Target) -> None:
    model = chat(target, use_responses_api=True)
    assert "PlayMusic" in model.invoke(CALL).text
    assert "PlayMusic" in "".join(piece.text for piece in model.stream(CALL))


def test_embeddings_and_completions(target: Target) -> None:
    embeddings = OpenAIEmbeddings(
        model="embedder", base_url=target.base_url, api_key=KEY, check_embedding_ctx_length=False
    )
    assert embeddings.embed_documents(["a", "b"]) == [VECTOR, VECTOR]
    assert OpenAI(model="big", base_url=target.base_url, api_key=KEY).invoke("The capital") == " Paris."


async def test_the_asynchronous_side(target: Target) -> None:
    text = "".join([piece.text async for piece in chat(target).astream(CALL)])
    assert "PlayMusic" in text


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("status-401", openai.AuthenticationError),
        ("status-404", openai.NotFoundError),
        ("status-429", openai.RateLimitError),
        ("status-500", openai.InternalServerError),
        ("status-context", openai.BadRequestError),
    ],
)
def test_errors(target: Target, model: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        chat(target, model=model).invoke(CALL)


def test_a_stream_that_breaks_raises(target: Target) -> None:
    with pytest.raises(openai.APIError, match="broke off"):
        list(chat(target, model=BREAKS).stream(CALL))
