"""The commands that run in pods: the operator, and the watcher beside a gateway."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer
import yaml
from pydantic import ValidationError

from slmfleet.cli.problem import fail
from slmfleet.plan.config import Config


def read_config(path: Path) -> Config:
    """The operator's settings; a bad one is refused by the field's name."""
    try:
        return Config.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        fail(f"--config {path}: {error.strerror}; the chart mounts it from the ConfigMap slmfleet-config")
    except yaml.YAMLError as error:
        fail(f"--config {path}: not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"--config {path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def operator(
    config: Annotated[Path, typer.Option(help="Settings, as the chart writes them.")] = Path(
        "/etc/slmfleet/config.yaml"),
    namespace: Annotated[str | None, typer.Option(help="Overrides the settings' namespace.")] = None,
    liveness: Annotated[str | None, typer.Option(help="Where /healthz is served; default: port 8080.")] = None,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run the operator of one namespace. Ends when it is told to, or when another operator takes the lease."""
    found = read_config(config)
    from slmfleet.controllers.operator import run

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    if namespace is not None:
        found = found.model_copy(update={"namespace": namespace})
    run(found, os.environ.get("POD_NAME") or os.uname().nodename, liveness or _liveness(os.environ.get("POD_IP", "")))


def _liveness(pod_address: str) -> str:
    """Every address of the family that kubelet asks at: the server behind it takes one family only."""
    return f"http://{'[::]' if ':' in pod_address else '0.0.0.0'}:8080/healthz"


def follow_routes(
    namespace: Annotated[str, typer.Option(help="Namespace of the ConfigMap.")],
    name: Annotated[str, typer.Option(help="Name of the ConfigMap.")],
    key: Annotated[str, typer.Option(help="Key in it.")],
    out: Annotated[Path, typer.Option(help="File to keep equal to it.")],
) -> None:
    """Keep a file equal to one key of a ConfigMap, by a watch: a change is there within milliseconds."""
    from slmfleet.kube.watchfile import follow

    out.parent.mkdir(parents=True, exist_ok=True)
    follow(namespace, name, key, out)
