"""What a dataset's own report says against training on it. Without report.json a folder is a user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slmtrain.errors import Refused
from slmtrain.files import dataset_digest, read_json

REPORT = "report.json"


def refuse_unfit(folder: Path) -> None:
    """Raises Refused, BadDataset, with the file and the field."""
    path = folder / REPORT
    if not path.is_file():
        return
    report = read_json(path)
    if not isinstance(report, dict):
        raise Refused("BadDataset", f"{path} is not an object; `slmfleet curate` writes it")
    _refuse_leaks(path, report)
    _refuse_edited(path, report, dataset_digest(folder))


def _refuse_leaks(path: Path, report: dict[str, Any]) -> None:
    leaks = report.get("leaks", 0)
    if not isinstance(leaks, int) or isinstance(leaks, bool) or leaks < 0:
        raise Refused("BadDataset", f"{path}: leaks must be a whole number, not {leaks!r}")
    if leaks:
        told = f"{path}: leaks is {leaks}: so many values of the log were found after redaction"
        raise Refused("BadDataset", f"{told}; curate it again with rules that find them (--deny, --patterns, --model)")


def _refuse_edited(path: Path, report: dict[str, Any], found: str) -> None:
    told = report.get("dataset_digest", found)
    if told != found:
        raise Refused(
            "BadDataset",
            f"{path}: dataset_digest is {told}, and the rows beside it are {found}: they were changed after they were "
            "curated and tested for leaks. Curate them again; or remove report.json, and they are files of your own",
        )
