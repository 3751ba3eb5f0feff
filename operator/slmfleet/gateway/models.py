"""`/v1/models` where there are specialists: the LLM's own list with theirs added, and each of them by its name.

Only a list in OpenAI's shape is added to, and only its last page; Anthropic's clients read another shape, and could not
call a specialist anyway. Everything else about models is the LLM's to answer.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from slmfleet.gateway import errors, llm
from slmfleet.gateway.bodies import decode
from slmfleet.gateway.call import Call
from slmfleet.gateway.exchange import JSON, Exchange
from slmfleet.gateway.relay import REPLACED, Collect, answer_headers
from slmfleet.gateway.table import Table
from slmfleet.gateway.upstream import Client, Timeouts, UpstreamError

PATH = b"/v1/models"
LIST_BYTES = 8 << 20
# The list is read and changed on its way: it must come readable, whole, and not be kept by a cache as the LLM's.
_NOT_ASKED = frozenset((b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"))
_NO_LONGER_TRUE = REPLACED | {b"content-encoding", b"etag", b"last-modified", b"content-md5", b"digest"}


def named(call: Call) -> str | None:
    """The specialist that this call asks about."""
    http = call.http
    if http.method not in (b"GET", b"HEAD") or not http.path.startswith(PATH + b"/"):
        return None
    name = unquote_to_bytes(http.path[len(PATH) + 1 :]).decode("utf-8", "replace")
    return name if name in call.table.by_name else None


def lists(call: Call) -> bool:
    """Whether this call asks for the list, and there is something to add."""
    return call.http.method == b"GET" and call.http.path.rstrip(b"/") == PATH and bool(call.table.by_name)


def send_one(exchange: Exchange, call: Call, name: str) -> None:
    """Answer with one specialist."""
    exchange.send(200, [JSON, *call.own_headers("specialist")], orjson.dumps(_model(name)))


async def send_list(client: Client, exchange: Exchange, call: Call) -> None:
    """Answer with the LLM's list and the specialists, or with what the LLM said instead. Raises ApiError."""
    table = call.table
    collected = Collect(LIST_BYTES)
    seconds = table.llm.spec.timeout_seconds
    where = str(table.llm.origin)
    try:
        payload = llm.request_bytes(table.llm, call, _NOT_ASKED)
        await client.send(table.llm.origin, payload, collected, Timeouts(llm.CONNECT_SECONDS, seconds, seconds))
    except UpstreamError as error:
        raise llm.explain(error, where, False, client.max_connections) from error
    if collected.overflowed:
        raise errors.too_many_models(where, LIST_BYTES)
    body = with_specialists(collected, table)
    drop = REPLACED if body is None else _NO_LONGER_TRUE
    headers = answer_headers(collected.headers, call.own_headers("llm"), drop)
    exchange.send(collected.status, headers, collected.body() if body is None else body)


def with_specialists(collected: Collect, table: Table) -> bytes | None:
    """The list with the specialists added; None where it is no such list."""
    body = decode(collected.body(), collected.header(b"content-encoding"))
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return None
    if collected.status != 200 or not isinstance(content, dict) or not isinstance(content.get("data"), list):
        return None
    if "has_more" in content:  # Anthropic's, or a page of several
        return None
    known = {model.get("id") for model in content["data"] if isinstance(model, dict)}
    content["data"] += [_model(name) for name in sorted(table.by_name) if name not in known]
    return orjson.dumps(content)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "slmfleet"}
