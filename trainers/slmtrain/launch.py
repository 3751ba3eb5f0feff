"""Ray: started in this process or found at RAY_ADDRESS; workers run to the end; a failure told in one line."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slmtrain.errors import Refused
from slmtrain.files import read_json
from slmtrain.job import Job

SOCKET_PATH_LIMIT = 40  # Ray adds up to 65 characters; a Unix socket's path ends at 107
LINE_SECONDS = 1.0
RAY_SETTINGS = {  # unless the environment says otherwise; read when Ray is imported
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # each of Ray's helper processes costs 110 MB
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a busy node needs more than 60 s to import torch
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 starves a worker beside any other load
}
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "USE_LIBUV": "0",  # Debian's torch is built without it
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "2",
}


def ray_folder() -> str:
    """Where Ray keeps its sockets: under $TMPDIR if that is short enough for a Unix socket's path."""
    for parent in (tempfile.gettempdir(), "/tmp", "/dev/shm"):
        folder = Path(parent) / "ray"
        if len(str(folder)) <= SOCKET_PATH_LIMIT and os.access(parent, os.W_OK):
            return str(folder)
    raise Refused(
        "BadTmpdir",
        f"no writable folder short enough for Ray; set TMPDIR to one of {SOCKET_PATH_LIMIT - 4} characters or fewer",
    )


def start_ray(workers: int) -> str:
    """Connect to RAY_ADDRESS, or start a small Ray in this process unless it has one. Returns Ray's job id."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    environment = {"env_vars": {**WORKER_ENVIRONMENT, "PYTHONPATH": python_path()}}
    if ray.is_initialized():
        return str(ray.get_runtime_context().get_job_id())
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env=environment, **quiet)
    else:
        ray.init(
            num_cpus=workers + 1,
            include_dashboard=False,
            object_store_memory=80 << 20,
            _temp_dir=ray_folder(),
            runtime_env=environment,
            **quiet,
        )
    return str(ray.get_runtime_context().get_job_id())


def python_path() -> str:
    """The workers must find this package the way this process found it."""
    here = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def work(sent: dict[str, Any]) -> None:
    """Runs on the workers. Only they load transformers and the model's code."""
    from slmtrain import worker

    worker.work(sent)


def run_workers(job: Job, workers: int, storage: Path, name: str) -> dict[str, Any]:
    """Train to the end; returns the first worker's report. Three failures are repaired, the fourth ends it."""
    import torch
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    use_gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        work,
        train_loop_config=asdict(job),
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise reason_of(error) from error
    return dict(read_json(Path(job.notes) / "report.json"))


def reason_of(error: BaseException) -> Refused:
    """Ray wraps a worker's error several times; people need the first one."""
    failures = getattr(error, "worker_failures", None) or {}
    cause: BaseException = next(iter(failures.values()), error)
    while (inner := getattr(cause, "cause", None) or getattr(cause, "_base_exc", None) or cause.__cause__) is not None:
        cause = inner
    if isinstance(cause, Refused):
        return cause
    text = [line for line in str(cause).strip().splitlines() if line.strip()] or [type(cause).__name__]
    if "OutOfMemory" in type(cause).__name__ or "out of memory" in str(cause).lower() or isinstance(cause, MemoryError):
        return Refused(
            "OutOfMemory", f"a worker ran out of memory ({text[0]}); raise the limit or lower batch_size", retry=True
        )
    if "Refused" in str(error):
        lines = [line for line in str(error).splitlines() if "Refused" in line]
        return Refused("BadInput", lines[-1].split("Refused: ", 1)[-1])
    return Refused(
        "TrainingFailed",
        f"training failed four times: {text[-1]}; run it again to go on from its checkpoint",
        retry=True,
    )


class ProgressLines(threading.Thread):
    """Prints a line for each new state of the progress file."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.stopped, self.last = path, threading.Event(), ""

    def run(self) -> None:
        while not self.stopped.wait(LINE_SECONDS):
            self.speak()

    def speak(self) -> None:
        if not self.path.is_file():
            return
        p = read_json(self.path)
        loss = "-" if p["loss"] is None else f"{p['loss']:.3f}"
        left = "" if p["eta_seconds"] is None else f" left {p['eta_seconds']:.0f} s"
        note = f", {p['note']}" if "note" in p else ""
        line = f"step {p['step']}/{p['total_steps']} loss {loss} {p['seconds']:.1f} s{left}{note}"
        if line != self.last:
            print(line, flush=True)
        self.last = line

    def stop(self) -> None:
        self.stopped.set()
        self.join()
        self.speak()
