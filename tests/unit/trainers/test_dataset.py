"""Nothing is trained on a dataset whose own report speaks against it."""

import json

import pytest

from slmtrain import train
from slmtrain.errors import Refused
from slmtrain.files import dataset_digest


@pytest.fixture
def dataset(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": messages}) + "\n", "utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"w")
    return tmp_path


def judged(dataset, report=None):
    if report is not None:
        (dataset / "report.json").write_text(report if isinstance(report, str) else json.dumps(report), "utf-8")
    train.refuse_what_cannot_run("lora", dataset, dataset, None)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"leaks": 7}, "leaks is 7"),
        ({"leaks": -1}, "leaks must be"),
        ({"leaks": "none"}, "leaks must be"),
        ({"leaks": True}, "leaks must be"),
        ({"leaks": None}, "leaks must be"),
        ([], "not an object"),
    ],
)
def test_a_dataset_that_failed_the_leak_test_is_refused(dataset, report, said):
    with pytest.raises(Refused) as refused:
        judged(dataset, report)
    assert refused.value.reason == "BadDataset"
    assert f"{dataset / 'report.json'}" in refused.value.message and said in refused.value.message


def test_a_report_that_is_cut_is_refused(dataset):
    with pytest.raises(Refused, match=r"report\.json is not JSON"):
        judged(dataset, '{"leaks": ')


@pytest.mark.parametrize("report", [None, {"leaks": 0}, {"rows": 3}])
def test_without_leaks_or_without_a_report_it_is_trained_on(dataset, report):
    judged(dataset, report)


def test_a_dataset_has_one_name_that_says_its_rows(dataset):
    name = dataset_digest(dataset)
    assert name.startswith("sha256:") and len(name) == 71
    (dataset / "card.md").write_text("# Card\n", "utf-8")
    assert dataset_digest(dataset) == name
    (dataset / "heldout.jsonl").write_bytes(b"")  # nothing held out
    assert dataset_digest(dataset) == name
    (dataset / "heldout.jsonl").write_bytes((dataset / "train.jsonl").read_bytes())
    (dataset / "train.jsonl").write_bytes(b"")  # the same rows on the other side
    assert dataset_digest(dataset) != name


@pytest.mark.parametrize("side", ["train.jsonl", "heldout.jsonl"])
def test_rows_that_were_changed_after_curation_are_refused(dataset, side):
    judged(dataset, {"leaks": 0, "dataset_digest": dataset_digest(dataset)})
    with (dataset / side).open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(Refused, match=r"report\.json: dataset_digest is sha.*changed.*Curate them") as refused:
        judged(dataset)
    assert refused.value.reason == "BadDataset"
    (dataset / "report.json").unlink()
    judged(dataset)


def test_a_report_of_another_kind_of_digest_is_refused(dataset):
    with pytest.raises(Refused, match="dataset_digest is 7"):
        judged(dataset, {"dataset_digest": 7})
