"""An adapter's folder is checked before the engine is touched."""

import json

import pytest
from engine.artifact import base_digest, digest_of, read_adapter, read_folder
from engine.errors import EngineError

from slmtrain import files


def adapter(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 16, **config}), "utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "ä.txt").write_text("x", "utf-8")
    return folder


def reason_of(path, digest=None):
    with pytest.raises(EngineError) as refusal:
        read_adapter(str(path), digest)
    return refusal.value.reason


def test_trainer_and_server_give_an_artifact_the_same_name(tmp_path):
    folder = adapter(tmp_path / "a")
    (folder / "result.json").write_text("{}", "utf-8")
    assert digest_of(read_folder(folder)) == files.artifact_digest(folder)


def test_trainer_and_server_give_a_base_the_same_name(tmp_path):
    for name in ("config.json", "tokenizer.json", "README.md", "model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_text(name, "utf-8")
    assert base_digest(tmp_path) == files.base_digest(tmp_path)


def test_a_good_adapter_is_read_with_its_scale(tmp_path):
    folder = adapter(tmp_path / "a")
    read = read_adapter(str(folder), files.artifact_digest(folder))
    assert (read.rank, read.scaling, read.weights, read.base_digest) == (8, 2.0, b"weights", None)
    assert read_adapter(str(adapter(folder, use_rslora=True)), None).scaling == pytest.approx(16 / 8**0.5)


def test_an_adapter_names_its_base(tmp_path):
    folder = adapter(tmp_path / "a")
    (folder / "slmtrain.json").write_text('{"base_digest": "sha256:b"}', "utf-8")
    assert read_adapter(str(folder), None).base_digest == "sha256:b"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "DoraRefused"),
        ({"peft_type": "IA3"}, "AdapterDoesNotFit"),
        ({"rank_pattern": {"q": 4}}, "AdapterDoesNotFit"),
        ({"modules_to_save": ["lm_head"]}, "AdapterDoesNotFit"),
        ({"bias": "all"}, "AdapterDoesNotFit"),
        ({"r": 0}, "AdapterUnreadable"),
    ],
)
def test_what_cannot_ride_in_a_mixed_batch_is_refused(tmp_path, config, reason):
    assert reason_of(adapter(tmp_path / "a", **config)) == reason


def test_files_that_are_not_those_asked_for_are_refused(tmp_path):
    assert reason_of(adapter(tmp_path / "a"), "sha256:" + "0" * 64) == "DigestMismatch"


def test_a_missing_folder_or_file_is_refused(tmp_path):
    assert reason_of(tmp_path / "absent") == "AdapterUnreadable"
    (tmp_path / "empty").mkdir()
    assert reason_of(tmp_path / "empty") == "AdapterUnreadable"
