"""Small results that jobs left in the store. The operator mounts it read-only."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slmfleet.plan.facts import ChatTemplate

Result = TypeVar("Result", bound=BaseModel)
log = logging.getLogger("slmfleet.store")
TEMPLATES = ("tokenizer_config.json", "chat_template.json")


class StoreFiles:
    """Files below the store's mount and the Router's prefix in it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, prefix: str, path: str, kind: type[Result]) -> Result | None:
        """The result, or None where it is not there (yet). A broken file is logged and counts as absent."""
        file = self._root / prefix / path
        try:
            return kind.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be read: %s", file, str(error).splitlines()[0])
            return None

    def folders(self, prefix: str, kinds: Iterable[str]) -> frozenset[str]:
        """KIND/NAME of every folder of these kinds. One that cannot be listed has none, and nothing of it goes."""
        found = set()
        for kind in kinds:
            try:
                found |= {f"{kind}/{each.name}" for each in (self._root / prefix / kind).iterdir() if each.is_dir()}
            except OSError:
                continue
        return frozenset(found)

    def last_run(self, prefix: str, kind: str) -> int:
        """The highest number of a folder in KIND with a whole result; 0 where there is none."""
        try:
            found = [each for each in (self._root / prefix / kind).iterdir() if each.name.isdecimal()]
        except OSError:
            return 0
        return max((int(each.name) for each in found if (each / "result.json").is_file()), default=0)

    def chat_template(self, prefix: str, folder: str) -> ChatTemplate | None:
        """The tokenizer's chat template: its own file, or a field of tokenizer_config.json; in an adapter's folder,
        what the trainer left there of its base's."""
        at = self._root / prefix / folder
        config = next((found for name in TEMPLATES if (found := _object(at / name)) is not None), None)
        if config is None:
            return None
        own = at / "chat_template.jinja"
        template = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
        if not isinstance(template, str):
            return None
        return ChatTemplate(template, _token(config.get("bos_token")), _token(config.get("eos_token")))


def _object(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _token(value: object) -> str:
    """A special token is written as a string, or as an object with its content."""
    if isinstance(value, dict):
        return str(value.get("content") or "")
    return value if isinstance(value, str) else ""
