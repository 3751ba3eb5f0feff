"""The real `openai` client, unmodified but for its base URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from gateway_fakes import STREAM_HEAD, Heard, Rig, chunk, event, task, whole

MESSAGES = [{"role": "user", "content": "hi"}]
TASK = task()["messages"]


@pytest.fixture
async def client(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{rig.url}/v1", api_key="caller", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("messages", [MESSAGES, TASK])
async def test_chat(client: openai.AsyncOpenAI, messages: list) -> None:
    answer = await client.chat.completions.create(model="big", messages=messages)
    assert "PlayMusic" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize(("messages", "expected"), [(MESSAGES, "hello"), (TASK, '{"intent":"PlayMusic"}')])
async def test_streamed_chat_with_usage(client: openai.AsyncOpenAI, messages: list, expected: str) -> None:
    stream = await client.chat.completions.create(
        model="big", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [piece async for piece in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == expected
    assert chunks[-1].usage is not None


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["big", "intents"]


async def test_errors_are_the_clients_own_kinds(rig: Rig, client: openai.AsyncOpenAI) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        body = b'{"error":{"message":"no","type":"rate_limit","param":null,"code":"rate_limit_exceeded"}}'
        writer.write(whole(body, status="429 Too Many Requests"))

    rig.llm.reply = reply
    with pytest.raises(openai.RateLimitError, match="no"):
        await client.chat.completions.create(model="big", messages=MESSAGES)
    await rig.llm.stop()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="big", messages=MESSAGES)
    assert caught.value.code == "upstream_unreachable"


async def test_a_stream_that_breaks_raises_in_the_client(rig: Rig, client: openai.AsyncOpenAI) -> None:
    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event({"id": "1", "object": "chat.completion.chunk", "choices": []})))
        await writer.drain()
        writer.close()

    rig.llm.reply = reply
    stream = await client.chat.completions.create(model="big", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="broke off"):
        [piece async for piece in stream]
