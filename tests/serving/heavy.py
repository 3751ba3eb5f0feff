"""The heavy environments, run as subprocesses: pytest itself needs neither torch nor Triton."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python_of(variable):
    """The interpreter of a heavy environment. Missing is a failure, not a skip: what is not run proves nothing."""
    path = os.environ.get(variable)
    if not path or not Path(path).exists():
        pytest.fail(f"{variable} must name the python of that environment (see trainers/README.md); it is {path!r}")
    return path


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES")}
    return {**kept, "PYTHONPATH": f"{ROOT / 'trainers'}:{ROOT / 'operator'}", "OMP_WAIT_POLICY": "passive", **more}


def run_script(python, source, *arguments, seconds=240):
    """Run a piece of Python in a heavy environment; returns what it printed last, as JSON where it is that."""
    done = subprocess.run(
        [python, "-c", source, *map(str, arguments)], capture_output=True, text=True, timeout=seconds, env=environment()
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(true, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


MAKE_MODELS = '''
"""Two tiny random bases, LoRA adapters on the first with weights that matter, and peft's own greedy answers."""
import json, sys
from pathlib import Path
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from slmtrain.files import artifact_digest, base_digest, readable_by_all, write_json
from slmtrain.pretrain import Recipe, build_model, train_tokenizer

out, prompts = Path(sys.argv[1]), json.loads(sys.argv[2])
text = [({"role": "user", "content": f"turn {i} the light on in room {i * 7}"},
         {"role": "assistant", "content": json.dumps({"intent": f"Light{i % 5}"})}) for i in range(200)]
recipe = Recipe(seed=1, steps=1, hidden=64, layers=2, heads=4, vocab=512, context=128, window=64, long_share=1.0,
                tokens_per_step=512, learning_rate=1e-3, matrix_rate=1e-2, weight_decay=0.0, prompt_weight=0.3,
                threads=1)
tokenizer = train_tokenizer(text, recipe.vocab, recipe.context)
for seed, name in ((1, "base"), (2, "other-base")):
    torch.manual_seed(seed)
    model = build_model(recipe, tokenizer)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(out / name)
    tokenizer.save_pretrained(out / name, save_jinja_files=False)

def adapter(name, base, seed, rank=8, **options):
    torch.manual_seed(seed)
    loaded = AutoModelForCausalLM.from_pretrained(out / base)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    peft = get_peft_model(loaded, lora)
    for key, parameter in peft.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    peft.save_pretrained(out / name)
    write_json(out / name / "slmtrain.json", {"base_digest": base_digest(out / base)})
    readable_by_all(out / name)
    return artifact_digest(out / name)

def greedy(name):
    model = AutoModelForCausalLM.from_pretrained(out / "base")
    if name:
        model = PeftModel.from_pretrained(model, out / name)
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        made = model.generate(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"], max_new_tokens=24,
                              do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers.append(tokenizer.decode(made[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
    return answers

digests = {"one": adapter("one", "base", 11), "two": adapter("two", "base", 12, rank=4),
           "wrong": adapter("wrong", "other-base", 13), "dora": adapter("dora", "base", 14, use_dora=True),
           "wide": adapter("wide", "base", 15, rank=32)}
damaged = out / "damaged"
damaged.mkdir()
(damaged / "adapter_config.json").write_bytes((out / "one" / "adapter_config.json").read_bytes())
(damaged / "adapter_model.safetensors").write_bytes((out / "one" / "adapter_model.safetensors").read_bytes()[:-100])
print(json.dumps({"digests": digests, "answers": {name or "base": greedy(name) for name in ("", "one", "two")}}))
'''
