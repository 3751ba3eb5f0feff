"""The command itself, in a process of its own: SIGTERM under load loses no call and no record; TLS to the LLM."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from gateway_fakes import COMPLETION, FakeLlm, FakeTriton, Heard, chat, table, task, whole
from gateway_processes import start
from typer.testing import CliRunner

from slmfleet.cli.gateway import gateway
from slmfleet.cli.keys import generate
from slmfleet.store.segments import open_segment, read_directory, seal


async def test_sigterm_under_load_loses_no_call_and_no_record(tmp_path: Path, identity: Any) -> None:
    llm, triton = FakeLlm(), FakeTriton()
    await llm.start()
    await triton.start()

    async def reply(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(whole(json.dumps(COMPLETION).encode()))

    llm.reply = reply
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table(llm.url, triton.url, str(identity.to_public()))), encoding="utf-8")
    gateway = await start("--table", str(path), "--store", str(tmp_path / "store"), "--drain-seconds", "5")
    process = gateway.process
    calls = [asyncio.create_task(gateway.post(chat(str(n)) if n % 2 else task(str(n)))) for n in range(60)]
    await asyncio.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        statuses = await asyncio.gather(*calls)
        assert await process.wait() == 0
    assert set(statuses) == {200}
    reader = read_directory(tmp_path / "store", [str(identity)])
    assert len({json.loads(record)["id"] for record in reader}) == 60
    await llm.stop()
    await triton.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "0"], "from 1 to 64"),
        (["--workers", "2", "--listen", "nope"], "not HOST:PORT"),
        (["--tls-key", "x"], "belong together"),
        (["--tls-key", "/nowhere", "--tls-certificate", "/nowhere"], "cannot be used"),
        (["--origin-key-file", "/nowhere/key"], "cannot be read"),
        (["--listen", "nope", "--admin", "127.0.0.1:0"], "not HOST:PORT"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(arguments: list[str], words: str) -> None:
    command = typer.Typer()
    command.command()(gateway)
    result = CliRunner().invoke(command, ["--table", "x", *arguments])
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_keys_are_made_once_and_never_overwritten(tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(generate)
    target = tmp_path / "identity"
    made = CliRunner().invoke(command, ["--out", str(target)])
    assert made.exit_code == 0
    recipient = made.stdout.strip()
    assert target.stat().st_mode & 0o777 == 0o600
    assert open_segment(seal([b"x"], [recipient], meta={}), [target.read_text().splitlines()[-1]]) == [b"x"]
    again = CliRunner().invoke(command, ["--out", str(target)])
    assert (again.exit_code, "never overwritten" in again.stderr) == (1, True)
    printed = CliRunner().invoke(command, ["--json"])
    assert set(json.loads(printed.stdout)) == {"recipient", "identity"}
