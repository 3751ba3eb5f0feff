"""A recipe writes neither onto what it reads nor into what must appear whole: a wrong command line, exit 2."""

import pytest

from slmtrain import evaluate, train

TRAIN = "--dataset data --base base --method lora"
EVALUATE = "--dataset data --model model --base base"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/train.jsonl", "data/heldout.jsonl", "base/config.json", "model/adapter.json", "set.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}", "utf-8")
    (tmp_path / "linked.jsonl").hardlink_to(tmp_path / "data/train.jsonl")


@pytest.mark.parametrize(
    ("recipe", "arguments", "options"),
    [
        (train, f"{TRAIN} --out out --progress data/train.jsonl", ("--progress", "--dataset")),
        (train, f"{TRAIN} --out out --progress linked.jsonl", ("--progress", "--dataset")),
        (train, f"{TRAIN} --out out --progress base/config.json", ("--progress", "--base")),
        (train, f"{TRAIN} --out out --progress set.json --config set.json", ("--progress", "--config")),
        (train, f"{TRAIN} --out out --progress model/adapter.json --teacher model", ("--progress", "--teacher")),
        (train, f"{TRAIN} --out out --progress out/progress.json", ("--progress", "--out")),
        (train, f"{TRAIN} --out out --checkpoints out", ("--checkpoints", "--out")),
        (train, f"{TRAIN} --out out --checkpoints out/checkpoints", ("--checkpoints", "--out")),
        (train, f"{TRAIN} --out data", ("--out", "--dataset")),
        (train, f"{TRAIN} --out ./base", ("--out", "--base")),
        (evaluate, f"{EVALUATE} --out data/heldout.jsonl", ("--out", "--dataset")),
        (evaluate, f"{EVALUATE} --out model/evaluation.json", ("--out", "--model")),
        (evaluate, f"{EVALUATE} --out base/config.json", ("--out", "--base")),
    ],
)
def test_an_output_on_an_input_ends_the_command(place, capsys, recipe, arguments, options):
    with pytest.raises(SystemExit) as ended:
        recipe.parse_arguments(arguments.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert all(option in line for option in options)


@pytest.mark.parametrize(
    ("recipe", "arguments"),
    [
        (train, f"{TRAIN} --out out"),
        (train, f"{TRAIN} --out data/adapter --progress out.json --config {{}}"),
        (train, "--dataset data --base acme/small --out acme/small"),
        (train, f"{TRAIN} --out out --checkpoints kept --progress kept/progress.json"),
        (evaluate, f"{EVALUATE} --out data/evaluation.json"),
    ],
)
def test_outputs_beside_the_inputs_are_taken(place, recipe, arguments):
    assert recipe.parse_arguments(arguments.split()).out
