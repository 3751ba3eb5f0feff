"""What the access log and OpenTelemetry cost a call: in the event loop, and in the threads beside it.

    PYTHONPATH=operator python benchmarks/gateway/seeing.py [--calls 5000] [--rounds 5]

Calls of one chat completion that the LLM answered, noted as the gateway notes them; nothing is sent. Microseconds of
CPU per call, median of the rounds. Where opentelemetry-sdk is installed, the same spans and histogram values are made
with it, in the calling thread, without its export.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from slmfleet.gateway.accesslog import AccessLog
from slmfleet.gateway.call import Call
from slmfleet.gateway.exchange import Request
from slmfleet.gateway.headers import Headers
from slmfleet.gateway.llm import Outcome
from slmfleet.gateway.origin import Origin
from slmfleet.gateway.otlp import BATCH, Collector, Exporter
from slmfleet.gateway.seeing import Watch

BODY = json.dumps({"model": "big", "temperature": 0, "messages": [{"role": "user", "content": "x" * 900}]}).encode()
ANSWER = json.dumps({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "big",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 300}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400},
}).encode()  # fmt: skip


class Answered:
    """What a watch asks of an exchange."""

    __slots__ = ("finished", "gone", "request", "status")

    def __init__(self, request: Request) -> None:
        self.request, self.status, self.gone, self.finished = request, 200, False, True


def watched(calls: int, **parts: Any) -> tuple[float, float]:
    """Microseconds a call: in the event loop, in the threads."""
    watch = Watch(time.monotonic, time.time, b"k" * 16, **parts)
    table: Any = SimpleNamespace(llm=SimpleNamespace(spec=SimpleNamespace(model=None),
                                                     origin=Origin("llm.example", 443, True)),
                                 conversation_header=b"x-conversation-id")  # fmt: skip
    headers = Headers([(b"host", b"g"), (b"authorization", b"Bearer k")])
    request = Request(b"POST", b"/v1/chat/completions", headers, BODY, True, True, "127.0.0.1")
    outcome = Outcome(200, 0.1, None, None, False, False, 300, 100, tail=ANSWER)
    made: list[tuple[Any, Call]] = []
    for number in range(calls):
        call = Call(f"i-{number:x}", "chat.completions", request, table, time.monotonic(), time.time())
        call.note.append("rule=abstain")
        assert call.request is not None  # the gateway has parsed it to decide
        made.append((Answered(request), call))
    begun = time.thread_time()
    for exchange, call in made:
        watch.begun(exchange, call)
        call.trace_headers()
        watch.asked_llm(call, outcome)
        watch.ended(exchange)
    return (time.thread_time() - begun) / calls * 1e6, beside(watch) / calls * 1e6


def beside(watch: Watch) -> float:
    """Seconds of CPU to work off what waits."""
    begun = time.thread_time()
    for part, work in ((watch.exporter, "_work"), (watch.access_log, "_write")):
        while part is not None and part.queue._items:
            items = part.queue._items
            getattr(part, work)([items.popleft() for _ in range(min(BATCH, len(items)))])
    return time.thread_time() - begun


def exporter() -> Exporter:
    made = Exporter(Collector("http://collector"))
    made._post = lambda path, body: None  # type: ignore[method-assign]
    made.queue._size = 1 << 30
    return made


def access_log() -> AccessLog:
    made = AccessLog(100, random.Random(1), lambda lines: None)
    made.queue._size = 1 << 30
    return made


def sdk(calls: int) -> tuple[float, float]:
    """The same with the official SDK."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

    tracer = TracerProvider().get_tracer("slmfleet")
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("slmfleet")
    duration = meter.create_histogram("gen_ai.client.operation.duration")
    tokens = meter.create_histogram("gen_ai.client.token.usage")
    common = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "big",
              "server.address": "llm.example", "server.port": 443}  # fmt: skip
    more = {"gen_ai.response.model": "big", "gen_ai.response.id": "chatcmpl-1", "gen_ai.usage.input_tokens": 300,
            "gen_ai.usage.output_tokens": 100, "slmfleet.tier": "llm"}  # fmt: skip
    begun = time.thread_time()
    for _ in range(calls):
        tracer.start_span("POST /v1/chat/completions", kind=SpanKind.SERVER, attributes=more).end()
        tracer.start_span("chat big", kind=SpanKind.CLIENT, attributes={**common, **more}).end()
        duration.record(0.1, common)
        duration.record(0.1, common)
        tokens.record(300, {**common, "gen_ai.token.type": "input"})
        tokens.record(100, {**common, "gen_ai.token.type": "output"})
    return (time.thread_time() - begun) / calls * 1e6, float("nan")


CASES: dict[str, Callable[[int], tuple[float, float]]] = {
    "access log of every call": lambda calls: watched(calls, access_log=access_log()),
    "OTLP, no trace sampled": lambda calls: watched(calls, exporter=exporter(), trace_percent=0),
    "OTLP, every trace sampled": lambda calls: watched(calls, exporter=exporter()),
    "opentelemetry-sdk, for comparison": sdk,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    print(f"{'':36}{'event loop':>12}{'threads':>10}   (us of CPU a call)")
    for name, case in CASES.items():
        try:
            rounds = [case(wanted.calls) for _ in range(wanted.rounds)]
        except ImportError:
            print(f"{name:36}{'not installed':>12}")
            continue
        loop, threads = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:36}{loop:12.1f}{threads:10.1f}")


if __name__ == "__main__":
    main()
