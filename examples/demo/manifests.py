"""The demo's manifests: files of `manifests/` with their `$names` filled in."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "manifests"


def fill(name: str, **values: Any) -> str:
    """One file as text. Every name in it must be given, and every name given must be in it."""
    template = string.Template((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    wanted = set(template.get_identifiers())
    if wanted != set(values):
        raise ValueError(f"manifests/{name}.yaml takes {sorted(wanted)}, given were {sorted(values)}")
    return template.substitute({key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()})
