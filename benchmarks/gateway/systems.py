"""The gateways: how each is started in front of an upstream, on which path it takes chat calls, and as what."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyrage
from fleet import draw, store, table, write_table
from machine import free_port
from prepare import Tools

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Made:
    """What to start. `port` None: it says on its first lines of output which one it took."""

    argv: list[str]
    port: int | None
    path: str = CHAT
    model: str = "big"
    headers: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    known_frames: bool = False  # gets only calls whose prompt it knows


@dataclass(frozen=True)
class Scene:
    """Where systems are made: a folder of their own, the upstream, the tools, the size of our fleet."""

    folder: Path
    upstream: int
    tools: Tools
    specialists: int

    @property
    def llm(self) -> str:
        return f"http://127.0.0.1:{self.upstream}/v1"


Make = Callable[[Scene, int], Made]


def _ours(scene: Scene, port: int, content: dict[str, Any], name: str) -> Made:
    path = write_table(scene.folder / f"{name}.json", content)
    command = "import typer; from slmfleet.cli.gateway import gateway; typer.run(gateway)"
    listen = ["--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--store", str(scene.folder)]
    return Made([sys.executable, "-c", command, "--table", str(path), *listen], port)


def pass_through(scene: Scene, port: int) -> Made:
    return _ours(scene, port, {"router": "bench/router", "llm": {"url": scene.llm}}, "pass-through")


def everything_on(scene: Scene, port: int) -> Made:
    made = store(scene.tools.cache, scene.specialists)
    classifier = scene.folder / "classifier"
    classifier.write_bytes((made / "classifier").read_bytes())
    content = table(draw(scene.specialists), classifier, scene.llm)
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    capture = {"enabled": True, "recipients": [recipient], "body_limit_bytes": 16_384}
    return _ours(scene, port, content | {"capture": capture}, f"everything-on-{port}")


def known_frames(scene: Scene, port: int) -> Made:
    return replace(everything_on(scene, port), known_frames=True)


def envoy(scene: Scene, port: int) -> Made:
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "llm", "timeout": "120s"}}]
    config = {
        "@type": manager,
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": config}]
    endpoint = {"endpoint": {"address": _address(scene.upstream)}}
    most = {"max_connections": 4096, "max_requests": 4096, "max_pending_requests": 4096}
    cluster = {
        "name": "llm",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": "llm", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": filters}]}
    path = scene.folder / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    binary = next(_python(scene).glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    return Made([str(binary), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"], port)


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def tensorzero(scene: Scene, port: int) -> Made:
    config = scene.folder / "tensorzero.toml"
    config.write_text(
        "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"
        '[models.big]\nrouting = ["up"]\n[models.big.providers.up]\ntype = "openai"\nmodel_name = "big"\n'
        f'api_base = "{scene.llm}/"\napi_key_location = "none"\n',
        encoding="utf-8",
    )
    code = (
        "import sys, time; from tensorzero.tensorzero import _start_http_gateway as start\n"
        "made = start(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None,"
        " async_setup=False)\nprint('base', made.base_url, flush=True)\ntime.sleep(1e6)"
    )
    argv = [str(_python(scene) / "bin" / "python"), "-c", code, str(config)]
    return Made(argv, None, path="/openai/v1/chat/completions", model="tensorzero::model_name::big")


def _router(program: str, quiet: str) -> Make:
    def make(scene: Scene, port: int) -> Made:
        worker = f"http://127.0.0.1:{scene.upstream}"
        argv = [str(_python(scene) / "bin" / program), *(["launch"] if program == "sglang-router" else [])]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", worker, "--policy", "round_robin"]
        return Made([*argv, "--log-level", quiet, "--prometheus-port", str(free_port())], port)

    return make


def litellm(scene: Scene, port: int) -> Made:
    config = scene.folder / "litellm.json"
    upstream = {"model": "openai/big", "api_base": scene.llm, "api_key": "x"}
    config.write_text(json.dumps({"model_list": [{"model_name": "big", "litellm_params": upstream}]}))
    argv = [str(_python(scene) / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    environ = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    return Made([*argv, "--port", str(port), "--num_workers", "1", "--telemetry", "False"], port, environ=environ)


def portkey(scene: Scene, port: int) -> Made:
    if isinstance(scene.tools.node, str):
        raise LookupError(scene.tools.node)
    server = scene.tools.node / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": scene.llm}
    return Made(["node", str(server), "--headless", f"--port={port}"], port, headers=headers)


def _python(scene: Scene) -> Path:
    if isinstance(scene.tools.python, str):
        raise LookupError(scene.tools.python)
    return scene.tools.python


SYSTEMS: dict[str, Make] = {
    "slmfleet, everything on": everything_on,
    "slmfleet, everything on, frames known": known_frames,
    "slmfleet, pass-through": pass_through,
    "Envoy": envoy,
    "TensorZero": tensorzero,
    "sglang-router": _router("sglang-router", "error"),
    "vllm-router": _router("vllm-router", "error"),
    "LiteLLM": litellm,
    "Portkey": portkey,
}
