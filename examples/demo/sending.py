"""The agent's calls to the gateway, all at once or as long as something needs them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

from demo import report as reporting
from demo import traffic
from demo.cluster import ROOT, Failed, background, stop, until
from demo.steps import Run


def agent_command(run_: Run, stage: str, *arguments: str) -> list[str]:
    options = run_.options
    return [
        sys.executable, "-m", "demo.agent", "--url", f"http://{run_.gateway}/v1", "--traffic", str(run_.traffic),
        "--out", str(run_.results / f"{stage}.jsonl"), "--stage", stage, "--speedup", str(options.speedup),
        "--concurrency", str(options.concurrency), *arguments,
    ]  # fmt: skip


def agent_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "examples")}


def await_gateway(run_: Run) -> None:
    """The node's service rules follow a ready pod a moment later; until then a Service refuses connections: the
    gateway's to the agent, and the LLM's to the gateway."""
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{run_.gateway}/v1/models", timeout=5):
                return True
        except OSError:  # an HTTP error as well
            return False

    until("an answer of the LLM through the gateway", 60, answers, every=0.5)


def send(run_: Run, stage: str, *arguments: str) -> None:
    """One run of the agent. Errors that it saw are in its results and in the table; they do not end the demo."""
    await_gateway(run_)
    done = subprocess.run(agent_command(run_, stage, *arguments), env=agent_env(), cwd=ROOT, check=False)
    if done.returncode not in (0, 1):
        raise Failed(f"the agent ended with exit {done.returncode} while it sent {stage!r}")


def last_round(run_: Run) -> int:
    return traffic.SIZES[run_.options.size].rounds


def send_before(run_: Run) -> None:
    """Everything goes to the LLM and into the log."""
    send(run_, reporting.BEFORE, "--phase", "train")


def send_after(run_: Run) -> None:
    """The last round: calls that were never sent before and that nothing has learned from."""
    stop_rollout_traffic(run_)
    send(run_, reporting.AFTER, "--phase", "later", "--round", str(last_round(run_)))


@contextlib.contextmanager
def rollout_traffic(run_: Run, stage: str = "rollout", rounds: tuple[int, ...] = ()) -> Iterator[None]:
    """Rounds of `later` calls (all but the last), again and again in new conversations, as long as the block runs."""
    chosen = [word for number in rounds or range(1, last_round(run_)) for word in ("--round", str(number))]
    command = agent_command(run_, stage, "--phase", "later", *chosen, "--repeat", "50",
                            "--max-rate", str(run_.options.rollout_rate))  # fmt: skip
    log = (run_.options.work / f"agent-{stage}.log").open("a", encoding="utf-8")
    with log, background(command, env=agent_env(), stdout=log, stderr=subprocess.STDOUT) as run_.agent:
        yield
    run_.agent = None


def stop_rollout_traffic(run_: Run) -> None:
    if run_.agent is not None:
        stop(run_.agent)
