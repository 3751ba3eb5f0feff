"""Nothing is trained on a dataset whose own report speaks against it."""

import json

import pytest

from slmtrain import train
from slmtrain.errors import Refused


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
