"""The chart, rendered by the real helm."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from apiserver import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "slmfleet"
KUBERNETES = "1.34.2"


def helm(*arguments: str | Path, check: bool = True, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(binary("helm")), *map(str, arguments)]
    environment = {"HOME": str(home or "/nonexistent")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 or not check, done.stderr
    return done


def render(namespace: str = "demo", **values: Any) -> list[dict[str, Any]]:
    """Every object of the release, hooks and all."""
    chosen = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    done = helm("template", "slmfleet", CHART, "-n", namespace, "--kube-version", KUBERNETES, *chosen)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A pod of each workload's template."""
    templates = [(o["metadata"], o["spec"]["template"]) for o in objects if o["kind"] in ("Deployment", "Job")]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], **template["metadata"]},
            "spec": template["spec"],
        }
        for meta, template in templates
    ]
