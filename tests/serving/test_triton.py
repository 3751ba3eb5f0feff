"""A real Triton server: one process, one base, several adapters, each answering as peft alone would."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from heavy import MAKE_MODELS, ROOT, environment, free_ports, run_script, wait_until

pytestmark = [pytest.mark.serving, pytest.mark.timeout(300)]
KEY = "a-key-for-tests"
PROMPTS = [
    f"<|im_start|>user\nturn {i} the light on{' please' * (i % 3)}<|im_end|>\n<|im_start|>assistant\n" for i in range(6)
]
CONTROL = """
import json, queue, sys
import numpy as np
import tritonclient.grpc as grpc

def control(address, timeout_seconds=10, **parameters):
    answers = queue.Queue()
    text, sampling = grpc.InferInput("text_input", [1], "BYTES"), grpc.InferInput("sampling_parameters", [1], "BYTES")
    text.set_data_from_numpy(np.array([b""], dtype=object))
    sampling.set_data_from_numpy(np.array([json.dumps(parameters).encode()], dtype=object))
    with grpc.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=timeout_seconds)
        client.async_stream_infer("slm", [text, sampling])
        result, error = answers.get(timeout=timeout_seconds)
        client.stop_stream()
    return {"error": error.message()} if error is not None else json.loads(result.as_numpy("text_output")[0])

print(json.dumps(control(sys.argv[1], **json.loads(sys.argv[2]))))
"""


class Server:
    """One running Triton."""

    def __init__(self, python, models, folder):
        self.python, self.models = python, models
        self.http, self.grpc, self.metrics = free_ports(3)
        self.log = folder / "triton.log"
        (folder / "tmp").mkdir()
        command = [python, ROOT / "runtime" / "start.py", "--base", models / "base", "--host", "127.0.0.1"]
        command += ["--slots", "2", "--threads", "1", "--max-batch", "4", "--exit-timeout-seconds", "10"]
        command += ["--http-port", self.http, "--grpc-port", self.grpc, "--metrics-port", self.metrics]
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env=environment(SLMFLEET_CONTROL_KEY=KEY, TMPDIR=str(folder / "tmp")),
            )

    def ready(self):
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-3000:]
        try:
            return self.get("/v2/health/ready") is not None
        except OSError:
            return False

    def get(self, path, port=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.http}{path}", timeout=5) as answer:
            return answer.read().decode("utf-8")

    def generate(self, prompt, adapter=None, seconds=30, **sampling):
        """(status, body) of one HTTP generate."""
        sampling = {"max_tokens": 24, **({"lora_name": adapter} if adapter else {}), **sampling}
        body = {"text_input": prompt, "exclude_input_in_output": True, "sampling_parameters": json.dumps(sampling)}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/v2/models/slm/generate", json.dumps(body).encode("utf-8")
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def control(self, key=KEY, **parameters):
        return run_script(self.python, CONTROL, f"127.0.0.1:{self.grpc}", json.dumps({"key": key, **parameters}))

    def load(self, name, **more):
        return self.control(op="load", lora_name=name, path=str(self.models / name), **more)

    def probe(self):
        command = [
            self.python,
            ROOT / "runtime" / "probe.py",
            "--url",
            f"http://127.0.0.1:{self.http}",
            "--seconds",
            "3",
        ]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30, env=environment())

    def stub(self):
        """The process id of the model's Python."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text(encoding="utf-8").split()]
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        return next(pid for pid, name in names.items() if b"triton_python_backend_stub" in name)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def made(train_python, tmp_path_factory):
    """(folder of bases and adapters, their digests, peft's own greedy answers)."""
    folder = tmp_path_factory.mktemp("models")
    said = run_script(train_python, MAKE_MODELS, folder, json.dumps(PROMPTS))
    return folder, said["digests"], said["answers"]


@contextmanager
def running(python, models, folder):
    server = Server(python, models, folder)
    try:
        wait_until(server.ready, 180, "Triton is ready")
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def shared(serve_python, made, tmp_path_factory):
    with running(serve_python, made[0], tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture
def server(shared):
    """The shared server, without adapters."""
    for adapter in shared.control(op="list")["adapters"]:
        shared.control(op="unload", lora_name=adapter["name"])
    return shared


@pytest.fixture
def own_server(serve_python, made, tmp_path):
    """A server to be harmed."""
    with running(serve_python, made[0], tmp_path) as server:
        yield server


def test_two_adapters_and_the_base_answer_in_one_process_as_peft_does_alone(server, made):
    _, digests, answers = made
    assert answers["one"] != answers["two"] != answers["base"]
    for name in ("one", "two"):
        loaded = server.load(name, digest=digests[name])
        assert loaded["changed"] is True, loaded
    assert loaded["slots"] == {"total": 2, "used": 2, "free": 0, "max_rank": 16}
    assert [(a["name"], a["digest"]) for a in loaded["adapters"]] == [(n, digests[n]) for n in ("one", "two")]

    calls = [(name, i) for i in range(len(PROMPTS)) for name in ("base", "one", "two")]
    with ThreadPoolExecutor(len(calls)) as callers:  # mixed adapters, more callers than rows
        results = callers.map(lambda c: server.generate(PROMPTS[c[1]], None if c[0] == "base" else c[0]), calls)
        got = dict(zip(calls, results, strict=True))
    for (name, i), (status, body) in got.items():
        assert status == 200, body
        assert body["text_output"] == answers[name][i], (name, i)
        assert body["finish_reason"] in ("stop", "length")
        assert body["num_output_tokens"] > 0 and body["num_input_tokens"] > 0
        assert body["cumulative_logprob"] <= 0
        assert body["mean_logprob"] == pytest.approx(body["cumulative_logprob"] / body["num_output_tokens"], rel=1e-4)

    metrics = server.get("/metrics", server.metrics)
    assert 'slm_adapter_requests_total{adapter="one"' in metrics
    assert "slm_adapters_loaded 2" in metrics
    (resident,) = (line for line in metrics.splitlines() if line.startswith("process_resident_memory_bytes"))
    assert float(resident.split()[-1]) > 50e6
    stats = server.control(op="list")["stats"]
    assert stats["requests"] >= len(calls)
    assert stats["decode_rows"] > stats["decode_steps"], "no step was shared"


def test_adapters_come_and_go_and_what_does_not_fit_is_refused(server, made):
    folder, digests, answers = made
    assert "ControlRefused" in server.control(key="wrong", op="list")["error"]
    assert server.generate(PROMPTS[0], "one")[1]["error"].startswith("AdapterNotLoaded")

    refused = {
        "wrong": "AdapterDoesNotFit",
        "dora": "DoraRefused",
        "wide": "RankTooHigh",
        "damaged": "AdapterUnreadable",
        "absent": "AdapterUnreadable",
    }
    for name, reason in refused.items():
        assert server.load(name)["error"].startswith(reason), name
    assert server.load("one", digest=digests["two"])["error"].startswith("DigestMismatch")
    assert server.control(op="list")["slots"]["used"] == 0

    assert server.load("one", digest=digests["one"])["changed"] is True
    assert server.load("one", digest=digests["one"])["changed"] is False
    taken = server.control(op="load", lora_name="one", path=str(folder / "two"), digest=digests["two"])
    assert taken["error"].startswith("NameTaken")
    assert server.load("two")["changed"] is True
    third = server.control(op="load", lora_name="three", path=str(folder / "one"))
    assert third["error"].startswith("NoFreeSlot")

    assert server.control(op="unload", lora_name="one")["changed"] is True
    assert server.control(op="unload", lora_name="one")["changed"] is False
    assert server.generate(PROMPTS[0], "one")[0] == 400
    assert server.control(op="load", lora_name="three", path=str(folder / "one"))["changed"] is True
    assert server.generate(PROMPTS[0], "three")[1]["text_output"] == answers["one"][0]
    assert server.generate(PROMPTS[0], "two")[1]["text_output"] == answers["two"][0]
    assert server.generate(PROMPTS[0])[1]["text_output"] == answers["base"][0]


def test_parameters_are_obeyed_and_nonsense_is_refused(server):
    status, body = server.generate(PROMPTS[0], max_tokens=3, ignore_eos=True)
    assert (status, body["num_output_tokens"], body["finish_reason"]) == (200, 3, "length")
    whole = server.generate(PROMPTS[0], ignore_eos=True)[1]["text_output"]
    stop = whole[5:7]
    cut = server.generate(PROMPTS[0], ignore_eos=True, stop=[stop])[1]
    assert cut["text_output"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"
    sampled = {server.generate(PROMPTS[0], temperature=1.5, seed=seed)[1]["text_output"] for seed in (1, 1, 2, 3)}
    assert 2 <= len(sampled) <= 3
    assert server.generate(PROMPTS[0], max_tokens=0)[0] == 400
    assert server.generate("", max_tokens=1)[0] == 400
    assert server.generate("light " * 500)[1]["error"].startswith("PromptTooLong")
    long = server.generate(PROMPTS[0], max_tokens=10_000, ignore_eos=True)[1]
    assert long["finish_reason"] == "length"
    assert long["num_input_tokens"] + long["num_output_tokens"] == 128
    assert server.generate(PROMPTS[0])[0] == 200


def test_a_stream_brings_the_same_text_in_pieces(server):
    whole = server.generate(PROMPTS[1], ignore_eos=True)[1]["text_output"]
    sampling = json.dumps({"max_tokens": 24, "ignore_eos": True})
    body = {"text_input": PROMPTS[1], "stream": True, "sampling_parameters": sampling}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http}/v2/models/slm/generate_stream", json.dumps(body).encode("utf-8")
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = [line.decode("utf-8") for line in answer if line.startswith(b"data:")]
    pieces = [json.loads(line[5:]) for line in lines]
    assert "".join(piece["text_output"] for piece in pieces) == whole
    assert len(pieces) > 3
    assert [piece["finish_reason"] for piece in pieces][-2:] == ["None", "length"]
    assert sum(piece["num_output_tokens"] for piece in pieces) == 24


def test_a_killed_stub_is_noticed_by_the_probe_though_triton_says_ready(own_server):
    assert own_server.probe().returncode == 0
    os.kill(own_server.stub(), signal.SIGKILL)
    done = wait_until(lambda: (p := own_server.probe()).returncode and p, 20, "the probe fails")
    assert done.stderr.startswith("probe.py:")
    assert done.stderr.count("\n") == 1


def test_a_request_in_flight_is_answered_after_sigterm(own_server):
    with ThreadPoolExecutor(1) as caller:
        running = caller.submit(own_server.generate, PROMPTS[0], max_tokens=100, ignore_eos=True)
        wait_until(lambda: own_server.control(op="list")["stats"]["requests"] or running.done(), 20, "it runs")
        own_server.process.send_signal(signal.SIGTERM)
        assert running.result()[0] == 200
    assert own_server.process.wait(30) == 0


def test_start_says_in_one_line_what_is_missing(serve_python, tmp_path):
    command = [serve_python, str(ROOT / "runtime" / "start.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(TMPDIR=str(tmp_path)))
    assert done.returncode == 2
    assert "SLM_BASE_PATH" in done.stderr
