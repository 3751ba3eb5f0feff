"""Adapter control and probes of one Triton server, over gRPC (an HTTP load freezes live connections for seconds).

Every call has a deadline: a dead backend still says READY, and a call to it hangs. See runtime/README.md for the
protocol.
"""

from __future__ import annotations

import asyncio
import json
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from slmfleet.plan.pool import GRPC, Adapter
from slmfleet.wire.addresses import authority

MODEL = "slm"


class TritonError(Exception):
    """The server refused (or NoAnswer); the message begins with its one-word reason."""


class NoAnswer(TritonError):
    """Nothing came back: no connection, or no word within the time."""


class Triton:
    """One server."""

    def __init__(self, address: str, key: str, timeout_seconds: float = 10.0) -> None:
        self._url = authority(address, GRPC)
        self._key = key
        self._timeout = timeout_seconds

    async def adapters(self) -> dict[str, str]:
        """Loaded adapters with their digests."""
        state = await self._control(op="list")
        return {a["name"]: a["digest"] for a in state["adapters"]}

    async def load(self, adapter: Adapter, root: str) -> None:
        """Load and check its digest; then prove that it answers."""
        await self._control(op="load", lora_name=adapter.name, path=f"{root}/{adapter.path}", digest=adapter.digest)
        await self.probe(adapter.name)

    async def unload(self, name: str) -> None:
        await self._control(op="unload", lora_name=name)

    async def probe(self, adapter: str | None = None) -> None:
        """One real token."""
        parameters: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
        if adapter is not None:
            parameters["lora_name"] = adapter
        await asyncio.to_thread(self._infer, "ping", parameters)

    async def _control(self, **parameters: Any) -> dict[str, Any]:
        text = await asyncio.to_thread(self._infer, "", {**parameters, "key": self._key})
        found: dict[str, Any] = json.loads(text)
        return found

    def _infer(self, prompt: str, parameters: dict[str, Any]) -> bytes:
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        tensors = [_text("text_input", prompt.encode()), _text("sampling_parameters", json.dumps(parameters).encode())]
        try:
            with grpc.InferenceServerClient(self._url) as client:
                client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=self._timeout)
                client.async_stream_infer(MODEL, tensors)
                result, error = answers.get(timeout=self._timeout)
                client.stop_stream(cancel_requests=True)
        except queue.Empty:
            raise NoAnswer(f"NoAnswer: {self._url} did not answer within {self._timeout:g} s") from None
        except InferenceServerException as problem:
            # A broken stream tells its callback why.
            cause = problem if answers.empty() else answers.get()[1] or problem
            raise NoAnswer(f"NoAnswer: {self._url}: {cause.message()}") from None
        if error is not None:
            raise _problem(self._url, error)
        answer: bytes = result.as_numpy("text_output")[0]
        return answer


def _problem(url: str, error: InferenceServerException) -> TritonError:
    """What the model refused has no gRPC status; what never reached it has one."""
    if error.status() is not None:
        return NoAnswer(f"NoAnswer: {url}: {error.message()}")
    return TritonError(error.message())


def _text(name: str, value: bytes) -> Any:
    tensor = grpc.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=object))
    return tensor
