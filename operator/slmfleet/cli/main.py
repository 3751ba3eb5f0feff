"""The command line. Commands are imported when they are called, so that none pays for another's libraries."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any

import typer
import typer.core

from slmfleet.cli.examples import epilog

COMMANDS: dict[str, tuple[str, str]] = {
    "discover": ("slmfleet.cli.discover:discover", "Find the recurring tasks in a log of calls (S3)."),
    "redact": ("slmfleet.cli.redact:redact", "Replace personal data and secrets (S2)."),
    "curate": ("slmfleet.cli.curate:curate", "Make the dataset of one task (S2)."),
    "select": ("slmfleet.cli.select:select_base", "Rank base models for one task, with reasons (S4)."),
    "train": ("slmfleet.cli.trainers:train", "Fine-tune a base on a dataset with Ray (S5)."),
    "evaluate": ("slmfleet.cli.trainers:evaluate", "Judge a model on held-out examples."),
    "verdict": ("slmfleet.cli.verdict:verdict", "Sequential test of a candidate against a baseline."),
    "simulate": ("slmfleet.cli.simulate:simulate", "Replay a trace of calls on a simulated fleet."),
    "gateway": ("slmfleet.cli.gateway:gateway", "Serve the OpenAI API in front of an LLM and its specialists."),
    "explain-route": ("slmfleet.cli.explain:explain_route", "Say where a call would go, and why."),
    "clean": ("slmfleet.cli.clean:clean", "Remove folders of the store that no Specialist needs."),
    "keys": ("slmfleet.cli.keys:app", "Make a key pair for the log of calls; rewrap an old log for another."),
    "crds": ("slmfleet.cli.crds:crds", "Write the CRDs."),
    "status": ("slmfleet.cli.status:status", "Print the tree of one specialist, from cluster to weight."),
    "operator": ("slmfleet.cli.operator:operator", "Run the operator (in a pod)."),
    "follow-routes": ("slmfleet.cli.operator:follow_routes", "Keep a file equal to a route table (in a pod)."),
    "uninstall": ("slmfleet.cli.uninstall:uninstall", "Remove what the operator made (a Helm hook)."),
}
RESOLVING = "slmfleet.resolving"
ENDING_SECONDS = 10


def end_when_told() -> None:
    """As the first process of a container, end on SIGTERM as any other does: the kernel gives that process no default,
    so that it would go on until it is killed at the end of the pod's grace period."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: object) -> None:
    """Raise SystemExit; where that is lost (raised within a destructor, say) or takes too long, end all the same."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
    signal.alarm(ENDING_SECONDS)
    sys.exit(128 + number)


class Lazy(typer.core.TyperGroup):
    """A group that knows its commands' names and imports one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def main(self, *args: Any, **settings: Any) -> Any:
        """As ever, but a wrong command line is one line on stderr, as every other failure is."""
        if not settings.get("standalone_mode", True):
            return super().main(*args, **settings)
        settings["standalone_mode"] = False
        end_when_told()
        try:
            code = super().main(*args, **settings)
        except OSError as error:  # what no command expected: a full disk behind stdout
            typer.echo(f"slmfleet: {error.filename or 'output'}: {error.strerror or error}", err=True)
            code = 1
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            where = getattr(getattr(error, "ctx", None), "command_path", "slmfleet")
            said = " ".join(error.format_message().split()).rstrip(".")
            typer.echo(f"slmfleet: {said}; see {where} --help", err=True)
            code = getattr(error, "exit_code", 2)
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        ctx.meta[RESOLVING] = True
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        target, text = COMMANDS[cmd_name]
        if RESOLVING not in ctx.meta:  # only the list of commands is asked for: import nothing
            return typer.core.TyperCommand(cmd_name, short_help=text, help=text)
        module, _, name = target.partition(":")
        found = getattr(importlib.import_module(module), name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.epilog = epilog(cmd_name)
            return group
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        # A recipe's own --help and options pass through untouched.
        settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []} \
            if module.endswith(".trainers") else {}
        single.command(name=cmd_name, help=found.__doc__ or text, context_settings=settings, epilog=epilog(cmd_name))(
            found
        )
        command = typer.main.get_command(single)
        command.name = cmd_name
        return command


app = typer.Typer(cls=Lazy, invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False,
                  help="slmfleet: from an agent fleet's LLM traffic to served, proven specialists.")


@app.callback()
def _root(context: typer.Context) -> None:
    """slmfleet: from an agent fleet's LLM traffic to served, proven specialists."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Entry point: an expected failure is one line on stderr, never a traceback."""
    try:
        app(prog_name=os.environ.get("SLMFLEET_PROG", "slmfleet"))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def run_plugin() -> None:
    """Entry point of `kubectl slm`."""
    os.environ["SLMFLEET_PROG"] = "kubectl slm"
    run()


if __name__ == "__main__":
    run()
