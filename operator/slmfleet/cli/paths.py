"""Which files a command reads and which it writes, compared before it touches any: no output is laid on an input.

Not covered: a file that another program puts there between this look and the work.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slmfleet.cli.problem import fail

RUN = ("clusters.json", "assignments.jsonl", "classifier.npz", "centroids.json", "result.json")
DATASET = ("train.jsonl", "heldout.jsonl", "lineage.jsonl", "card.md", "report.json")


@dataclass(frozen=True)
class Named:
    """What one option names: a file, or a folder with the `files` that are read or written in it. `log`: a file, a
    folder with all below it, or a pattern."""

    option: str
    path: Path | None
    files: tuple[str, ...] | None = None
    log: bool = False

    def targets(self) -> Iterator[Path]:
        if self.path is None:
            return
        if self.log:
            yield from _files_of_log(self.path)
        elif self.files is None:
            yield self.path
        else:
            yield from (self.path / name for name in self.files)


def files(option: str, paths: Sequence[Path] | None) -> list[Named]:
    """An option that may be repeated."""
    return [Named(option, path) for path in paths or ()]


def refuse_overwriting(reads: Sequence[Named], writes: Sequence[Named]) -> None:
    """End the command with 2 where an output is an input (by its path, a link or a hard link), would be read as part
    of the log next time, or is another output."""
    _refuse_twice(writes)
    outputs = {
        _identity(target): (output, target)
        for output in writes
        if output.path is not None
        for target in (output.path, *output.targets())
    }
    for read in reads:
        for path in read.targets():
            if (clash := outputs.get(_identity(path))) is not None:
                output, target = clash
                fail(f"{output.option} {target} is what {read.option} reads, and would be overwritten; name another")
        if read.log:
            _refuse_inside(read, list(outputs.values()))


def _refuse_twice(writes: Sequence[Named]) -> None:
    seen: dict[object, str] = {}
    for output in writes:
        if output.path is None:
            continue
        for target in output.targets():
            if (other := seen.get(_identity(target))) is not None:
                fail(f"{output.option} {target} is the file of {other}; name another")
        seen |= {_identity(target): output.option for target in (output.path, *output.targets())}


def _refuse_inside(read: Named, written: Sequence[tuple[Named, Path]]) -> None:
    from slmfleet.curation.inputs import belongs

    for output, target in written:
        if read.path is not None and belongs(read.path, target):
            fail(
                f"{output.option} {output.path} lies in what {read.option} {read.path} reads: {target.name} would be "
                "taken for log the next time; name a place outside it"
            )


def _files_of_log(path: Path) -> Iterator[Path]:
    from slmfleet.curation.failures import CurationError
    from slmfleet.curation.inputs import SEALED, found

    try:
        source = found(path)
    except CurationError:  # the reader says that there is none
        return
    yield from source.files
    for item in source.sealed:
        yield from item.rglob(f"*{SEALED}") if item.is_dir() else [item]


def _identity(path: Path) -> object:
    """One value for all names of a file: of one that is there its inode, of any other thing its path."""
    try:
        found = path.stat()
    except OSError:
        return str(path.resolve())
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else str(path.resolve())
