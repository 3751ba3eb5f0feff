"""What the operator reads of the store."""

from __future__ import annotations

from pathlib import Path

from slmfleet.controllers.storefiles import StoreFiles


def test_the_folders_of_a_kind_are_listed_below_the_routers_prefix(tmp_path: Path) -> None:
    paths = "fleet/artifacts/a-1", "fleet/artifacts/b-2", "fleet/datasets/c-3", "artifacts/other", "fleet/usage/d"
    for path in paths:
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "fleet/artifacts/note.txt").write_text("no folder")
    found = StoreFiles(tmp_path).folders("fleet", ("artifacts", "datasets", "evaluations"))
    assert found == {"artifacts/a-1", "artifacts/b-2", "datasets/c-3"}


def test_the_last_discovery_is_the_newest_with_a_whole_result(tmp_path: Path) -> None:
    for path in ("0001/result.json", "0012/result.json", "0013/clusters.json", "note/result.json"):
        file = tmp_path / "fleet/discovery/agents" / path
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    store = StoreFiles(tmp_path)
    assert store.last_run("fleet", "discovery/agents") == 12
    assert store.last_run("fleet", "discovery/other") == 0
