"""What the steps of a demo share: the options, what one step hands to the next, and taking them one by one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.cluster import ROOT, Cluster, Failed


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    name: str = "demo"
    namespace: str = "slmfleet-demo"
    size: str = "demo"
    seed: int = 7
    system_prompt: str = "own"
    pretrain_task_share: float = 1.0
    pretrain_steps: int = 500
    speedup: float = 100.0
    rollout_rate: float = 40.0  # calls a second while training and serving share the machine
    latency_scale: float = 0.5
    concurrency: int = 64
    idle_seconds: int = 30
    pod_hour_price: float = 0.2
    keep: bool = False
    audit: bool = False  # the development cluster keeps an audit log
    work: Path = ROOT / "build" / "demo"
    images: dict[str, str] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=lambda: {"voice": 0.9, "banking": 0.6})
    steps: dict[str, int] = field(default_factory=lambda: {"voice": 300, "banking": 500})


@dataclass
class Run:
    """What the steps hand on to one another."""

    options: Options
    images: dict[str, str] = field(default_factory=dict)  # slmfleet, trainer, pool: reference
    archives: list[Path] = field(default_factory=list)
    environments: dict[str, Path] = field(default_factory=dict)  # train, serve: folder
    base: dict[str, Any] = field(default_factory=dict)  # pretrain.json
    pretraining: subprocess.Popen[str] | None = None  # what makes it
    clusters: dict[str, str] = field(default_factory=dict)  # specialist: task cluster
    gates: dict[str, dict[str, float]] = field(default_factory=dict)
    training_seconds: dict[str, dict[str, float]] = field(default_factory=dict)  # specialist: job: seconds
    outcomes: dict[str, str] = field(default_factory=dict)
    minutes: list[tuple[str, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    shown: str = ""
    _cluster: Cluster | None = None
    own_cluster: bool = True
    gateway: str = ""
    agent: subprocess.Popen[str] | None = None

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            raise Failed("there is no cluster yet; the step that starts it comes first")
        return self._cluster

    @property
    def traffic(self) -> Path:
        return self.options.work / "volume" / "traffic"

    @property
    def store(self) -> Path:
        return self.options.work / "store"

    @property
    def results(self) -> Path:
        return self.options.work / "results"

    def volumes(self) -> dict[str, tuple[Path, str]]:
        """What the development cluster offers to pods."""
        return {
            "slmfleet-store": (self.store, "rw"),
            "demo": (self.options.work / "volume", "ro"),
            "env-train": (self.environments["train"], "ro"),
            "env-serve": (self.environments["serve"], "ro"),
        }

    def say(self, line: str) -> None:
        print(f"   {line}", flush=True)

    def note(self, line: str) -> None:
        """Say it now, and again in the report."""
        self.events.append(line)
        self.say(line)


Step = tuple[str, Callable[[Run], None]]


def take(run_: Run, steps: tuple[Step, ...]) -> None:
    """One step after the other, with number and minutes."""
    for title, step in steps:
        number = len(run_.minutes) + 1
        print(f"\n{number}. {title}", flush=True)
        began = time.monotonic()
        try:
            step(run_)
        finally:
            run_.minutes.append((title, time.monotonic() - began))
        print(f"   {run_.minutes[-1][1] / 60:.1f} min", flush=True)
