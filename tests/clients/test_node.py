"""Node's clients, each as a program of its own: the official `openai` package and Vercel's AI SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Target
from tests.clients.fake_api import KEY, VECTOR

pytestmark = pytest.mark.clients
PROGRAMS = Path(__file__).parent / "node"
ENVIRONMENT = Path(sys.prefix)
INTENT = {"intent": "PlayMusic"}
BOTH = [["weather", {"city": "Town 0"}], ["news", {"city": "Town 1"}]]


def run(program: str, target: Target, folder: Path) -> Any:
    """Run a program beside the packages that it imports; what it printed."""
    script = folder / program
    script.write_bytes((PROGRAMS / program).read_bytes())
    (folder / "package.json").write_bytes((PROGRAMS / "package.json").read_bytes())
    (folder / "node_modules").symlink_to(ENVIRONMENT / "node" / "node_modules")
    given = {"BASE_URL": target.base_url, "API_KEY": KEY, "MODEL": target.model, "AI_SDK_LOG_WARNINGS": "false"}
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "node", script], env={**os.environ, **given}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_openai_client(target: Target, tmp_path: Path) -> None:
    got = run("openai.js", target, tmp_path)
    assert json.loads(got["chat"]) == INTENT
    assert got["total"] > 0
    assert got["route"].startswith(f"tier={target.tier};" if target.tier == "specialist" else "tier=llm")
    assert got["requestId"]
    for name, stream in got["streams"].items():
        assert json.loads(stream["text"]) == INTENT
        assert (stream["usage"], stream["reason"]) == (int(name == "usage"), "stop")
    assert got["tools"] == BOTH
    assert (got["oneTool"], got["afterTool"]) == (1, "stop")
    assert got["parsed"] == got["responseParsed"] == json.loads(got["response"]) == INTENT
    assert got["responseEvents"][0] == "response.created"
    assert got["responseEvents"][-1] == "response.completed"
    assert got["embedding"] == [VECTOR, VECTOR]
    assert got["completion"] == " Paris."
    assert got["models"] == ["big", "embedder", *(["intents"] if target.tier == "specialist" else [])]
    assert got["found"] == target.model
    kinds = {name: (error["kind"], error["status"], error["code"]) for name, error in got["errors"].items()}
    assert kinds == {
        "status-401": ("AuthenticationError", 401, "invalid_api_key"),
        "status-404": ("NotFoundError", 404, "model_not_found"),
        "status-429": ("RateLimitError", 429, "rate_limit_exceeded"),
        "status-500": ("InternalServerError", 500, None),
        "status-context": ("BadRequestError", 400, "context_length_exceeded"),
    }
    assert got["errors"]["status-429"]["retryAfter"] == "1"
    assert all(error["requestID"].startswith("req-") for error in got["errors"].values())
    assert got["broken"] == {api: {"kind": "APIError", "code": "upstream_broken"} for api in ("chat", "responses")}


def test_the_ai_sdk(target: Target, tmp_path: Path) -> None:
    got = run("aisdk.js", target, tmp_path)
    for api in ("chat", "responses"):
        said = got[api]
        assert json.loads(said["text"]) == json.loads(said["streamed"]) == said["object"] == INTENT
        assert said["tokens"] > 0
        assert said["streamedTokens"] > 0
        assert said["reason"] == "stop"
        assert said["tools"] == BOTH
        assert said["results"] == ["sunny in Town 0", "none in Town 1"]
    assert got["chat"]["route"].startswith(f"tier={target.tier}")
    assert got["steps"] == 2
    assert json.loads(got["afterTools"]) == INTENT
    assert got["embeddings"] == [VECTOR, VECTOR]
    assert got["completion"] == " Paris."
    told = {name: (error["statusCode"], error["isRetryable"]) for name, error in got["errors"].items()}
    assert told == {
        "status-401": (401, False),
        "status-404": (404, False),
        "status-429": (429, True),
        "status-500": (500, True),
        "status-context": (400, False),
    }
    assert all(error["known"] for error in got["errors"].values())
    assert "broke off" in got["broken"]["chat"]
    assert "broke off" in got["broken"]["responses"]
    assert got["errors"]["status-429"]["retryAfter"] == "1"
