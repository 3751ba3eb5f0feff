"""`slmfleet simulate`: a fleet on a trace of calls, beside other ways to run it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from slmfleet.cli.paths import Named, refuse_overwriting
from slmfleet.cli.problem import fail


def simulate(
    trace: Annotated[Path, typer.Option(help="Calls: .jsonl, .jsonl.gz, .csv or .csv.gz with time, specialist, "
                                             "input_tokens, output_tokens.")],
    fleet: Annotated[Path, typer.Option(help="Pools with their speed, adapters, next tier: YAML.")],
    out: Annotated[Path | None, typer.Option(help="File for the result as JSON.")] = None,
    system: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated. Default: all.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Specialists to show beside the whole, worst first.")] = 5,
    seed: Annotated[int, typer.Option(help="Same seed, trace and fleet: same result.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Replay a trace on a simulated fleet: latency, spill, server-seconds and adapter loads, ours beside baselines.

    The planner and the choice of a server are those that run; the engine is a model with the speed that the fleet file
    states. Not covered: memory for keys and values, prefix caches, failures, networks, quality of answers.
    """
    from slmfleet.simulate.fleetfile import read_fleet
    from slmfleet.simulate.problem import InputProblem
    from slmfleet.simulate.simulation import simulate as run
    from slmfleet.simulate.systems import BY_NAME, SYSTEMS
    from slmfleet.simulate.table import table
    from slmfleet.simulate.trace import read_trace

    for name in system or ():
        if name.lower() not in BY_NAME:
            fail(f"--system {name}: not one of {', '.join(BY_NAME)}")
    refuse_overwriting([Named("--trace", trace), Named("--fleet", fleet)], [Named("--out", out)])
    chosen = [BY_NAME[name.lower()] for name in dict.fromkeys(system)] if system else SYSTEMS
    try:
        if out is not None:
            _writable(out)
        declared, calls = read_fleet(fleet), read_trace(trace)
        progress = Progress(len(calls.times))
        result = run(calls, declared, seed, chosen, progress.say)
        progress.done()
        text = result.model_dump_json(by_alias=True, indent=1)
        if out is not None:
            out.write_text(text + "\n", encoding="utf-8")
    except InputProblem as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}; check the path and its permissions")
    if as_json:
        typer.echo(result.model_dump_json(by_alias=True))
        return
    for line in table(result, worst):
        typer.echo(line)


def _writable(path: Path) -> None:
    """Found out before the work, not after it. Raises OSError."""
    with path.open("a", encoding="utf-8"):
        pass


class Progress:
    """One line that moves on a terminal, one line a system elsewhere; on stderr."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._moving = sys.stderr.isatty()
        self._system = ""

    def say(self, system: str, calls: int) -> None:
        if self._moving:
            typer.echo(f"\rsimulate: {system} {calls / self._calls:.0%}\x1b[K", err=True, nl=False)
        elif system != self._system:
            typer.echo(f"simulate: {system}", err=True)
        self._system = system

    def done(self) -> None:
        if self._moving:
            typer.echo("\r\x1b[K", err=True, nl=False)
