"""LiteLLM's logs: lines of StandardLoggingPayload (callbacks, S3 and GCS loggers), and rows of its spend logs.

Shapes: litellm/types/utils.py (StandardLoggingPayload) and litellm/proxy/_types.py (SpendLogsPayload) of litellm 1.106.
Spend logs hold content only with `store_prompts_in_spend_logs`; without it, and with message logging turned off, a line
says that a call was made and not what was said: set aside. Not covered: LiteLLM's own redaction marks inside a text.
"""

from __future__ import annotations

import re
from typing import Any

from slmfleet.curation.normal import Aside, Json, Whole, conversation_of, origin_of, record_of, text_or_json, time_of

_API = {
    "completion": "chat.completions",
    "text_completion": "completions",
    "responses": "responses",
    "embedding": "embeddings",
    "anthropic_messages": "messages",
}
_REDACTED = "redacted-by-litellm"
_MADE_UP = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def element(value: Json) -> Whole | Aside:
    """The record of a line."""
    kind = str(value.get("call_type") or "")
    api = _API.get(kind) or _API.get(kind.removeprefix("a")) or _API.get(kind.strip("_"))
    if api is None:
        return Aside("litellm: a call of another kind than a model's answer")
    request = _request(value, api)
    if request is None:
        return Aside("litellm: no messages in it")
    time = time_of(value.get("startTime"))
    if time is None:
        return Aside("litellm: no startTime")
    metadata = text_or_json(value.get("metadata"))
    metadata = metadata if isinstance(metadata, dict) else {}
    response = text_or_json(value.get("response"))
    return record_of(
        {
            "id": str(value.get("litellm_call_id") or value.get("id") or value.get("request_id") or ""),
            "time": time,
            "conversation": _conversation(value, metadata) or conversation_of(request),
            "origin": origin_of(
                metadata.get("user_api_key_hash") or value.get("api_key"), value.get("end_user") or value.get("user")
            ),
            "api": api,
            "status": _status(value, metadata),
            "latency_seconds": _seconds(value),
            "streamed": value.get("stream") is True,
            "request": request,
            "response": response if response else None,
        },
        "litellm",
    )


def _request(value: Json, api: str) -> Json | None:
    """The body as sent: of a spend log the proxy's copy of it, else the messages with the model's parameters."""
    body = text_or_json(value.get("proxy_server_request"))
    if isinstance(body, dict) and isinstance(body.get("body"), dict):
        body = body["body"]
    if isinstance(body, dict) and any(body.get(k) for k in ("messages", "input", "prompt")):
        return body
    said = text_or_json(value.get("messages"))
    if not said or _redacted(said):
        return None
    given = text_or_json(value.get("model_parameters"))
    name = "input" if api in ("responses", "embeddings") else "prompt" if api == "completions" else "messages"
    if name == "messages" and not isinstance(said, list):
        said = [{"role": "user", "content": str(said)}]
    return {"model": value.get("model"), name: said, **(given if isinstance(given, dict) else {})}


def _redacted(said: Any) -> bool:
    listed = said if isinstance(said, list) else [said]
    return all((m.get("content") if isinstance(m, dict) else m) == _REDACTED for m in listed)


def _conversation(value: Json, metadata: Json) -> str | None:
    """The session that the caller named; a trace id that LiteLLM made up is another one for every call."""
    for found in (value.get("session_id"), metadata.get("session_id"), value.get("trace_id")):
        if found and not _MADE_UP.fullmatch(str(found)):
            return str(found)[:512]
    return None


def _status(value: Json, metadata: Json) -> int:
    if value.get("status") != "failure":
        return 200
    error = value.get("error_information") or metadata.get("error_information")
    code = str(error.get("error_code")) if isinstance(error, dict) else ""
    return int(code) if code.isdecimal() and 400 <= int(code) <= 599 else 500


def _seconds(value: Json) -> float:
    for given, unit in ((value.get("response_time"), 1.0), (value.get("request_duration_ms"), 1000.0)):
        if isinstance(given, int | float) and given >= 0:
            return given / unit
    return 0.0
