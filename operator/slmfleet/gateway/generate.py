"""Triton's `generate`: what a specialist is asked, and what its answer is worth. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from slmfleet.gateway import demands
from slmfleet.gateway.answers import Answer
from slmfleet.gateway.attempts import Attempt
from slmfleet.gateway.balance import Server
from slmfleet.gateway.headers import Header, block
from slmfleet.gateway.relay import Collect
from slmfleet.gateway.table import CompiledPool, CompiledRoute
from slmfleet.wire.routes import Revision
from slmfleet.wire.toolcalls import calls_of

SAMPLE_TEMPERATURE = 0.7
_FOR_A_CALLER = ("json", "tool")


class Question(NamedTuple):
    """One call as a specialist's revision is asked it. `headers`: what the server gets beside its own."""

    pool: CompiledPool
    route: CompiledRoute
    revision: Revision
    request: dict[str, Any]
    prompt: str
    headers: Sequence[Header]


def payload(question: Question, server: Server, seed: int = 0) -> bytes:
    """The whole request for a server."""
    content = {
        "text_input": question.prompt,
        "stream": False,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
        "return_finish_reason": True,
        "sampling_parameters": orjson.dumps(_sampling(question, seed)).decode(),
    }
    if question.route.spec.min_logprob is not None:
        content["return_cumulative_logprob"] = True
    body = orjson.dumps(content)
    model, host = question.pool.spec.model, server.origin.host_header.decode()
    head = (
        f"POST /v2/models/{model}/generate HTTP/1.1\r\nhost: {host}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    return head.encode() + block(question.headers) + b"\r\n" + body


def judge(collected: Collect, route: CompiledRoute, request: dict[str, Any], seconds: float) -> Attempt:
    """What a Triton answer is worth to this caller."""
    body = collected.body()
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Attempt("error", f"status {collected.status}, not JSON", None, seconds, server_erred=True)
    if collected.status != 200 or not isinstance(content, dict) or "error" in content:
        reason = str(content.get("error", "")) if isinstance(content, dict) else ""
        if reason.startswith("AdapterNotLoaded"):
            return Attempt("spilled", "cold", None, seconds)
        erred = collected.status >= 500 or collected.status == 429
        return Attempt("error", f"status {collected.status}", None, seconds, body, server_erred=erred)
    answer = _answer(content, route)
    if answer is None:
        return Attempt("error", "no text_output", None, seconds, body)
    problem = route.check(answer.text)
    if problem is None and answer.finish_reason == "length" and route.spec.output.type != "text":
        problem = "cut at max_tokens"
    if problem is None and route.spec.output.type in _FOR_A_CALLER:
        problem, answer = _for_this_caller(answer, route, request)
    if problem is not None:
        return Attempt("invalid", problem, answer, seconds)
    if _unsure(content, route, answer):
        return Attempt("low_confidence", "mean log-probability", answer, seconds)
    return Attempt("served", "", answer, seconds)


def _for_this_caller(answer: Answer, route: CompiledRoute, request: dict[str, Any]) -> tuple[str | None, Answer]:
    if route.spec.output.type == "json":
        return demands.problem_of_object(answer.text, request, route.spec.output), answer
    calls = calls_of(answer.text)
    problem = demands.problem_of_calls(calls, request)
    return problem, answer if problem else replace(answer, calls=calls)


def token_limit(route: CompiledRoute, request: dict[str, Any]) -> int:
    """The caller's own limit, at most the route's."""
    wanted = request.get("max_completion_tokens") or request.get("max_tokens")
    return min(wanted, route.spec.max_tokens) if isinstance(wanted, int) and wanted > 0 else route.spec.max_tokens


def _sampling(question: Question, seed: int) -> dict[str, Any]:
    """The most likely answer; of several samples, different ones that are the same every time."""
    route, request = question.route, question.request
    sampling: dict[str, Any] = {
        "lora_name": question.revision.adapter,
        "max_tokens": token_limit(route, request),
        "temperature": 0,
    }
    if route.spec.samples > 1:
        sampling |= {"temperature": SAMPLE_TEMPERATURE, "seed": seed}
    if request.get("stop"):
        sampling["stop"] = request["stop"]
    return sampling


def _answer(content: dict[str, Any], route: CompiledRoute) -> Answer | None:
    text, reason = _first(content.get("text_output")), _first(content.get("finish_reason"))
    if not isinstance(text, str):
        return None
    return Answer(
        text if route.spec.output.type == "text" else text.strip(),
        reason if reason in ("stop", "length") else "stop",
        _count(content.get("num_input_tokens")),
        _count(content.get("num_output_tokens")),
    )


def _unsure(content: dict[str, Any], route: CompiledRoute, answer: Answer) -> bool:
    """Our runtime gives the mean; vLLM's backend the sum, over the answer's tokens."""
    floor = route.spec.min_logprob
    mean, total = _first(content.get("mean_logprob")), _first(content.get("cumulative_logprob"))
    if floor is None:
        return False
    if isinstance(mean, int | float):
        return mean < floor
    return isinstance(total, int | float) and total / max(answer.output_tokens, 1) < floor


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _count(value: Any) -> int:
    first = _first(value)
    return first if isinstance(first, int) else 0
