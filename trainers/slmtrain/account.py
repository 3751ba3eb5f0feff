"""The account of a training: its counters, its checkpoints, and what the first worker tells meanwhile."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import torch

from slmtrain.files import write_json
from slmtrain.job import Job

PROGRESS_SCHEMA = "slmtrain/progress/v1"
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Account:
    """What is carried from step to step, and through a checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()  # of every step so far
    measured: tuple[tuple[int, float], ...] = ()  # (step, loss on conversations kept from training)
    resumed_from_step: int | None = None

    @property
    def loss(self) -> float | None:
        """Smoothed over about 20 steps."""
        smooth = None
        for loss in self.losses[-200:]:
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
        return smooth

    def after(self, loss: float, tokens: int, seconds: float) -> Account:
        return replace(
            self,
            step=self.step + 1,
            tokens=self.tokens + tokens,
            seconds=self.seconds + seconds,
            losses=(*self.losses, loss),
        )


def restore(model: Any, optimizer: Any) -> Account:
    """Weights, optimizer and account of the last checkpoint, or those of a beginning."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Account()
    with checkpoint.as_directory() as folder:
        saved = torch.load(Path(folder) / "state.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(saved["weights"], strict=False)
    optimizer.load_state_dict(saved["optimizer"])
    kept = saved["account"]
    return Account(
        **{**kept, "losses": tuple(kept["losses"]), "measured": tuple(tuple(pair) for pair in kept["measured"])}
    )


def save_checkpoint(model: Any, optimizer: Any, account: Account, rank: int) -> None:
    """Only what is trained: megabytes, whatever the base weighs. All workers report, the first one brings the files."""
    told = {"step": account.step, "loss": account.losses[-1]}
    if rank != 0:
        ray.train.report(told)
        return
    kept = asdict(replace(account, resumed_from_step=account.step))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(
            {"weights": trained_weights(model), "optimizer": optimizer.state_dict(), "account": kept},
            Path(folder) / "state.pt",
        )
        ray.train.report(told, checkpoint=ray.train.Checkpoint.from_directory(folder))


def trained_weights(model: Any) -> dict[str, Any]:
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


class Best:
    """The weights of the best measurement, in files beside the checkpoints: `best-STEP.pt`.

    An older best is removed only once a checkpoint knows of the newer one, so a kill at any moment leaves the file
    that the resumed account names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, model: Any, step: int) -> None:
        partial = self.folder / f".best-{step}.pt"
        torch.save(trained_weights(model), partial)
        partial.replace(self.path(step))

    def forget_others(self, step: int) -> None:
        for path in self.folder.glob("best-*.pt"):
            if path != self.path(step):
                path.unlink()

    def bring_back(self, model: Any, step: int) -> None:
        model.load_state_dict(torch.load(self.path(step), weights_only=True, map_location="cpu"), strict=False)

    def path(self, step: int) -> Path:
        return self.folder / f"best-{step}.pt"


class Reporter:
    """The first worker's account to the outside: who started when, and how far it is."""

    def __init__(self, job: Job, steps: int, account: Account) -> None:
        self.job, self.steps, self.spoke = job, steps, 0.0
        self.began, self.first_step = time.monotonic(), account.step
        attempts = Path(job.notes) / "attempts.jsonl"
        with attempts.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"from_step": account.step}) + "\n")
        self.restarts = len(attempts.read_text(encoding="utf-8").splitlines()) - 1
        self.tell(account, force=True)

    def tell(self, account: Account, note: str | None = None, *, force: bool = False) -> None:
        """`note`: what is done, where it is no step."""
        now = time.monotonic()
        if not force and now - self.spoke < PROGRESS_SECONDS:
            return
        self.spoke = now
        step, done = account.step, account.step - self.first_step
        write_json(
            Path(self.job.progress),
            {
                "schema": PROGRESS_SCHEMA,
                "step": step,
                "total_steps": self.steps,
                "percent": round(100 * step / self.steps, 1),
                "loss": None if account.loss is None else round(account.loss, 4),
                "validation_loss": round(account.measured[-1][1], 4) if account.measured else None,
                "seconds": round(account.seconds, 1),
                "eta_seconds": round((now - self.began) / done * (self.steps - step), 1) if done else None,
                "ray_job_id": self.job.ray_job_id,
                "restarts": self.restarts,
                "resumed_from_step": account.resumed_from_step,
                "worker_pids": [os.getpid()],
                **({"note": note} if note else {}),
            },
        )
