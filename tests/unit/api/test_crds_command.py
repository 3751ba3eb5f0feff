"""What is committed is what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slmfleet.cli.crds import crds, plain, templates

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "folder, wanted", [("crds", plain()), ("charts/slmfleet/templates/crds", templates())], ids=["crds", "chart"]
)
def test_the_committed_crds_are_those_of_the_models(folder: str, wanted: dict[str, str]) -> None:
    found = {path.name: path.read_text() for path in (ROOT / folder).iterdir()}
    assert found.keys() == wanted.keys()
    differing = [name for name, text in wanted.items() if found[name] != text]
    assert not differing, f"{folder}: {differing} differ from the models; run `make crds`"


def test_the_command_writes_one_file_a_kind(tmp_path: Path) -> None:
    crds(tmp_path / "crds", tmp_path / "chart")
    names = {"routers", "taskclusters", "specialists", "basemodels"}
    assert {path.name.split(".")[0] for path in (tmp_path / "crds").iterdir()} == names
    assert all(
        yaml.safe_load(path.read_text())["kind"] == "CustomResourceDefinition" for path in tmp_path.glob("crds/*")
    )


def test_no_word_is_left_that_kubectl_reads_as_a_truth_value() -> None:
    for text in plain().values():
        bare = [line for line in text.splitlines() if line.strip(" -").removesuffix(":") in {"y", "Y", "n", "N"}]
        assert bare == []


def test_the_charts_copy_is_kept_and_can_be_switched_off() -> None:
    for text in templates().values():
        assert "{{- if .Values.crds.install }}" in text
        assert "helm.sh/resource-policy: keep" in text
