"""Triton's side of the model: tensors in and out, adapter control, metrics. The engine does the work.

Same tensors as Triton's vLLM backend; see the README of this folder's parent.
"""

from __future__ import annotations

import hmac
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
LATENCY_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
DRAIN_SECONDS = 25


class TritonPythonModel:
    """Created by Triton, once a server."""

    def initialize(self, args):
        """Load base and engine. torch is imported here, so that nobody else pays for it."""
        parameters = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        sys.path.insert(0, parameters["runtime"])
        from engine.engine import CONTROL_SCHEMA, Engine, Settings
        from engine.errors import EngineError
        from engine.sampling import parse_object, parse_sampling

        self.schema, self.EngineError = CONTROL_SCHEMA, EngineError
        self.parse_object, self.parse_sampling = parse_object, parse_sampling
        self.key = os.environ.get("SLMFLEET_CONTROL_KEY", "").encode("utf-8")
        began = time.monotonic()
        self.engine = Engine(Settings(**json.loads(parameters["settings"])), log=pb_utils.Logger.log_error)
        self.metrics = Metrics()
        self.controls = ThreadPoolExecutor(1, thread_name_prefix="control")
        seconds = time.monotonic() - began
        pb_utils.Logger.log_info(f"slm: {self.engine.base_path}, {self.engine.parameters} parameters, {seconds:.1f} s")

    def execute(self, requests):
        """Answers come later, from the engine's thread; only refusals come from here."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self.take(request, sender)
            except self.EngineError as error:
                refuse(sender, error)
            except Exception as error:
                refuse(sender, self.EngineError("BadRequest", repr(error)))

    def take(self, request, sender):
        """One request: a control call, or a prompt for the engine."""
        prompt = text_of(request, "text_input", "")
        given = self.parse_object(text_of(request, "sampling_parameters", None) or request.parameters())
        if "op" in given:
            self.controls.submit(self.answer_control, given, sender)
            return
        stream = flag_of(request, "stream", False)
        exclude = flag_of(request, "exclude_input_in_output", stream)
        if stream and not exclude:
            raise self.EngineError("BadRequest", "exclude_input_in_output=false is not possible with stream=true")
        sampling = self.parse_sampling(given)
        call = Call(sender, "" if exclude else prompt, sampling.adapter or "base", self.metrics, self.engine)
        self.engine.submit(prompt, sampling, stream, call.emit, sender.is_cancelled)
        call.submitted()

    def answer_control(self, given, sender):
        """In a thread of its own, one call at a time: a slow store must not hold up prompts."""
        try:
            said = self.control(given)
        except self.EngineError as error:
            refuse(sender, error)
        except Exception as error:
            refuse(sender, self.EngineError("EngineFailed", f"{given['op']} failed: {error!r}"))
        else:
            self.metrics.adapters(len(self.engine.bank.named))
            send(sender, FINAL, text_output=json.dumps(said, ensure_ascii=False))

    def control(self, given):
        """load, unload, list: each answers with the state after it."""
        began = time.monotonic()
        key = str(given.get("key") or "").encode("utf-8")
        if not self.key or not hmac.compare_digest(key, self.key):
            raise self.EngineError("ControlRefused", "control calls need the server's SLMFLEET_CONTROL_KEY as key")
        operations = {
            "load": partial(self.engine.load, given.get("lora_name"), given.get("path"), given.get("digest")),
            "unload": partial(self.engine.unload, given.get("lora_name")),
            "list": lambda: False,
        }
        if given["op"] not in operations:
            raise self.EngineError("BadRequest", f"op must be one of {', '.join(operations)}, not {given['op']!r}")
        changed = operations[given["op"]]()
        seconds = round(time.monotonic() - began, 4)
        said = {"schema": self.schema, "op": given["op"], "changed": changed, "seconds": seconds}
        return {**said, **self.engine.described()}

    def finalize(self):
        """Finish what is in line."""
        self.controls.shutdown()
        self.engine.stop(DRAIN_SECONDS)


class Call:
    """One prompt's way back to its caller."""

    def __init__(self, sender, prefix, adapter, metrics, engine):
        self.sender, self.prefix, self.adapter, self.metrics, self.engine = sender, prefix, adapter, metrics, engine
        self.began = time.monotonic()

    def submitted(self):
        self.metrics.waiting(len(self.engine.waiting))

    def emit(self, piece):
        """Called by the engine for every piece; the last one has a reason or an error."""
        if piece.error:
            self.metrics.finished(self.adapter, piece.error.reason, piece.output_tokens, self.began)
            refuse(self.sender, piece.error)
            return
        if piece.finish_reason:
            self.metrics.finished(self.adapter, piece.finish_reason, piece.output_tokens, self.began)
            self.metrics.waiting(len(self.engine.waiting))
        text, self.prefix = self.prefix + piece.text, ""
        send(
            self.sender,
            FINAL if piece.finish_reason else 0,
            text_output=text,
            finish_reason=str(piece.finish_reason),
            num_input_tokens=np.uint32(piece.input_tokens),
            num_output_tokens=np.uint32(piece.new_tokens),
            cumulative_logprob=np.float32(piece.cumulative_logprob),
            mean_logprob=np.float32(piece.mean_logprob),
        )


class Metrics:
    """Counters by adapter on Triton's own /metrics. Triton's queue figures mean nothing for a decoupled model."""

    def __init__(self):
        family, kinds = pb_utils.MetricFamily, pb_utils.MetricFamily
        self.requests = family("slm_adapter_requests_total", "Requests by adapter and how they ended.", kinds.COUNTER)
        self.tokens = family("slm_adapter_generated_tokens_total", "Generated tokens by adapter.", kinds.COUNTER)
        self.seconds = family("slm_adapter_request_seconds", "Arrival to last token, by adapter.", kinds.HISTOGRAM)
        self.line = family("slm_waiting_requests", "Requests waiting for a row.", kinds.GAUGE)
        self.loaded = family("slm_adapters_loaded", "Adapters loaded.", kinds.GAUGE)
        self.resident = family("process_resident_memory_bytes", "Of the engine's process.", kinds.GAUGE)
        self.known = {}

    def of(self, family, buckets=None, **labels):
        """The family's metric with these labels; Triton refuses to make one twice."""
        key = (id(family), *sorted(labels.items()))
        if key not in self.known:
            extra = {"buckets": buckets} if buckets else {}
            self.known[key] = family.Metric(labels=labels, **extra)
        return self.known[key]

    def finished(self, adapter, reason, tokens, began):
        self.of(self.requests, adapter=adapter, reason=reason).increment(1)
        self.of(self.tokens, adapter=adapter).increment(tokens)
        self.of(self.seconds, LATENCY_BUCKETS, adapter=adapter).observe(time.monotonic() - began)
        self.of(self.resident).set(resident_bytes())

    def waiting(self, count):
        self.of(self.line).set(count)

    def adapters(self, count):
        self.of(self.loaded).set(count)


def resident_bytes():
    """The second figure of statm is in pages (proc(5))."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def text_of(request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0].decode("utf-8")


def flag_of(request, name, default):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy().reshape(-1)[0])


def send(sender, flags, **outputs):
    """A response of one value a tensor: text as bytes, numbers as they are."""
    tensors = []
    for name, value in outputs.items():
        array = np.array([value.encode("utf-8")], dtype=object) if isinstance(value, str) else np.array([value])
        tensors.append(pb_utils.Tensor(name, array))
    sender.send(pb_utils.InferenceResponse(tensors), flags=flags)


def refuse(sender, error):
    """Triton answers 400 for what the caller can change, 500 for what failed here."""
    codes = pb_utils.TritonError
    code = {"EngineFailed": codes.INTERNAL, "Overloaded": codes.UNAVAILABLE, "Draining": codes.UNAVAILABLE}.get(
        error.reason, codes.INVALID_ARG
    )
    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code)), flags=FINAL)
