"""What a caller is told when a call fails, in the shape of the API it called: OpenAI's, or Anthropic's for messages.

Every message says what, where and what to do.
"""

from __future__ import annotations

import orjson

REASONS = {
    100: b"Continue", 200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 206: b"Partial Content",
    301: b"Moved Permanently", 302: b"Found", 304: b"Not Modified", 307: b"Temporary Redirect",
    308: b"Permanent Redirect", 400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout",
}  # fmt: skip

RESPONSES = b"/v1/responses"
MESSAGES = b"/v1/messages"
_ANTHROPICS = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


class ApiError(Exception):
    """An answer that is an error of our own."""

    def __init__(self, status: int, message: str, kind: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.sequence_number = 0  # of the event, in a stream of the Responses API that has begun

    def body(self, path: bytes = b"") -> bytes:
        """`{"error": {message, type, param, code}}`; at /v1/messages `{"type": "error", "error": {type, message}}`."""
        if path.startswith(MESSAGES):
            return orjson.dumps(self._anthropics())
        return orjson.dumps(
            {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
        )

    def event(self, path: bytes) -> bytes:
        """The same as a server-sent event, for a stream that has begun: as the API at `path` names its errors.

        The Responses API and Anthropic's Messages API tell events by name; their clients pass over one without.
        """
        body = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        if path == RESPONSES:
            flat = {"code": self.code, "message": self.message, "param": self.param}
            named = {"type": "error", "sequence_number": self.sequence_number, **flat, "error": body}
            return b"event: error\ndata: " + orjson.dumps(named) + b"\n\n"
        if path.startswith(MESSAGES):
            return b"event: error\ndata: " + orjson.dumps(self._anthropics()) + b"\n\n"
        return b"data: " + orjson.dumps({"error": body}) + b"\n\n"

    def _anthropics(self) -> dict[str, object]:
        kind = _ANTHROPICS.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}


def bad_request(message: str, code: str = "bad_request") -> ApiError:
    """400: the request itself cannot be read."""
    return ApiError(400, message, "invalid_request_error", code)


def head_too_large(limit: int) -> ApiError:
    """431."""
    return ApiError(
        431,
        f"The request's headers exceed this gateway's limit of {limit} bytes. Send fewer or smaller headers.",
        "invalid_request_error",
        "headers_too_large",
    )


def body_too_large(limit: int) -> ApiError:
    """413."""
    return ApiError(
        413,
        f"The request's body exceeds this gateway's limit of {limit} bytes. Send a smaller body.",
        "invalid_request_error",
        "body_too_large",
    )


def expectation_failed(value: str) -> ApiError:
    """417."""
    return ApiError(
        417,
        f"Expect: {value} is not understood here; only 100-continue is.",
        "invalid_request_error",
        "expectation_failed",
    )


def request_timeout() -> ApiError:
    """408: the caller is too slow in sending its request."""
    return ApiError(
        408, "The request did not arrive in time. Send it again.", "invalid_request_error", "request_timeout"
    )


def not_found(path: str) -> ApiError:
    """404."""
    return ApiError(
        404,
        f"No such path: {path[:200]}. This gateway serves the OpenAI API under /v1.",
        "invalid_request_error",
        "unknown_url",
    )


def method_not_allowed(method: str, allowed: str) -> ApiError:
    """405."""
    return ApiError(
        405,
        f"{method} is not served here. Use one of {allowed}.",
        "invalid_request_error",
        "method_not_allowed",
    )


def too_many_models(where: str, limit: int) -> ApiError:
    """502: a list that would have to be changed on its way, and is too long for that."""
    return ApiError(
        502,
        f"The LLM at {where} lists its models in more than {limit} bytes. Ask it for fewer.",
        "upstream_error",
        "upstream_too_large",
    )


def no_table() -> ApiError:
    """503: nothing to route by yet."""
    return ApiError(
        503,
        "This gateway has no route table yet. Try again shortly; if it stays, look at the Router's conditions.",
        "server_error",
        "no_route_table",
    )


def too_many_connections(limit: int) -> ApiError:
    """503: our own bound on callers."""
    return ApiError(
        503,
        f"This gateway already holds {limit} connections. Try again, keep fewer idle ones, or run more replicas.",
        "server_error",
        "too_many_connections",
    )


def shutting_down() -> ApiError:
    """503: the drain ran out of time."""
    return ApiError(503, "This gateway is shutting down. Send the call again.", "server_error", "shutting_down")


def internal() -> ApiError:
    """500: a mistake of ours; details are in the log, never in the answer."""
    return ApiError(500, "The gateway failed on this call. Its log has the details.", "server_error", "internal_error")


def llm_unreachable(where: str, detail: str) -> ApiError:
    """502."""
    return ApiError(
        502,
        f"The LLM at {where} could not be reached: {detail}. Check that it is up and the Router's spec.llm.url.",
        "upstream_error",
        "upstream_unreachable",
    )


def llm_timeout(where: str, detail: str) -> ApiError:
    """504."""
    return ApiError(
        504,
        f"The LLM at {where} did not answer in time: {detail}. Try again, or raise the Router's timeout.",
        "upstream_error",
        "upstream_timeout",
    )


def llm_busy(where: str, limit: int) -> ApiError:
    """503: our own bound on connections."""
    return ApiError(
        503,
        f"All {limit} connections to the LLM at {where} are in use. Try again, or run more gateway replicas.",
        "upstream_error",
        "upstream_busy",
    )


def llm_broken(where: str, detail: str) -> ApiError:
    """502: an answer that began and did not end."""
    return ApiError(
        502,
        f"The LLM at {where} broke off its answer: {detail}. Send the call again.",
        "upstream_error",
        "upstream_broken",
    )
