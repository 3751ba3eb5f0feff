"""An LLM on loopback is asked what tasks are called: well, badly, never, and by somebody who means harm."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from curation_samples import log_of, mixed
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.curation import discover as stage
from slmfleet.curation import naming
from slmfleet.curation.asking import Bounds, Endpoint, Namer
from slmfleet.curation.called import Names
from slmfleet.curation.calls import call_of
from slmfleet.curation.describe import Cluster
from slmfleet.curation.detect import Detector
from slmfleet.curation.failures import CurationError
from slmfleet.curation.sources import Log
from slmfleet.curation.spoken import ABOUT_CHARACTERS, one_line, slug_of
from slmfleet.curation.tasks import find_tasks
from slmfleet.curation.tenant import detector_of
from slmfleet.wire.discovery import Example, FoundCluster

EXAMPLES = [Example(prompt="turn on the light", response='{"intent": "light_on"}')]
GOOD = {"slug": "home-control", "title": "Home control", "description": "Reads a wish and says which device does what"}
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


def completion(content: str) -> tuple[int, bytes]:
    return 200, json.dumps({"id": "x", "choices": [{"index": 0, "message": {"content": content}}]}).encode()


class Llm:
    """A real server that speaks the part of the API that is asked for; `answer` gets the body."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Answer = lambda body: completion(json.dumps(GOOD))
        self.released = threading.Event()
        llm = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                llm.bodies.append(body)
                llm.keys.append(self.headers["authorization"])
                status, data = llm.answer(body)
                if self.path != "/v1/chat/completions":
                    status = 404
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *about: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def namer(self, key_env: str | None = None, **bounds: Any) -> Namer:
        return Namer(Endpoint(self.url, "big", key_env), Bounds(**bounds))


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Llm]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Llm()
    threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield found
    found.released.set()
    found.server.shutdown()
    found.server.server_close()


def own_words(namer: Namer) -> dict[str, int]:
    return namer.report().own_words


def test_a_good_answer_is_taken(llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMER_KEY", "k-123\n")
    namer = llm.namer("NAMER_KEY")
    said = namer.ask(EXAMPLES)
    assert said is not None and said.slug == "home-control"
    assert llm.keys == ["Bearer k-123"]
    assert llm.bodies[0]["model"] == "big"
    assert (namer.report().asked, namer.report().named, own_words(namer)) == (1, 1, {})


def garbage(body: dict[str, Any]) -> tuple[int, bytes]:
    return 200, b"<html>"


BAD: list[tuple[str, Answer, str]] = [
    ("no JSON", garbage, "not the JSON asked for"),
    ("prose", lambda body: completion("Sure! I would call it home-control."), "not the JSON asked for"),
    ("a fence", lambda body: completion(f"```json\n{json.dumps(GOOD)}\n```"), "not the JSON asked for"),
    ("no choices", lambda body: (200, b'{"choices": []}'), "not the JSON asked for"),
    ("another type", lambda body: completion(json.dumps(GOOD | {"title": ["a"]})), "not the JSON asked for"),
    ("more keys", lambda body: completion(json.dumps(GOOD | {"labels": ["a"]})), "not the JSON asked for"),
    ("empty", lambda body: completion(json.dumps(GOOD | {"title": ""})), "not the JSON asked for"),
    ("half a pair", lambda body: completion('{"slug": "\\ud800", "title": "a", "description": "b"}'), "not the JSON"),
    ("an error", lambda body: (500, b"{}"), "HTTP 500"),
    ("a redirect", lambda body: (307, b""), "HTTP 307"),
    ("too much", lambda body: (200, b" " * 70_000), "more than 65536 bytes"),
]


@pytest.mark.parametrize("answer, reason", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_answer_is_asked_for_once_more_and_then_counted(llm: Llm, answer: Answer, reason: str) -> None:
    llm.answer = answer
    namer = llm.namer()
    assert namer.ask(EXAMPLES) is None
    assert len(llm.bodies) == 2
    assert "response_format" in llm.bodies[0] and "response_format" not in llm.bodies[1]
    (why,) = own_words(namer)
    assert reason in why


def test_a_server_that_knows_no_response_format_is_asked_without(llm: Llm) -> None:
    llm.answer = lambda body: (400, b"{}") if "response_format" in body else completion(json.dumps(GOOD))
    assert llm.namer().ask(EXAMPLES) is not None


def test_an_llm_that_never_answers_is_left_alone_after_three_tasks(llm: Llm) -> None:
    def hung(body: dict[str, Any]) -> tuple[int, bytes]:
        llm.released.wait(60)
        return 200, b""

    llm.answer = hung
    namer = llm.namer(seconds=0.05)
    assert [namer.ask(EXAMPLES) for _ in range(10)] == [None] * 10
    assert own_words(namer) == {"no answer within 0.05 s": 10}
    assert namer.report().asked == 3


def test_a_refused_key_ends_the_asking_at_once(llm: Llm) -> None:
    llm.answer = lambda body: (401, b"{}")
    namer = llm.namer()
    assert [namer.ask(EXAMPLES) for _ in range(5)] == [None] * 5
    assert len(llm.bodies) == 1
    assert own_words(namer) == {"the LLM answered HTTP 401": 5}


@pytest.mark.parametrize("value", [None, "", "  ", "k\ney", "schlüssel"])
def test_without_its_key_nobody_is_asked(llm: Llm, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("NAMER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("NAMER_KEY", value)
    namer = llm.namer("NAMER_KEY")
    assert namer.ask(EXAMPLES) is None and not llm.bodies
    assert own_words(namer) == {"the environment variable NAMER_KEY holds no key": 1}


def test_nobody_at_the_address_is_a_reason(llm: Llm) -> None:
    namer = Namer(Endpoint("http://127.0.0.1:9/v1", "big"))
    assert namer.ask(EXAMPLES) is None
    assert own_words(namer) == {"the LLM cannot be reached (ConnectError)": 1}
    with pytest.raises(CurationError, match="--name-with"):
        Namer(Endpoint("ftp://x", "big"))


def test_calls_and_time_are_bounded(llm: Llm) -> None:
    namer = llm.namer(tasks=2)
    assert [namer.ask(EXAMPLES) is None for _ in range(4)] == [False, False, True, True]
    assert own_words(namer) == {"more than 2 tasks in one run": 2}
    times = iter([0.0, 0.0, 301.0])
    late = Namer(Endpoint(llm.url, "big"), Bounds(), lambda: next(times))
    assert late.ask(EXAMPLES) is not None and late.ask(EXAMPLES) is None
    assert own_words(late) == {"more than 300 s in one run": 1}


# --- in a run of discovery ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log() -> Log:
    found, _ = mixed(60, broad=0)
    for r in found.records:
        r.request["messages"][-1]["content"] += " for zebulon basalt, mail anna.berg@corp-mail.com"
    return found


@pytest.fixture(scope="module")
def named(log: Log) -> Callable[..., list[Cluster]]:
    """The log's two tasks as a run names them."""
    calls = [call_of(r) for r in log.records]
    groups = find_tasks(calls, min_size=50, seed=0)
    assert len(groups) == 2
    return lambda namer=None, previous=(), detector=None: stage._named(
        calls, groups, Names(previous, detector or Detector(), namer)
    )


def test_new_tasks_have_the_llms_names_and_known_ones_keep_theirs(
    llm: Llm, log: Log, named: Callable[..., list[Cluster]], tmp_path: Path
) -> None:
    first = stage.discover(log, stage.Settings(embedder="lexical", namer=llm.namer()))
    tasks = first.clusters.clusters
    assert [c.name for c in tasks] == ["intent-home-control", "intent-home-control-2"]
    for task in tasks:
        assert task.title == "Home control"
        assert task.description.startswith("Reads a wish and says which device does what. Reads a text of about")
    stage.write(first, tmp_path)
    llm.answer = lambda body: completion(json.dumps(GOOD | {"slug": "other", "title": "Other"}))
    before, asked = stage.read_previous(tmp_path), len(llm.bodies)
    again = named(namer := llm.namer(), before)
    assert [(c.name, c.like.title, c.like.about) for c in again] == [(p.name, p.title, p.about) for p in before]
    assert len(llm.bodies) == asked and namer.report().kept == 2
    assert [(c.name, c.like.title) for c in named(None, before)] == [(p.name, "") for p in before]


def test_a_task_with_a_name_of_its_own_words_keeps_it_and_gets_a_title(
    llm: Llm, named: Callable[..., list[Cluster]]
) -> None:
    own = [c.like for c in named()]
    later = named(llm.namer(), own)
    assert [(c.name, c.like.title) for c in later] == [(p.name, "Home control") for p in own]


def test_a_failing_llm_changes_nothing_but_the_report(
    llm: Llm, log: Log, named: Callable[..., list[Cluster]]
) -> None:
    llm.answer = lambda body: (500, b"{}")
    found = stage.discover(log, stage.Settings(embedder="lexical", namer=llm.namer())).clusters
    assert [c.name for c in found.clusters] == [c.name for c in named()]
    assert not any(c.title for c in found.clusters)
    assert found.naming is not None and found.naming.own_words == {"the LLM answered HTTP 500": 2}


def test_only_redacted_examples_leave_the_house(
    llm: Llm, named: Callable[..., list[Cluster]], tmp_path: Path
) -> None:
    (tmp_path / "deny.txt").write_text("Zebulon Basalt\n", "utf-8")
    named(llm.namer(), detector=detector_of("none", [tmp_path / "deny.txt"]))
    assert len(llm.bodies) == 2
    sent = json.dumps(llm.bodies).lower()
    assert "zebulon" not in sent and "anna.berg" not in sent
    assert len(json.loads(llm.bodies[0]["messages"][1]["content"])) <= 3


HOSTILE = {
    "slug": "gpt-4o\n---\nkind: Secret",
    "title": "<img src=x onerror=alert(1)> [click](javascript:1) \u202e\x1b[31m {{ .Values }}",
    "description": "![x](https://evil.example/a?b) # Heading\n\n| a | b |\n`rm -rf /` @all \x00" + "word " * 500,
}


def test_hostile_words_are_harmless_where_they_are_written(llm: Llm, named: Callable[..., list[Cluster]]) -> None:
    llm.answer = lambda body: completion(json.dumps(HOSTILE))
    first = named(llm.namer())[0]
    assert first.name == "intent-gpt-4o-kind-secret"
    assert first.like.title == "img src x onerror alert(1) click (javascript:1) 31m .Values"
    for text, most in ((first.like.title, 80), (first.like.about, 300)):
        assert not set(text) & set("<>[]{}|`*#@\\\n\x00\x1b\u202e") and "://" not in text
        assert 0 < len(text) <= most


@given(st.text(), st.sampled_from(["intent", "text", "tool"]), st.sets(st.text(max_size=8), max_size=3))
def test_any_text_gives_a_valid_name_or_none(text: str, first: str, denied: set[str]) -> None:
    name = slug_of(text, first, denied)
    if name is not None:
        assert name.startswith(f"{first}-") and len(name) <= 40
        taken = {name} | {f"{name}-{n}" for n in range(2, 30)}
        longest = naming.unique(name, taken)
        assert len(longest) <= 48
        assert re.fullmatch(FoundCluster.model_fields["name"].metadata[0].pattern, longest)


@given(st.text(max_size=3_000))
def test_any_text_becomes_one_short_line_without_markup(text: str) -> None:
    line = one_line(text, ABOUT_CHARACTERS)
    assert len(line) <= ABOUT_CHARACTERS
    assert line == " ".join(line.split())
    assert not set(line) & set("<>[]{}|`*#@\\_~^")
    assert one_line(line, ABOUT_CHARACTERS) == line
    line.encode("utf-8")


def test_a_log_of_nothing_asks_nobody(llm: Llm) -> None:
    found = stage.discover(log_of([]), stage.Settings(embedder="lexical", namer=llm.namer()))
    assert found.clusters.naming is not None and found.clusters.naming.asked == 0 and not llm.bodies
