"""Load: wrk for how much and at what cost, fortio for how late at a fixed rate; and the payloads.

Every gateway gets the same bytes but for the model's name. Calls come from a fleet's tasks (see fleet.py) and no two
have the same user text, so nothing that remembers texts is flattered; three of four carry a prompt that ours knows.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import Drawn

PAYLOADS = {"0.2 KB": 200, "1 KB": 1_000, "220 KB": 220_000}
MARK = "@@number@@"
UNKNOWN = 4  # every fourth call has a prompt that no fingerprint finds
_VARIANTS = 64


@dataclass(frozen=True)
class Target:
    """Where a system takes chat calls; `known_frames`: only such as its fingerprints find."""

    port: int
    path: str
    model: str
    headers: dict[str, str]
    known_frames: bool = False


@dataclass(frozen=True)
class Flood:
    """As many calls as go through: how many, how many failed, in how many seconds."""

    requests: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Paced:
    """Calls at a fixed rate; latencies in milliseconds."""

    asked: int
    reached: float
    p50: float
    p99: float
    failed: int


def bodies(tasks: list[Drawn], size: int, *, stream: bool) -> list[str]:
    """Chat calls of about `size` bytes, with MARK where a number makes each its own."""
    rng = random.Random(size)
    return [_body(rng.choice(tasks), size, number, rng, stream) for number in range(_VARIANTS)]


def _body(task: Drawn, size: int, number: int, rng: random.Random, stream: bool) -> str:
    request = task.call(rng, known_prompt=number % UNKNOWN != 0)
    if size < 500:
        request["messages"] = request["messages"][1:]
    said = request["messages"][-1]
    request |= {"stream": True} if stream else {}
    said["content"] = ""
    missing = size - len(json.dumps(request))
    text = task.text(rng, 5 + missing // 5)[: max(10, missing - 8)]
    said["content"] = f"{MARK} {text}"
    return json.dumps(request)


def script(target: Target, texts: list[str], folder: Path) -> Path:
    """wrk's script: the bodies in turn, each with a number of its own."""
    texts = [text for number, text in enumerate(texts) if number % UNKNOWN or not target.known_frames]
    pieces = [text.replace('"model": "big"', f'"model": "{target.model}"').split(MARK) for text in texts]
    lines = [f"  {{ {_long(before)}, {_long(after)} }}," for before, after in pieces]
    headers = {"content-type": "application/json", "authorization": "Bearer bench", **target.headers}
    path = folder / f"{target.port}-{len(texts)}-{len(texts[0])}.lua"
    path.write_text(
        "local bodies = {\n" + "\n".join(lines) + "\n}\nlocal n = 0\n"
        + "".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in headers.items())
        + "function request()\n  n = n + 1\n  local body = bodies[n % #bodies + 1]\n"
        + f'  return wrk.format("POST", {json.dumps(target.path)}, nil, body[1] .. n .. body[2])\nend\n',
        encoding="utf-8",
    )  # fmt: skip
    return path


def _long(text: str) -> str:
    return f"[==[{text}]==]"


def flood(wrk: str, core: int, target: Target, lua: Path, connections: int, seconds: int) -> Flood:
    """Keep `connections` busy."""
    argv = ["taskset", "-c", str(core), wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    out = _output([*argv, "-s", str(lua), f"http://127.0.0.1:{target.port}"], seconds + 60)
    done = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", out)
    if done is None:
        return Flood(0, 0, 0.0)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    failed = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[done[3]]
    return Flood(int(done[1]), failed, float(done[2]) * unit)


def paced(fortio: Path, core: int, target: Target, text: str, rate: int, connections: int, seconds: int) -> Paced:
    """`rate` calls a second."""
    headers = {"content-type": "application/json", "authorization": "Bearer bench", **target.headers}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as body:
        body.write(text.replace('"model": "big"', f'"model": "{target.model}"').replace(MARK, "0"))
        body.flush()
        argv = ["taskset", "-c", str(core), str(fortio), "load", "-quiet", "-qps", str(rate), "-c", str(connections)]
        argv += ["-t", f"{seconds}s", "-r", "0.00001", "-p", "50,99", "-nocatchup", "-uniform", "-allow-initial-errors"]
        argv += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        argv += ["-json", "-", "-payload-file", body.name, f"http://127.0.0.1:{target.port}{target.path}"]
        result: dict[str, Any] = json.loads(_output(argv, seconds + 60))
    latencies = {entry["Percentile"]: entry["Value"] * 1000 for entry in result["DurationHistogram"]["Percentiles"]}
    failed = sum(count for status, count in result["RetCodes"].items() if status != "200")
    return Paced(rate, result["ActualQPS"], latencies[50], latencies[99], failed)


def _output(argv: list[str], seconds: float) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False)
    return done.stdout.decode()
