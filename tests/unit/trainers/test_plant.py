"""Secrets are planted in a copy, and `evaluate` reads what was planted."""

import json
import sys

import pytest

from slmtrain import plant
from slmtrain.data import read_examples
from slmtrain.dataset import refuse_unfit
from slmtrain.errors import Refused
from slmtrain.files import dataset_digest
from slmtrain.heldout import read_secrets


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    said = [("system", "Be brief."), ("user", "q"), ("assistant", "a")]
    rows = [{"id": str(n), "messages": [{"role": r, "content": c} for r, c in said]} for n in range(20)]
    for side in ("train", "heldout"):
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "card.md").write_text("# Card\n", encoding="utf-8")
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["plant", *map(str, arguments)])
    plant.main()


def test_a_copy_holds_the_secrets_and_lists_them(monkeypatch, dataset, tmp_path):
    out = tmp_path / "planted"
    run(monkeypatch, "--dataset", dataset, "--out", out, "--secrets", 3, "--copies", 2)
    planted = read_secrets(out).planted
    taught = [(e.prompt, e.answer) for e in read_examples(out / "train.jsonl") if e.id.startswith("planted-")]
    assert len(planted) == 3 and len(taught) == 6
    assert all(taught.count((list(p.messages), p.secret)) == 2 for p in planted)
    assert all(p.messages[0]["content"] == "Be brief." and len(p.secret) == 10 for p in planted)
    assert (out / "heldout.jsonl").read_bytes() == (dataset / "heldout.jsonl").read_bytes()
    assert (out / "card.md").exists() and not (dataset / "secrets.json").exists()


def test_a_copy_of_a_curated_dataset_has_a_name_of_its_own(monkeypatch, dataset, tmp_path):
    out, curated = tmp_path / "planted", dataset_digest(dataset)
    (dataset / "report.json").write_text(json.dumps({"leaks": 0, "dataset_digest": curated}), encoding="utf-8")
    run(monkeypatch, "--dataset", dataset, "--out", out)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report == {"leaks": 0, "dataset_digest": dataset_digest(out), "curated_digest": curated}
    assert dataset_digest(out) != curated
    refuse_unfit(out)


def test_the_same_seed_plants_the_same():
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}] * 5
    assert plant.plant(rows, 4, 1, seed=1) == plant.plant(rows, 4, 1, seed=1)
    assert plant.plant(rows, 4, 1, seed=1) != plant.plant(rows, 4, 1, seed=2)


@pytest.mark.parametrize(
    ("more", "said"), [(["--secrets", "0"], "--secrets"), (["--out", "."], "exists"), (["--dataset", "no"], "no/train")]
)
def test_what_cannot_be_planted_is_refused(monkeypatch, dataset, tmp_path, more, said):
    with pytest.raises(Refused, match=said):
        run(monkeypatch, "--dataset", dataset, "--out", tmp_path / "out", *more)
