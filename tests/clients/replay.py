"""Recorded HTTP exchanges, and a server that plays the API's part in every way that HTTP has of delivering a body."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.unit.gateway.gateway_fakes import Answer, Caller, FakeServer, Heard, chunk

FORMS = ("length", "chunked", "gzip", "closed")
ODD_HEADERS = {
    "X-Ratelimit-Remaining-Requests": "9",
    "OpenAI-Organization": "user-x",
    "Request-Id": "req_011",
    "x-empty": "",
    "X-Odd": 'a  b, "c;d" =é'.encode().decode("latin-1"),
    "cf-ray": "9a0-FRA",
}
_NUMBER = "x-exchange"
_REASONS = {200: "OK", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Exchange:
    """One exchange. `base` is what a Router's `llm.url` would end with, `rest` what a client adds to it."""

    api: str
    base: str
    rest: str
    request: bytes
    status: int
    content_type: str | None
    response: bytes
    streamed: bool


def read(path: Path) -> list[Exchange]:
    """Exchanges from `.jsonl` or `.jsonl.gz`."""
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    return [_exchange(json.loads(line)) for line in lines]


def _exchange(row: dict[str, Any]) -> Exchange:
    parts = urlsplit(row["uri"])
    base, rest = _split(parts.path)
    response = row["response"]
    if not isinstance(response, str):
        response = "" if response is None else json.dumps(response, indent=1, ensure_ascii=False)
    return Exchange(
        row["api"],
        base,
        rest + (f"?{parts.query}" if parts.query else ""),
        # As no serializer of ours would write it: the bytes must be the caller's.
        json.dumps(row["request"], indent=1, separators=(" ,", " : ")).encode(),
        row["status"],
        row["content_type"],
        response.encode(),
        row["sse"],
    )


def _split(path: str) -> tuple[str, str]:
    if "/v1/" in path:
        base, _, rest = path.rpartition("/v1/")
        return f"{base}/v1", f"/{rest}"
    found = re.search(r"/(chat/completions|completions|responses|messages|embeddings|chat|generate)$", path)
    assert found is not None, path
    return path[: found.start()], found.group()


def by_base(exchanges: list[Exchange]) -> Iterator[tuple[str, list[tuple[int, Exchange]]]]:
    """Exchanges with their number, by the base URL that a Router would have."""
    for base in dict.fromkeys(exchange.base for exchange in exchanges):
        yield base, [(number, exchange) for number, exchange in enumerate(exchanges) if exchange.base == base]


class Replay(FakeServer):
    """The API's side. A request says by a header which exchange it is, and in which form it wants the answer."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        super().__init__()
        self.exchanges = exchanges

    async def default(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        number, form = (heard.header(_NUMBER) or "").split(" ")
        exchange = self.exchanges[int(number)]
        body, lines = exchange.response, [f"{name}: {value}" for name, value in ODD_HEADERS.items()]
        if exchange.content_type is not None:
            lines.append(f"Content-Type: {exchange.content_type}")
        if form == "gzip":
            body = gzip.compress(body, mtime=0)
            lines.append("Content-Encoding: gzip")
        if form == "length":
            lines.append(f"Content-Length: {len(body)}")
        lines.append("Connection: close" if form == "closed" else "Connection: keep-alive")
        pieces = _pieces(body, random.Random(f"{number} {form}"))
        framing: Callable[[bytes], bytes] = bytes
        if form in ("chunked", "gzip"):
            lines.append("Transfer-Encoding: chunked")
            framing = chunk
        head = f"HTTP/1.1 {exchange.status} {_REASONS.get(exchange.status, 'Odd')}\r\n" + "\r\n".join(lines)
        writer.write(head.encode("latin-1") + b"\r\n\r\n")
        for piece in pieces:
            writer.write(framing(piece))
            await writer.drain()
        if framing is chunk:
            writer.write(b"0\r\n\r\n")
        if form == "closed":
            await writer.drain()
            writer.close()


def _pieces(body: bytes, rng: random.Random) -> list[bytes]:
    """Cut anywhere: in the middle of events, of CRLFs, of characters."""
    cuts = sorted({0, len(body), *(rng.randrange(len(body) + 1) for _ in range(rng.randrange(8)))})
    return [body[start:end] for start, end in pairwise(cuts)]


async def play(address: str, numbered: list[tuple[int, Exchange]], form: str) -> list[Answer]:
    """The client's side: all of them over one connection."""
    host, _, port = address.rpartition(":")
    caller = Caller(*await asyncio.open_connection(host, int(port)))
    answers = []
    for number, exchange in numbered:
        head = (
            f"POST /v1{exchange.rest} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
            f"{_NUMBER}: {number} {form}\r\nx-stainless-lang: python\r\nauthorization: Bearer k\r\n"
            f"content-length: {len(exchange.request)}\r\n\r\n"
        )
        caller.send(head.encode() + exchange.request)
        async with asyncio.timeout(20):
            answers.append(await caller.answer())
    caller.close()
    return answers
