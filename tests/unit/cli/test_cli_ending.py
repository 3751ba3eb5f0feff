"""A container's first process ends when it is told to, as any other process does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from slmfleet.cli.main import end_when_told
from slmtrain.errors import run_command


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGTERM, before)


def told() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def test_a_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    end_when_told()
    monkeypatch.setattr(os, "getpid", lambda: pid)
    with pytest.raises(SystemExit) as ended:
        told()
    assert ended.value.code == 143


LOST = """
import os, signal
from slmfleet.cli import main
pid, os.getpid = os.getpid(), lambda: 1
main.ENDING_SECONDS = 1
main.end_when_told()

class Last:
    def __del__(self):
        os.kill(pid, signal.SIGTERM)
        for _ in range(9): pass

Last()
while True: signal.pause()
"""


def test_a_command_ends_even_where_the_interpreter_drops_what_is_raised() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 143 and "Exception ignored in" in done.stderr


def test_a_recipe_says_that_it_can_be_run_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = os.getpid()

    def main() -> None:
        monkeypatch.setattr(os, "getpid", lambda: pid)
        told()

    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(SystemExit) as ended:
        run_command("train", main)
    assert ended.value.code == 1
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("begin", [end_when_told, lambda: run_command("train", lambda: None)])
def test_elsewhere_the_kernel_sees_to_it(begin: Callable[[], None]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    begin()
    assert signal.getsignal(signal.SIGTERM) is before
