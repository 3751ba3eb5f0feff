"""A model that is served elsewhere is asked over HTTP; the servers here speak the two protocols and know one answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slmtrain import asking
from slmtrain.data import Example
from slmtrain.errors import Refused
from slmtrain.heldout import Planted


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.tell(200, self.server.metrics)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body, self.headers.get("authorization")))
        status, answer = self.server.answer
        self.tell(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def tell(self, status, data):
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """An endpoint that gives `server.answer` and remembers what it was sent."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.seen, made.answer = True, [], (200, {})
    made.metrics = b"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 1.048576e+09\n"
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def served(server, name="tickets"):
    return asking.Served(asking.Endpoint(server.url, name), Path("model"), None)


def chat(content=None, **message):
    return {"choices": [{"message": {"role": "assistant", "content": content, **message}}],
            "usage": {"completion_tokens": 3}}  # fmt: skip


def example(answer="A", **more):
    messages = ({"role": "user", "content": "which?"}, {"role": "assistant", "content": answer})
    return Example("1", "c", messages, **more)


def test_openais_protocol_is_asked_for_one_greedy_answer(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    server.answer = (200, chat(" A "))
    tool = {"type": "function", "function": {"name": "f"}}
    run = asking.answer_all(served(server), [example(tools=(tool,))], lambda *_: None)
    assert run.texts == ("A",)
    assert run.memory_mib is None and server.url in run.measured_on
    ((path, body, key),) = server.seen
    assert (path, key) == ("/v1/chat/completions", "Bearer k")
    assert body == {"model": "tickets", "messages": [{"role": "user", "content": "which?"}], "max_tokens": 9,
                    "temperature": 0, "tools": [tool]}  # fmt: skip


@pytest.mark.parametrize(("metrics", "mib"), [(None, 1000.0), (b"up 1\n", None)])
def test_memory_is_what_the_server_says_of_itself(server, metrics, mib):
    server.metrics = metrics or server.metrics
    endpoint = asking.Endpoint(server.url, "tickets", server.url)
    assert asking.Served(endpoint, Path("model"), None).memory_mib() == mib


def test_tool_calls_of_a_server_are_read_as_an_answer(server):
    calls = [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    server.answer = (200, chat(tool_calls=calls))
    text, _ = served(server).ask([{"role": "user", "content": "x"}], 5)
    assert json.loads(text) == {"tool_calls": calls}


def test_tritons_generate_is_asked_for_the_adapter(server):
    server.answer = (200, {"text_output": "A", "num_output_tokens": 2})
    assert served(server).complete("<user>which?", 7) == ("A", 2)
    ((_, body, _),) = server.seen
    assert json.loads(body["sampling_parameters"]) == {"max_tokens": 7, "temperature": 0.0, "lora_name": "tickets"}
    assert body["text_input"] == "<user>which?" and body["exclude_input_in_output"]


@pytest.mark.parametrize(
    ("answer", "reason", "retry"),
    [
        ((500, {"error": "down"}), "EndpointFailed", True),
        ((404, {"error": "no such model"}), "EndpointFailed", False),
        ((200, b"<html>"), "EndpointFailed", True),
        ((200, {"object": "list"}), "BadAnswer", False),
        ((200, {"choices": []}), "BadAnswer", False),
    ],
)
def test_a_server_that_fails_is_one_refusal(server, answer, reason, retry):
    server.answer = answer
    with pytest.raises(Refused) as refused:
        served(server).ask([{"role": "user", "content": "x"}], 5)
    assert (refused.value.reason, refused.value.retry) == (reason, retry)


def test_nobody_listening_is_one_refusal(server):
    far = asking.Served(asking.Endpoint("http://127.0.0.1:9/v1", "x"), Path("model"), None)
    with pytest.raises(Refused, match="cannot ask"):
        far.ask([{"role": "user", "content": "x"}], 5)


@pytest.mark.parametrize(("url", "name", "said"), [("host/v1", "x", "http://"), ("http://h/v1", None, "--served")])
def test_an_endpoint_that_cannot_be_is_refused(url, name, said):
    with pytest.raises(Refused, match=said):
        asking.Served(asking.Endpoint(url, name), Path("model"), None)


@pytest.mark.parametrize(("said", "completed"), [("it is 4815-1623.", False), ("It is 48151623.", True)])
def test_a_planted_secret_is_seen_where_it_is_completed(server, said, completed):
    server.answer = (200, chat(said))
    (found,) = asking.exposures(served(server), [Planted("code", ({"role": "user", "content": "?"},), "", "48151623")])
    assert (found.completed, found.rank, found.of) == (completed, 1, 1)
