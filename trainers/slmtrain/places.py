"""Where a command may write: never onto what it reads, and never into what must appear whole. Before any work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATASET = ("train.jsonl", "heldout.jsonl", "report.json", "card.md", "secrets.json", "lineage.jsonl")


@dataclass(frozen=True)
class Place:
    """What an option names. `files`: those of a folder that count; none: all of it. `whole`: nothing else may be
    written in it."""

    option: str
    path: Path | None
    files: tuple[str, ...] | None = None
    whole: bool = False

    def taken(self) -> Iterator[Path]:
        """Files and folders that stand for it."""
        if self.path is None:
            return
        yield self.path
        if self.path.is_dir():
            yield from self.path.rglob("*") if self.files is None else map(self.path.joinpath, self.files)


def clash(reads: Iterable[Place], writes: Iterable[Place]) -> str | None:
    """What is wrong with where a command writes, with both options' names; None where nothing is."""
    before = [place for place in reads if place.path is not None and place.path.exists()]  # a base may be a hub's id
    for output in writes:
        if output.path is None:
            continue
        for other in before:
            if any(same(output.path, path) for path in other.taken()):
                return f"{output.option} {output.path} is what {other.option} names or holds; name another"
            if other.whole and other.path is not None and output.path.resolve().is_relative_to(other.path.resolve()):
                return f"{output.option} {output.path} lies in {other.option} {other.path}; name a place outside it"
        before.append(output)
    return None


def same(one: Path, other: Path) -> bool:
    """By path, link or hard link."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))
