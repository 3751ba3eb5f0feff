"""The demo's hands: kubectl, helm, the development cluster, and processes that end with the demo.

Everything that touches a cluster goes through `Cluster`, so that the end-to-end test uses the same steps on a cluster
that it made itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KINDS = "routers.slmfleet.dev,taskclusters.slmfleet.dev,specialists.slmfleet.dev,basemodels.slmfleet.dev"
FIELD_MANAGER = "slmfleet-demo"


class Failed(Exception):
    """A step that cannot go on: what, where, and what to do."""


def run(
    command: Sequence[str | Path], *, what: str, given: str | None = None, env: Mapping[str, str] | None = None,
    timeout: float = 600, echo: bool = False,
) -> str:  # fmt: skip
    """Run to the end and return standard output. With `echo` its progress (standard error) is shown as it comes."""
    words = [str(word) for word in command]
    errors = None if echo else subprocess.PIPE
    try:
        done = subprocess.run(
            words, input=given, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, timeout=timeout, cwd=ROOT,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise Failed(f"{what}: there is no {words[0]} on PATH") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: not done after {timeout:.0f} s ({shlex.join(words)[:200]})") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout or "").strip()[-2000:]
        raise Failed(f"{what}: exit {done.returncode} of {shlex.join(words)[:200]}\n{said}")
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """One namespace of one cluster."""

    namespace: str
    kubeconfig: Path
    path: str = field(default_factory=lambda: os.environ.get("PATH", ""))

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": self.path}

    def kubectl(self, *arguments: str, given: str | None = None, timeout: float = 120) -> str:
        command = [find("kubectl", self.path), "--namespace", self.namespace, *arguments]
        return run(command, what=f"kubectl {arguments[0]}", given=given, env=self.env, timeout=timeout)

    def apply(self, manifest: str) -> str:
        """Server-side, as a GitOps controller would."""
        return self.kubectl(
            "apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-", given=manifest
        )

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else None

    def list(self, kinds: str, selector: str = "") -> list[dict[str, Any]]:
        chosen = [f"--selector={selector}"] if selector else []
        return json.loads(self.kubectl("get", kinds, *chosen, "--output=json"))["items"]

    def wait(self, resource: str, condition: str, seconds: float) -> None:
        """`kubectl wait --for=condition=…`, with the object's own words when it does not come."""
        try:
            self.kubectl(
                "wait", resource, f"--for=condition={condition}", f"--timeout={seconds:.0f}s", timeout=seconds + 30
            )
        except Failed as error:
            raise Failed(f"{resource} is not {condition} after {seconds:.0f} s\n{self.explain(resource)}") from error

    def explain(self, resource: str) -> str:
        """Conditions, events and pods, for a person who has to find out why."""
        said = []
        for arguments in (
            [
                "get",
                resource,
                "--output=jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{'\\n'}{end}",
            ],
            ["get", "pods", "--output=wide"],
            ["get", "events", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"],
        ):
            with contextlib.suppress(Failed):
                said.append(self.kubectl(*arguments).strip()[-3000:])
        return "\n".join(said)

    def helm(self, *arguments: str, given: str | None = None, timeout: float = 300) -> str:
        command = [find("helm", self.path), "--namespace", self.namespace, *arguments]
        return run(command, what=f"helm {arguments[0]}", given=given, env=self.env, timeout=timeout)

    def copy(self, folder: Path, pod: str, target: str) -> None:
        """What a folder holds, into a running pod's folder."""
        tar = subprocess.Popen(["tar", "--create", "--directory", str(folder), "."], stdout=subprocess.PIPE)
        command = [find("kubectl", self.path), "--namespace", self.namespace, "exec", "--stdin", pod, "--",
                   "tar", "--extract", "--no-same-owner", "--directory", target]  # fmt: skip
        with tar:
            done = subprocess.run(command, stdin=tar.stdout, capture_output=True, text=True, env=self.env, check=False)
        if done.returncode != 0 or tar.returncode != 0:
            raise Failed(f"copying {folder} into pod {pod}: {done.stderr.strip()[-500:]}")

    def service_address(self, name: str) -> str:
        """Cluster IP of a service, which a development cluster makes reachable from this machine."""
        service = self.get("service", name)
        if service is None:
            raise Failed(f"there is no service {name} in namespace {self.namespace}")
        return f"{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"


def find(tool: str, path: str) -> str:
    """A tool by its path, so that the cluster's own kubectl comes before another of another version."""
    for folder in path.split(os.pathsep):
        candidate = Path(folder) / tool
        if os.access(candidate, os.X_OK):
            return str(candidate)
    raise Failed(f"there is no {tool} on PATH; `python3 -m devcluster build {tool}` makes it")


def devcluster(*arguments: str | Path, timeout: float = 3600, echo: bool = True) -> str:
    """The project's one-node cluster; what it says goes to the terminal as it comes."""
    command = [sys.executable, "-m", "devcluster", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return run(command, what=f"devcluster {arguments[0]}", env=env, timeout=timeout, echo=echo)


@contextlib.contextmanager
def development_cluster(
    name: str, namespace: str, volumes: Mapping[str, tuple[Path, str]], keep: bool, audit: bool = False
) -> Iterator[Cluster]:
    """Up with these volumes (name: (folder, "ro" or "rw")), and down again whatever happens, unless it is kept."""
    flags = [f"--volume={each}={folder}:{mode}" for each, (folder, mode) in volumes.items()]
    flags += ["--audit-log"] if audit else []
    with contextlib.suppress(Failed):  # what an interrupted run, or one with --keep, left under this name
        run([sys.executable, "-m", "devcluster", "down", "--name", name], what="devcluster down",
            env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)  # fmt: skip
    devcluster("build", "helm")  # which `up` does not need and the chart's install does
    try:
        print(devcluster("up", "--name", name, *flags).strip(), flush=True)
        tools = dict(
            line.removeprefix("export ").split("=", 1)
            for line in devcluster("env", "--name", name).splitlines() if line.startswith("export ")
        )  # fmt: skip
        path = tools["PATH"].replace("$PATH", os.environ.get("PATH", ""))
        yield Cluster(namespace, Path(tools["KUBECONFIG"]), path)
    finally:
        if keep:
            print(f"the cluster stays up: eval \"$(python3 -m devcluster env --name {name})\"; "
                  f"kubectl -n {namespace} get slm; python3 -m devcluster down --name {name}", flush=True)  # fmt: skip
        else:
            with contextlib.suppress(Failed):
                devcluster("down", "--name", name, timeout=300)


@contextlib.contextmanager
def reach(cluster: Cluster, service: str, direct: bool) -> Iterator[str]:
    """Address of a service for a process on this machine: its own on a development cluster, else a forwarded port."""
    if direct:
        yield cluster.service_address(service)
        return
    command = [
        find("kubectl", cluster.path),
        "--namespace",
        cluster.namespace,
        "port-forward",
        f"service/{service}",
        ":80",
    ]
    with background(command, env=cluster.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "->" not in line:
            raise Failed(f"kubectl port-forward service/{service} ended; is the service there, and a pod of it ready?")
        yield line.split("->")[0].split()[-1].strip()


@contextlib.contextmanager
def background(command: Sequence[str], *, stop_seconds: float = 60, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is asked to stop (SIGTERM) when the block ends, then waited for, then killed."""
    process = subprocess.Popen([str(word) for word in command], text=True, cwd=ROOT, **more)
    try:
        yield process
    finally:
        stop(process, stop_seconds)


def stop(process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Ask, wait, kill."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: str, seconds: float, look: Callable[[], Any], *, every: float = 3.0) -> Any:
    """Look again and again until there is something; the last look's exception, or a Failed, when time is up."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what}: not so after {seconds:.0f} s")
        time.sleep(every)
