"""What the operator reads of the store."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from slmfleet.api.basemodel import Source
from slmfleet.api.specialist import Revision
from slmfleet.controllers.router import _templates
from slmfleet.controllers.storefiles import StoreFiles
from slmfleet.plan.facts import ChatTemplate


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


def _written(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), "utf-8")


def test_a_base_on_the_hub_is_prompted_as_an_adapter_of_it_says(tmp_path: Path) -> None:
    """The gateway leaves a pool without a template out: its Specialists would never get a call."""
    kept = {"chat_template": "{{x}}", "bos_token": None, "eos_token": "</s>"}
    _written(tmp_path / "artifacts/one", chat_template=kept)
    _written(tmp_path / "bases/tiny", tokenizer_config={"chat_template": "{{y}}", "bos_token": {"content": "<s>"}})
    _written(tmp_path / "artifacts/old", adapter_config={})
    hub, tiny = Source(hugging_face="a/b"), Source(store_path="bases/tiny")
    sources = {"hub": hub, "tiny": tiny, "bare": hub}
    made = {name: SimpleNamespace(spec=SimpleNamespace(source=source)) for name, source in sources.items()}
    used = [("hub", "artifacts/one"), ("tiny", "artifacts/one"), ("bare", "artifacts/old")]
    stable = [Revision(name="r", artifact="sha256:" + "ad" * 32, path=path, base=name) for name, path in used]
    serving = {r.base: SimpleNamespace(status=SimpleNamespace(candidate=None, stable=r)) for r in stable}
    context = SimpleNamespace(store=StoreFiles(tmp_path), specialists=lambda: serving)
    assert _templates(context, "", made) == {
        "hub": ChatTemplate("{{x}}", "", "</s>"), "tiny": ChatTemplate("{{y}}", "<s>", ""),
    }  # fmt: skip
