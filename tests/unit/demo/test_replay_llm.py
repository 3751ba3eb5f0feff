"""The stand-in for the LLM, as a real OpenAI client sees it."""

import asyncio
import contextlib
import json

import httpx
import openai
import pytest
from demo.keys import request_key
from demo.replay_llm import Recordings, Server, Settings, first_token_seconds, pieces, start

HELLO = [{"role": "user", "content": "Hello?"}]
LONG = [{"role": "user", "content": "Say it again"}]
ANSWERS = {request_key(HELLO): ["Hi, you.\nThere"], request_key(LONG): ["one", "two"]}


@contextlib.asynccontextmanager
async def replaying(settings=Settings(latency_scale=0)):
    server = Server(Recordings(ANSWERS), settings)
    listening = await start(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server, url
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def calling(settings=Settings(latency_scale=0)):
    async with (
        replaying(settings) as (server, url),
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield server, client


async def test_a_known_prompt_gets_its_recorded_answer_and_usage():
    async with calling() as (_, client):
        answer = await client.chat.completions.create(model="any", messages=HELLO, temperature=0)
    assert answer.choices[0].message.content == "Hi, you.\nThere"
    assert answer.system_fingerprint == "replay"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 4)


async def test_a_stream_carries_the_same_answer_usage_and_an_end():
    async with calling() as (_, client):
        stream = await client.chat.completions.create(
            model="any", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hi, you.\nThere"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 10


async def test_a_stream_ends_with_done_and_has_no_usage_unless_asked():
    async with replaying() as (_, url), httpx.AsyncClient() as http:
        answer = await http.post(f"{url}/v1/chat/completions", json={"messages": HELLO, "stream": True})
    events = answer.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(each.removeprefix("data: ")) for each in events[:-1])


async def test_an_unknown_prompt_is_a_404_in_openais_shape_that_names_the_key():
    async with calling() as (server, client):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "?"}])
    assert request_key([{"role": "user", "content": "?"}]) in caught.value.body["message"]
    assert caught.value.body["code"] == "recording_not_found"
    assert server.stats.unknown == 1


async def test_several_recordings_of_one_prompt_are_given_in_turn():
    async with calling() as (_, client):
        said = [
            (await client.chat.completions.create(model="any", messages=LONG)).choices[0].message.content
            for _ in range(3)
        ]
    assert said == ["one", "two", "one"]


async def test_while_the_down_file_exists_every_call_is_a_503_and_then_it_answers_again(tmp_path):
    down = tmp_path / "down"
    async with calling(Settings(latency_scale=0, down_file=down)) as (_, client):
        down.touch()
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="any", messages=HELLO)
        down.unlink()
        assert await client.chat.completions.create(model="any", messages=HELLO)


async def test_about_the_asked_share_of_calls_fails():
    async with replaying(Settings(latency_scale=0, fail_rate=0.3)) as (_, url), httpx.AsyncClient() as http:
        codes = [
            (await http.post(f"{url}/v1/chat/completions", json={"messages": HELLO})).status_code for _ in range(200)
        ]
    assert 40 < codes.count(503) < 80
    assert set(codes) == {200, 503}


async def test_it_says_what_it_is_and_lists_its_model():
    async with replaying() as (_, url), httpx.AsyncClient() as http:
        assert "stands in for an LLM" in (await http.get(f"{url}/healthz")).json()["about"]
        assert (await http.get(f"{url}/v1/models")).json()["data"][0]["owned_by"] == "replay"
        assert (await http.get(f"{url}/stats")).json()["calls"] == 0
        assert (await http.get(f"{url}/v1/embeddings")).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 3}', b""])
async def test_a_bad_body_is_a_400_and_the_connection_lives_on(body):
    async with replaying() as (_, url), httpx.AsyncClient() as http:
        assert (await http.post(f"{url}/v1/chat/completions", content=body)).status_code == 400
        assert (await http.get(f"{url}/healthz")).status_code == 200


async def test_what_is_not_http_is_refused():
    async with replaying() as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()


def test_the_delay_is_a_large_models_and_always_the_same_for_one_prompt():
    delays = [first_token_seconds(request_key([{"role": "user", "content": str(i)}])) for i in range(200)]
    assert 0.3 <= min(delays) < 0.32 and 0.58 < max(delays) <= 0.6
    assert first_token_seconds(request_key(HELLO)) == first_token_seconds(request_key(HELLO))


@pytest.mark.parametrize("text", ["", "one", "a b  c\n\nd ", "x" * 5000, "word " * 3000, "你好 世界"])
def test_pieces_put_together_are_the_text(text):
    assert "".join(pieces(text)) == text
    assert len(pieces(text)) < 450
