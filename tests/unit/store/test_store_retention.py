"""Retention: the days that are past go, and nothing else does."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmfleet.store.retention import Expired, expire

TODAY = date(2026, 3, 1)


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_a_day_goes_when_all_of_it_is_older_than_it_is_kept(tmp_path: Path) -> None:
    for day in ("2026-03-01", "2026-02-28", "2026-02-22", "2026-02-21", "2025-12-31"):
        put(tmp_path / day / "g-1.seg")
        put(tmp_path / day / "g-2.seg")
    assert expire(tmp_path, 7, TODAY) == Expired(days=2, segments=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-02-22", "2026-02-28", "2026-03-01"]
    assert expire(tmp_path, 7, TODAY) == Expired()


@given(st.dates(), st.integers(1, 36_500), st.dates())
def test_no_record_goes_before_its_time(day: date, keep: int, today: date) -> None:
    """The last moment of a day is `today - day - 1` whole days old at the first moment of today."""
    from slmfleet.store.retention import _is_past

    assert _is_past(day.isoformat(), keep, today) is ((today - day).days - 1 >= keep)


@pytest.mark.parametrize("name", ["2025-01-01.seg", "2025-1-1", "2025-13-01", "2025-02-30", "x2025-01-01", "25-01-01",
                                  "2025-01-01 ", "latest", "2025-01-01T00"])  # fmt: skip
def test_what_is_no_day_stays(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / "g.seg")
    put(tmp_path / "g.seg")
    assert expire(tmp_path, 1, TODAY) == Expired()
    assert left(tmp_path) == {f"{name}/g.seg", "g.seg"}


def test_only_what_the_writer_makes_is_deleted_and_a_folder_with_anything_else_stays(tmp_path: Path) -> None:
    day = tmp_path / "2025-01-01"
    put(day / "g.seg")
    put(day / ".g.seg.abc.tmp")
    put(day / "notes.txt")
    put(day / "deeper" / "h.seg")
    (day / "folder.seg").mkdir()
    assert expire(tmp_path, 1, TODAY) == Expired(days=0, segments=1)
    assert left(tmp_path) == {"2025-01-01/notes.txt", "2025-01-01/deeper/h.seg"}


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """Of the log, of a day, and of a segment: never deletes what they name."""
    elsewhere = put(tmp_path / "elsewhere" / "2025-01-01" / "g.seg")
    log = tmp_path / "log"
    log.mkdir()
    (log / "2025-01-01").symlink_to(elsewhere.parent)
    put(log / "2025-01-02" / "h.seg")
    (log / "2025-01-02" / "link.seg").symlink_to(elsewhere)
    put(log / "2025-01-03")
    assert expire(log, 1, TODAY) == Expired(days=1, segments=2)
    assert elsewhere.exists()
    (tmp_path / "other").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic links|directory"):
        expire(tmp_path / "other", 1, TODAY)
    assert elsewhere.exists()


def test_a_log_that_is_not_there_has_nothing_to_delete(tmp_path: Path) -> None:
    assert expire(tmp_path / "none", 1, TODAY) == Expired()
