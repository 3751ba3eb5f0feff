"""A Debian base where no image registry can be reached, made by debootstrap and imported once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from devcluster.problem import run
from devcluster.state import locked

from images.engine import Engine

_SCRIPT = Path(__file__).parent / "base" / "debootstrap.sh"


def base_reference(suite: str) -> str:
    """The image's name; the tag is that of Debian's own."""
    return f"localhost/slmfleet/debian:{suite}-slim"


def base_image(engine: Engine, cache: Path, suite: str, say: Callable[[str], None]) -> str:
    """Make sure that the engine has the base, and return its name."""
    reference = base_reference(suite)
    with locked(cache / "locks" / suite):
        if not engine.has(reference):
            say(f"base {reference}: debootstrap {suite} …")
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                tar = Path(folder) / "root.tar"
                run([_SCRIPT, suite, tar], what=f"making {reference}", timeout=1800)
                engine.import_root(tar, reference)
    return reference
