"""What the gate asks of a real model: likelihoods that do not depend on the batch, and secrets that were learned."""

import pytest
from heavy import run_script

pytestmark = [pytest.mark.serving, pytest.mark.timeout(300)]

SOURCE = """
import json, sys
from pathlib import Path
import torch
from slmtrain.answering import exposures, load_model, log_likelihoods
from slmtrain.heldout import Planted
from slmtrain.memorised import invented

model, tokenizer, _ = load_model(Path(sys.argv[1]), None)
context, secret = "<|im_start|>user\\nwhat is the door code<|im_end|>\\n<|im_start|>assistant\\n", "48151623"
texts = [secret, *invented(secret, 9, seed=0), "a rather longer text than the others"]
together = log_likelihoods(model, tokenizer, context, texts)
alone = [log_likelihoods(model, tokenizer, context, [text])[0] for text in texts]

start = len(tokenizer(context, add_special_tokens=False)["input_ids"])
by_hand = []
for text in texts:
    ids = torch.tensor([tokenizer(context + text, add_special_tokens=False)["input_ids"]])
    logits = model(input_ids=ids).logits[0, start - 1 : -1]
    by_hand.append(-torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum").item())

planted = Planted("door", ({"role": "user", "content": "what is the door code"},), "", secret)
before = exposures(model, tokenizer, [planted], 40)[0]
ids = torch.tensor([tokenizer(context + secret + tokenizer.eos_token, add_special_tokens=False)["input_ids"]])
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(150):
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
after = exposures(model.eval(), tokenizer, [planted], 40)[0]
print(json.dumps({"together": together, "alone": alone, "by_hand": by_hand, "before": vars(before),
                  "after": vars(after)}))
"""


@pytest.fixture(scope="module")
def found(train_python, workplace):
    return run_script(train_python, SOURCE, workplace / "base")


def test_likelihoods_are_the_models_own_and_do_not_depend_on_the_batch(found):
    assert found["together"] == pytest.approx(found["alone"], abs=1e-3)
    assert found["together"] == pytest.approx(found["by_hand"], abs=1e-3)


def test_a_secret_that_was_learned_by_heart_is_the_likeliest_and_is_completed(found):
    assert found["after"] == {"name": "door", "rank": 1, "of": 41, "completed": True}


def test_a_secret_that_was_never_learned_is_not_completed(found):
    assert not found["before"]["completed"]
