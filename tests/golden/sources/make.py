"""Makes the sample logs in this folder with the libraries that write such logs, against a server with fixed answers.

    python make.py otel-attributes OUT   opentelemetry-instrumentation-genai-openai 1.3b0, openai 3.54
    python make.py otel-upload OUT       the same, with its upload hook
    python make.py otel-events OUT       opentelemetry-instrumentation-openai-v2 2.2b0, openai 2, wrapt 1
    python make.py litellm OUT           litellm[proxy] 1.106

The OTLP files are written by opentelemetry-exporter-otlp-json-file 0.66b1. Ids, times and ports differ from run to run;
what names a machine is taken out. openai.json is put together by hand after the examples of OpenAI's API reference.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_LONG = ("model_map_information", "cost_breakdown", "hidden_params")
MODEL = "gpt-4o-mini-2024-07-18"
SORT = {"role": "system", "content": "You sort the customer's message. Answer with JSON."}
MONEY = {"role": "user", "content": "I want my money back for the kettle"}
HELP = {"role": "system", "content": "You help with orders."}
WHERE = {"role": "user", "content": "Where is my order 1234?"}
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "order_status", "description": "State of an order", "parameters": ORDER},
    }
]
ASKED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "order_status", "arguments": '{"order": "1234"}'},
}


class Llm(BaseHTTPRequestHandler):
    """Answers by the last message of a call; a call of the user `fail` is refused."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def log_message(self, *words: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("user") == "fail":
            self.answer(400, {"error": {"message": "Invalid value", "type": "invalid_request_error", "code": None}})
        elif self.path.endswith("/embeddings"):
            vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
            used = {"prompt_tokens": 4, "total_tokens": 4}
            self.answer(200, {"object": "list", "data": [vector], "model": body["model"], "usage": used})
        elif self.path.endswith("/responses"):
            self.answer(200, response(body))
        elif body.get("stream"):
            self.stream(completion(body))
        else:
            self.answer(200, completion(body))

    def answer(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, value: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        text = value["choices"][0]["message"]["content"]
        head = {k: value[k] for k in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        for delta in ({"role": "assistant", "content": ""}, {"content": text[:8]}, {"content": text[8:]}):
            self.event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self.event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event(head | {"choices": [], "usage": value["usage"]})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")


def completion(body: dict[str, Any]) -> dict[str, Any]:
    Llm.answered += 1
    message: dict[str, Any] = {"role": "assistant", "content": '{"intent": "refund"}'}
    if body["messages"][-1]["role"] == "tool":
        message["content"] = "Order 1234 left the warehouse on Monday."
    elif body.get("tools"):
        message = {"role": "assistant", "content": None, "tool_calls": [ASKED]}
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": f"chatcmpl-{Llm.answered:04d}",
        "object": "chat.completion",
        "created": 1772438400 + Llm.answered,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {"prompt_tokens": 42, "completion_tokens": 7, "total_tokens": 49},
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def response(body: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "output_text", "text": '{"intent": "refund"}', "annotations": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}
    used = {"input_tokens": 42, "output_tokens": 7, "total_tokens": 49}
    used |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": "resp_1", "object": "response", "created_at": 1772438400, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": body.get("instructions"), "model": MODEL, "output": [message],
        "parallel_tool_calls": True, "previous_response_id": None, "store": True, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": used,
        "metadata": {},
    }  # fmt: skip


def serve() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Llm)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def otel(kind: str, out: Path) -> None:
    """Six calls of chat completions (a tool loop, a stream, a refusal), one of embeddings, one of responses."""
    old = kind == "otel-events"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "" if old else "gen_ai_latest_experimental"
    content = {"otel-events": "true", "otel-attributes": "SPAN_AND_EVENT", "otel-upload": "NO_CONTENT"}[kind]
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = content
    if kind == "otel-upload":
        (out / "genai").mkdir(exist_ok=True)
        os.environ["OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK"] = "upload"
        os.environ["OTEL_INSTRUMENTATION_GENAI_UPLOAD_BASE_PATH"] = (out / "genai").resolve().as_uri()
    from opentelemetry import _logs, trace
    from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter
    from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource({"service.name": "support-agent"})
    spans, logs = TracerProvider(resource=resource), LoggerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(FileSpanExporter(out / "traces.jsonl")))
    logs.add_log_record_processor(BatchLogRecordProcessor(FileLogExporter(out / "logs.jsonl")))
    trace.set_tracer_provider(spans)
    _logs.set_logger_provider(logs)
    if old:
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    OpenAIInstrumentor().instrument()
    import openai

    client = openai.OpenAI(base_url=serve(), api_key="none", max_retries=0)
    chat = client.chat.completions.create
    chat(model="gpt-4o-mini", messages=[SORT, MONEY], temperature=0, response_format={"type": "json_object"})
    asked = chat(model="gpt-4o-mini", messages=[HELP, WHERE], tools=TOOLS).choices[0].message
    found = {"role": "tool", "tool_call_id": "call_1", "content": '{"state": "sent", "day": "Monday"}'}
    chat(model="gpt-4o-mini", messages=[HELP, WHERE, asked.model_dump(exclude_none=True), found], tools=TOOLS)
    list(chat(model="gpt-4o-mini", messages=[SORT, MONEY], stream=True, stream_options={"include_usage": True}))
    try:
        chat(model="gpt-4o-mini", messages=[SORT, MONEY], user="fail")
    except openai.BadRequestError:
        pass
    client.embeddings.create(model="text-embedding-3-small", input="kettle")
    client.responses.create(model="gpt-4o-mini", instructions=SORT["content"], input=MONEY["content"])
    time.sleep(1)
    spans.shutdown()
    logs.shutdown()
    for path in (out / "traces.jsonl", out / "logs.jsonl"):
        if path.exists() and not path.stat().st_size:
            path.unlink()
        elif path.exists():
            text = path.read_text("utf-8").replace(out.resolve().as_uri(), "file:///var/log")
            path.write_text(text, "utf-8")


def litellm(out: Path) -> None:
    """The same without the loop, through LiteLLM: its callback's payload, and its spend log."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = os.environ["STORE_PROMPTS_IN_SPEND_LOGS"] = "true"
    import litellm
    import litellm.proxy.proxy_server  # else the first callback waits for it
    from litellm.integrations.custom_logger import CustomLogger
    from litellm.proxy.spend_tracking.spend_tracking_utils import get_logging_payload

    payloads: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []

    class Keep(CustomLogger):
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            payloads.append(kwargs["standard_logging_object"])
            rows.append(
                get_logging_payload(kwargs=kwargs, response_obj=response_obj, start_time=start_time, end_time=end_time)
            )

        def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            payloads.append(kwargs["standard_logging_object"])

    litellm.callbacks = [Keep()]
    to = {"api_base": serve(), "api_key": "none", "num_retries": 0, "max_retries": 0}
    body = {"model": "gpt-4o-mini", "messages": [SORT, MONEY], "response_format": {"type": "json_object"}}
    chat = {"model": "openai/gpt-4o-mini", **to}
    litellm.completion(
        messages=[SORT, MONEY], response_format={"type": "json_object"}, metadata={"session_id": "s1"},
        proxy_server_request={"url": "", "method": "POST", "headers": {}, "body": body}, **chat,
    )  # fmt: skip
    litellm.completion(messages=[HELP, WHERE], tools=TOOLS, user="u-17", **chat)
    list(litellm.completion(messages=[SORT, MONEY], stream=True, **chat))
    try:
        litellm.completion(messages=[SORT, MONEY], user="fail", **chat)
    except litellm.BadRequestError:
        pass
    litellm.embedding(model="openai/text-embedding-3-small", input=["kettle"], **to)
    litellm.responses(input=MONEY["content"], instructions=SORT["content"], **chat)
    time.sleep(3)
    for name, listed in (("callback.jsonl", payloads), ("spend.jsonl", rows)):
        (out / name).write_text("".join(json.dumps(bare(p), default=str) + "\n" for p in listed), "utf-8")


def bare(payload: dict[str, Any]) -> dict[str, Any]:
    """Without what names this machine or is long and of no use here: traces of errors, prices of models."""
    kept = {k: v for k, v in payload.items() if k not in _LONG}
    error = kept.get("error_information")
    if isinstance(error, dict):
        kept["error_information"] = error | {"traceback": ""}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        kept["metadata"] = {k: v for k, v in metadata.items() if v}
    if isinstance(metadata, str):  # of a row of the spend log
        given = json.loads(metadata)
        kept["metadata"] = json.dumps({k: v for k, v in given.items() if v and k not in _LONG})
    return kept


if __name__ == "__main__":
    to = Path(sys.argv[2])
    to.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "litellm":
        litellm(to)
    else:
        otel(sys.argv[1], to)
