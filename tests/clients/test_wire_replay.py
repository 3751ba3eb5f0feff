"""Recorded exchanges through the real gateway: the API hears what the client said, the client gets what the API sent.

A sample is in the repository. Where $SLMFLEET_WIRE names a file of exchanges (or a folder of them), or where
../shared/data/wire is, those are replayed as well.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.process import LoopThread, Process, proxy_table
from tests.clients.replay import FORMS, ODD_HEADERS, Exchange, Replay, by_base, play, read
from tests.unit.gateway.gateway_fakes import Answer

pytestmark = pytest.mark.clients
ROOT = Path(__file__).parents[2]
LOGGED = ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages")


def files() -> list[Path]:
    wanted = Path(os.environ.get("SLMFLEET_WIRE", ROOT.parent / "shared" / "data" / "wire"))
    found = sorted(wanted.glob("*.jsonl*")) if wanted.is_dir() else [wanted] if wanted.is_file() else []
    return [ROOT / "tests" / "golden" / "wire" / "exchanges.jsonl", *found]


@pytest.fixture(scope="module", params=files(), ids=lambda path: path.name)
def exchanges(request: pytest.FixtureRequest) -> list[Exchange]:
    return read(request.param)


@pytest.fixture
def replay(fakes: LoopThread, exchanges: list[Exchange]) -> Iterator[Replay]:
    server = Replay(exchanges)
    fakes.run(server.start())
    yield server
    fakes.run(server.stop())


@pytest.mark.parametrize("form", FORMS)
def test_what_the_client_gets_is_what_the_api_sent(
    fakes: LoopThread, replay: Replay, exchanges: list[Exchange], tmp_path: Path, form: str
) -> None:
    process = Process(tmp_path, proxy_table(replay.url))
    called: list[Exchange] = []
    for base, numbered in by_base(exchanges):
        process.use(llm={"url": f"{replay.url}{base}", "timeout_seconds": 10})
        before = len(replay.heard)
        answers = fakes.run(play(process.address, numbered, form))
        for (_, exchange), heard, answer in zip(numbered, replay.heard[before:], answers, strict=True):
            assert (heard.method, heard.target) == ("POST", f"{base}{exchange.rest}")
            assert heard.body == exchange.request
            assert (heard.header("authorization"), heard.header("x-stainless-lang")) == ("Bearer k", "python")
            check_answer(exchange, answer, form)
            called.append(exchange)
    records = process.records()
    logged = [exchange for exchange in called if exchange.rest.partition("?")[0] in LOGGED]
    for exchange, record in zip(logged, records, strict=True):
        check_record(exchange, record)


def check_answer(exchange: Exchange, answer: Answer, form: str) -> None:
    assert answer.status == exchange.status
    sent = gzip.compress(exchange.response, mtime=0) if form == "gzip" else exchange.response
    assert answer.body == sent
    assert answer.headers.get("content-type") == exchange.content_type
    assert answer.headers.get("content-encoding") == ("gzip" if form == "gzip" else None)
    assert {name: answer.headers[name.lower()] for name in ODD_HEADERS} == ODD_HEADERS


def check_record(exchange: Exchange, record: dict[str, Any]) -> None:
    assert record["status"] == exchange.status
    request, said = json.loads(exchange.request), record["request"]
    for name in ("user", "safety_identifier"):
        request.pop(name, None), said.pop(name, None)
    assert said == request
    if not exchange.response:
        assert record["response"] == ""
        return
    if exchange.streamed and exchange.content_type is not None:
        assert record["streamed"] is True
        check_assembled(exchange, record)
        return
    assert record["response"] == (exchange.response.decode() if exchange.streamed else json.loads(exchange.response))


def check_assembled(exchange: Exchange, record: dict[str, Any]) -> None:
    """The record of a stream has every text, every argument and the last word of it."""
    events = [json.loads(data) for data in datas(exchange.response) if data != "[DONE]"]
    response = record["response"]
    if record["api"] == "responses":
        assert response == events[-1]["response"]
    elif record["api"] == "messages":
        text = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        assert "".join(block.get("text", "") for block in response["content"]) == text
        reasons = [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"]
        assert [response["stop_reason"]] == reasons
    elif any("choices" in event for event in events):
        assert said(response["choices"], "message") == said(
            (choice for event in events for choice in event.get("choices") or ()), "delta"
        )
    else:
        assert response == exchange.response.decode()


def datas(stream: bytes) -> list[str]:
    blocks = stream.decode().replace("\r\n", "\n").split("\n\n")
    return [
        "\n".join(line[5:].lstrip() for line in block.split("\n") if line.startswith("data:"))
        for block in blocks
        if "data:" in block
    ]


def said(choices: Any, key: str) -> dict[str, str]:
    """All text by where it stands, and the last reason."""
    texts: dict[str, str] = {}

    def add(place: str, text: str | None) -> None:
        if text:
            texts[place] = texts.get(place, "") + text

    for choice in choices:
        index, delta = choice.get("index", 0), choice.get(key) or {}
        add(f"{index} text", choice.get("text"))
        for name in ("content", "reasoning", "reasoning_content", "refusal"):
            value = delta.get(name)
            add(f"{index} {name}", value if isinstance(value, str) else None)
        for number, call in enumerate(delta.get("tool_calls") or ()):
            add(f"{index} call {call.get('index', number)}", (call.get("function") or {}).get("arguments"))
        if choice.get("finish_reason"):
            texts[f"{index} finish_reason"] = choice["finish_reason"]
    return texts
