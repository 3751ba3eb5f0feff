"""An adapter extracted from a training that changed whole layers is what was trained, cut to the rank, and no more.

On a tiny random model, without Ray; that it trains, is judged and outlives a kill is in test_training_recipes.
"""

import pytest
from heavy import run_script

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]

ALGEBRA = """
import json, torch
from slmtrain import extraction
from slmtrain.errors import Refused
torch.manual_seed(0)
answer = {}

def of_rank(rank, out, into):
    return torch.randn(out, rank) @ torch.randn(rank, into)

def both(change, rank, exact=512):
    extraction.EXACT = exact
    a, b = extraction.truncated(change, rank)
    return a, b, float(1 - extraction.energy(change - b @ a) / extraction.energy(change))

shapes = [(24, 80), (80, 24), (40, 40)]
answer["exact"] = [[both(of_rank(3, *shape), rank)[2] for shape in shapes] for rank in (3, 5)]
low = of_rank(3, 96, 80)
answer["randomised, exact"] = both(low, 3, exact=0)[2]
slow = torch.randn(96, 96) @ torch.diag(torch.arange(1, 97).float() ** -0.6) @ torch.randn(96, 160)
best = (torch.linalg.svdvals(slow).double() ** 2)
answer["best"] = [float(best[:r].sum() / best.sum()) for r in (1, 2, 4, 8, 16)]
answer["by rank"] = [both(slow, r)[2] for r in (1, 2, 4, 8, 16)]
answer["by rank, randomised"] = [both(slow, r, exact=0)[2] for r in (1, 2, 4, 8, 16)]
again = [both(slow, 8, exact=0) for seed in (1, 2) if torch.manual_seed(seed)]
answer["repeated"] = bool(torch.equal(again[0][0], again[1][0]) and torch.equal(again[0][1], again[1][1]))
torch.manual_seed(9)
expected = torch.randn(3)
torch.manual_seed(9)
both(slow, 8, exact=0)
answer["others' randomness"] = bool(torch.equal(torch.randn(3), expected))

a, b, share = both(torch.randn(6, 90), 16)
answer["wide"] = [list(a.shape), list(b.shape), share, bool((a[6:] == 0).all() and (b[:, 6:] == 0).all())]
told = []
factors, kept = extraction.extract([("one", low), ("still", torch.zeros(12, 10)), ("two", slow)], 3, told.append)
answer["kept"] = [vars(kept), both(slow, 3)[2], extraction.energy(low), extraction.energy(slow)]
answer["still"] = bool((factors["still"][0] == 0).all() and (factors["still"][1] == 0).all())
answer["told"] = told
answer["nothing"] = vars(extraction.extract([("still", torch.zeros(12, 10))], 3, told.append)[1])
low[2, 5] = float("nan")
try:
    extraction.extract([("one", low)], 3, told.append)
except Refused as error:
    answer["no number"] = [error.reason, error.message]
print(json.dumps(answer))
"""

ADAPTERS = """
import json, sys, torch
from dataclasses import replace
from pathlib import Path
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from slmtrain import extraction, worker
from slmtrain.errors import Refused
from slmtrain.files import artifact_digest, base_digest, write_json
from slmtrain.job import Config, Job
from slmtrain.recipes import RECIPES, full
sys.path.insert(0, sys.argv[3])
from engine.adapters import AdapterBank
made, out = Path(sys.argv[1]), Path(sys.argv[2])
ids = torch.arange(8, 40)[None]
answer = {}

def logits(model):
    with torch.no_grad():
        return model.eval()(ids).logits

def base():
    return AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)

def job(method, folder, **config):
    (out / folder).mkdir()
    return Job("", str(made), method, str(out / folder), "", "", 0, Config(dropout=0.0, **config), extract_adapter=True)

def differ(one, other):
    return float((one - other).abs().max())

def train(method, folder, change, **config):  # `change` stands for the steps; returns job, model, tokenizer, kept
    wanted = job(method, folder, **config)
    tokenizer, model, _ = worker.load(wanted)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                change(name, parameter)
    trained = logits(model)
    kept = extraction.write(RECIPES[method], wanted, model, tokenizer, lambda note: None)
    write_json(out / folder / "slmtrain.json", {"base_digest": base_digest(made)})
    return wanted, model, trained, kept

def served(folder, rank):  # by the pool's own layers: (logits, layers that have the adapter)
    model = base()
    bank = AdapterBank(model, 2, rank, base_digest(made))
    prepared = bank.prepare("a", str(out / folder), artifact_digest(out / folder))
    bank.place(prepared)
    bank.chosen.choose([bank.named["a"].slot], torch.device("cpu"))
    return logits(model), len(prepared.matrices)

def low(name, parameter):
    parameter += 0.1 * torch.randn(parameter.shape[0], 3) @ torch.randn(3, parameter.shape[1])

def any_rank(name, parameter):
    parameter += 0.05 * torch.randn_like(parameter)

plain = logits(base())
lora = replace(job("lora", "lora", rank=4, alpha=4), extract_adapter=False)
tokenizer, model, _ = worker.load(lora)
RECIPES["lora"].save(model, tokenizer, out / "lora")
_, model, trained, kept = train("full", "full", low, rank=4)
by_peft = logits(PeftModel.from_pretrained(base(), out / "full"))
by_pool, layers = served("full", 4)
settings = json.loads((out / "full" / "adapter_config.json").read_text())
answer["lora"] = json.loads((out / "lora" / "adapter_config.json").read_text())
answer["full"] = {"kept": kept, "peft": differ(by_peft, trained), "pool": differ(by_pool, trained), "layers": layers,
                  "moved": differ(trained, plain), "settings": settings,
                  "files": sorted(p.name for p in (out / "full").iterdir()),
                  "sizes": full.sizes(job("full", "sizes")), "parameters": sum(p.numel() for p in base().parameters()),
                  "frozen": sorted({n.split(".")[-2] for n, p in model.named_parameters() if not p.requires_grad})}

wanted, model, trained, kept = train("full", "cut", any_rank, rank=4)
changed = base()
with torch.no_grad():
    for name, layer in extraction.targeted(full.outline(wanted)).items():
        weight = changed.get_submodule(name).weight
        u, s, v = torch.linalg.svd(model.get_submodule(name).weight - weight, full_matrices=False)
        weight += u[:, :4] @ torch.diag(s[:4]) @ v[:4]
by_peft = logits(PeftModel.from_pretrained(base(), out / "cut"))
answer["cut"] = {"kept": kept, "peft": differ(by_peft, logits(changed)), "away": differ(by_peft, trained)}

def dora(name, parameter):
    if "lora_B" in name:
        parameter.normal_(std=0.05)
    if "magnitude" in name:
        parameter *= 1 + 0.1 * torch.rand_like(parameter)

shares = {}
for rank in (2, 8, 64):
    _, model, trained, kept = train("dora", f"dora{rank}", dora, rank=rank)
    by_peft = logits(PeftModel.from_pretrained(base(), out / f"dora{rank}"))
    shares[rank] = [kept["kept_share"], differ(by_peft, trained), differ(trained, logits(base()))]
    unchanged = differ(logits(model), trained)
answer["dora"] = {"shares": shares, "unchanged": unchanged,
                  "settings": json.loads((out / "dora64" / "adapter_config.json").read_text())}

half = job("dora", "half", rank=64, dtype="bfloat16")
_, model, _ = worker.load(half)
torch.manual_seed(3)
with torch.no_grad():
    [p.mul_(1 + 1e-3) for n, p in model.named_parameters() if "magnitude" in n]
(name, layer), *_ = extraction.targeted(model).items()
change = RECIPES["dora"].change_of(layer)
weight = layer.get_base_layer().weight
expected = 1e-3 * weight.float()
answer["half"] = [str(weight.dtype), str(change.dtype), float((change - expected).norm() / expected.norm())]

digests = []
for folder in ("first", "second"):
    train("full", folder, any_rank, rank=4)
    digests.append(artifact_digest(out / folder))
answer["digests"] = digests
refused = {}
for modules in (["embed_tokens"], ["q_proj", "lm_head"]):
    for method in ("full", "dora"):
        try:
            worker.load(job(method, f"{method}-{modules[-1]}", target_modules=modules))
        except Refused as error:
            refused[f"{method} {modules[-1]}"] = [error.reason, error.message]
answer["refused"] = refused
huge = json.loads((made / "config.json").read_text()) | {
    "hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 400, "head_dim": 128,
    "num_attention_heads": 128, "num_key_value_heads": 128,
}
(out / "huge").mkdir()
write_json(out / "huge" / "config.json", huge)
try:
    worker.refuse_what_cannot_fit(replace(job("full", "never"), base=str(out / "huge")), 2)
except Refused as error:
    answer["huge"] = [error.reason, error.message]
worker.refuse_what_cannot_fit(job("full", "fits"), 2)
some = job("full", "some", target_modules=["q_proj", "v_proj"])
_, model, _ = worker.load(some)
answer["some"] = sorted({n.split(".")[-2] for n, p in model.named_parameters() if p.requires_grad})
print(json.dumps(answer))
"""

MAKE_BASE = """
import sys, torch
from slmtrain.pretrain import Recipe, build_model, train_tokenizer
text = [({"role": "user", "content": f"turn {i} the light on in room {i * 7}"},
         {"role": "assistant", "content": '{"intent":"Light"}'}) for i in range(200)]
recipe = Recipe(seed=1, steps=1, hidden=64, layers=2, heads=4, vocab=512, context=128, window=64, long_share=1.0,
                tokens_per_step=512, learning_rate=1e-3, matrix_rate=1e-2, weight_decay=0.0, prompt_weight=0.3,
                threads=1)
tokenizer = train_tokenizer(text, recipe.vocab, recipe.context)
torch.manual_seed(1)
model = build_model(recipe, tokenizer)
model.save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1], save_jinja_files=False)
print("{}")
"""


@pytest.fixture(scope="module")
def algebra(train_python):
    return run_script(train_python, ALGEBRA)


@pytest.fixture(scope="module")
def made(train_python, tmp_path_factory, request):
    base, out = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("adapters")
    run_script(train_python, MAKE_BASE, base)
    return run_script(train_python, ADAPTERS, base, out, request.config.rootpath / "runtime")


def test_a_change_of_no_more_than_the_rank_is_kept_whole(algebra):
    assert all(share == pytest.approx(1, abs=1e-9) for row in algebra["exact"] for share in row)
    assert algebra["randomised, exact"] == pytest.approx(1, abs=1e-9)


def test_more_rank_keeps_more_and_as_much_as_can_be_kept(algebra):
    assert algebra["by rank"] == sorted(set(algebra["by rank"]))
    assert algebra["by rank"] == pytest.approx(algebra["best"], abs=1e-5)
    assert algebra["by rank, randomised"] == pytest.approx(algebra["best"], rel=0.01)


def test_the_randomised_decomposition_repeats_and_leaves_the_randomness_of_others_alone(algebra):
    assert algebra["repeated"] is True
    assert algebra["others' randomness"] is True


def test_a_layer_narrower_than_the_rank_is_filled_with_zeros(algebra):
    assert algebra["wide"] == [[16, 90], [6, 16], pytest.approx(1, abs=1e-9), True]


def test_a_layer_that_did_not_change_gets_an_adapter_of_zeros_and_counts_for_nothing(algebra):
    kept, share, one, two = algebra["kept"]
    assert algebra["still"] is True
    assert kept["kept_share"] == pytest.approx((one + share * two) / (one + two), abs=1e-5)
    assert (kept["least_kept_layer"], kept["layers"], kept["rank"]) == ("two", 3, 3)
    assert kept["least_kept_share"] == pytest.approx(share, abs=1e-5)
    assert algebra["told"][:3] == ["extracting layer 1", "extracting layer 2", "extracting layer 3"]


def test_where_nothing_changed_nothing_is_lost(algebra):
    nothing = algebra["nothing"]
    assert (nothing["kept_share"], nothing["least_kept_share"], nothing["least_kept_layer"]) == (1, 1, None)


def test_weights_that_are_no_numbers_are_refused_by_layer(algebra):
    assert algebra["no number"] == [
        "Diverged", "one has weights that are no numbers after training; lower learning_rate"
    ]  # fmt: skip


def test_an_adapter_of_a_full_training_of_low_rank_answers_as_the_trained_model(made):
    """By peft and by the pool's own layers; the model itself moved."""
    full = made["full"]
    assert full["peft"] < 1e-3 < 0.1 < full["moved"]
    assert full["pool"] < 1e-3
    assert full["kept"]["kept_share"] == pytest.approx(1, abs=1e-6)


def test_full_fine_tuning_for_an_adapter_trains_only_what_the_adapter_can_hold(made):
    full = made["full"]
    assert full["frozen"] == ["embed_tokens", "input_layernorm", "norm", "post_attention_layernorm"]
    assert full["sizes"] == [full["parameters"], full["kept"]["trained_parameters"]]
    assert full["layers"] == full["kept"]["layers"] == 14
    assert made["some"] == ["q_proj", "v_proj"]


def test_an_extracted_adapter_is_a_lora_of_scale_one(made):
    """Beside one that our LoRA recipe wrote."""
    assert made["full"]["settings"] == made["lora"]
    assert made["dora"]["settings"] == {**made["lora"], "r": 64, "lora_alpha": 64}
    assert (made["lora"]["r"], made["lora"]["lora_alpha"], made["lora"]["use_dora"]) == (4, 4, False)
    assert made["full"]["files"] == [
        "adapter_config.json", "adapter_model.safetensors", "chat_template.json", "slmtrain.json",
    ]  # fmt: skip


def test_an_adapter_of_any_full_training_is_the_base_with_the_nearest_change_of_its_rank(made):
    cut = made["cut"]
    assert cut["peft"] < 1e-3 < 0.1 < cut["away"]
    assert 0.05 < cut["kept"]["least_kept_share"] <= cut["kept"]["kept_share"] < 0.6


def test_a_dora_is_extracted_from_its_merged_layers(made):
    shares = {int(rank): row for rank, row in made["dora"]["shares"].items()}
    assert shares[2][0] < shares[8][0] < shares[64][0] == pytest.approx(1, abs=1e-5)
    assert shares[64][1] < 1e-3 < 0.1 < shares[64][2], "of full rank nothing is cut"
    assert shares[2][1] > 1e-3
    assert made["dora"]["unchanged"] < 1e-4, "extraction leaves the model as it was"


def test_a_dora_in_bfloat16_is_extracted_in_float32(made):
    """A change of a thousandth would drown in the rounding of bfloat16."""
    weight, change, error = made["half"]
    assert (weight, change) == ("torch.bfloat16", "torch.float32")
    assert error < 0.1


def test_the_same_training_gives_the_same_adapter(made):
    first, second = made["digests"]
    assert first == second


def test_full_fine_tuning_of_a_base_that_no_machine_holds_is_refused_before_a_weight_is_read(made):
    """It has none: its config alone says how many there would be."""
    reason, message = made["huge"]
    assert reason == "TooLarge"
    assert "1,718,008,4" in message and "by 2 workers needs" in message and "take a smaller base" in message


def test_what_no_pool_serves_is_refused_before_training(made):
    assert sorted(made["refused"]) == ["dora embed_tokens", "dora lm_head", "full embed_tokens", "full lm_head"]
    for what, (reason, message) in made["refused"].items():
        assert reason == "CannotExtract"
        assert what.split()[1] in message and "all-linear" in message
