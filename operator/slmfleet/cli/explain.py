"""`slmfleet explain-route`: what the classifier says of one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from slmfleet.cli.problem import fail


def explain_route(
    classifier: Annotated[Path, typer.Option(help="classifier.npz of `slmfleet discover`.")],
    prompt: Annotated[str | None, typer.Option(help="A user text.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt to send with --prompt.")] = None,
    request: Annotated[Path | None, typer.Option(help="A request body as JSON, or a usage record.")] = None,
    digest: Annotated[str | None, typer.Option(help="sha256:… that the file must have.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for a program.")] = False,
) -> None:
    """Say which task a call is taken for, or why for none."""
    from slmfleet.recognise import Classifier, frame_fingerprint

    if (prompt is None) == (request is None):
        fail("give one of --prompt and --request")
    body = _body(request) if request is not None else _chat(prompt or "", system)
    try:
        decision = Classifier.load(classifier, digest).classify(body)
    except OSError as error:
        fail(f"--classifier {classifier}: {error.strerror}")
    except ValueError as error:
        fail(str(error), 1)
    result = {
        "label": decision.label,
        "score": round(decision.score, 6),
        "threshold": round(decision.threshold, 6),
        "runner_up": decision.runner_up,
        "rule": decision.rule,
        "fingerprint": frame_fingerprint(body),
    }
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(
        f"{decision.label or 'abstain'}: score {decision.score:.4f}, threshold {decision.threshold:.4f}, "
        f"runner-up {decision.runner_up or 'none'}, rule {decision.rule}"
    )
    typer.echo(f"frame {result['fingerprint']}")


def _chat(prompt: str, system: str | None) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": prompt}]}


def _body(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        fail(f"--request {path}: {error.strerror}")
    except ValueError as error:
        fail(f"--request {path}: not JSON: {error}")
    if not isinstance(found, dict):
        fail(f"--request {path}: not an object")
    inner = found.get("request")
    return inner if isinstance(inner, dict) and "messages" not in found else found
