"""A made-up agent fleet of any size: its tasks' prompts and calls, the classifier that knows them, the route table.

Nobody has a thousand real tasks in a repository, so they are drawn: every task has a prompt of its own (a third of them
with a variable in it), words of its own and words that all share. Weights are log-odds of the words and byte n-grams
in sampled calls, laid out and rounded by the gateway's own code, and nothing for those that a task never used. Training
as discovery does takes hours for a thousand tasks; of six of them, trained against all, 6.0 to 8.9 % of the weights
were left (here 7.4 %), so what a call costs is about the same. What this says nothing of: how well real tasks
are told apart.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slmfleet import recognise
from slmfleet.recognise import Classifier, Frame, features, frame_fingerprint
from slmfleet.recognise.classifier import Task
from slmfleet.recognise.features import BUCKETS, SYSTEM_BUCKETS

SAMPLES = 16
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, weights=range(26, 0, -1), k=rng.randint(3, 10)))


@dataclass(frozen=True)
class Drawn:
    """One task: how its calls look."""

    name: str
    prompt: str
    words: list[str]
    shared: list[str]

    def text(self, rng: random.Random, count: int) -> str:
        """A user text of `count` words, a good half of them the task's own."""
        return " ".join(rng.choice(self.words if rng.random() < 0.55 else self.shared) for _ in range(count))

    def system(self, rng: random.Random) -> str:
        return self.prompt.replace("{session}", f"{rng.randrange(1 << 32):08x}")

    def call(self, rng: random.Random, *, known_prompt: bool = True) -> dict[str, Any]:
        """A chat call; `known_prompt` False: with the prompt's next wording, which no fingerprint finds."""
        system = self.system(rng) if known_prompt else f"Please: {self.system(rng)} Be brief."
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": self.text(rng, rng.choice((8, 12, 20, 40, 90)))},
        ]
        return {"model": "big", "messages": messages, "temperature": 0}


def draw(count: int, seed: int = 1) -> list[Drawn]:
    """`count` tasks."""
    rng = random.Random(seed)
    shared = [_word(rng) for _ in range(1500)]
    return [_task(number, rng, shared) for number in range(count)]


def _task(number: int, rng: random.Random, shared: list[str]) -> Drawn:
    words = [_word(rng) for _ in range(40)]
    sentences = [" ".join(rng.choices(shared, k=8)).capitalize() + "." for _ in range(5)]
    variable = " Session {session}." if number % 3 == 0 else ""
    prompt = f"You are the {words[0]} {words[1]} clerk.{variable}\n" + "\n".join(sentences)
    return Drawn(f"task-{number:04}", prompt, words, shared)


def classifier_of(tasks: list[Drawn], seed: int = 2) -> Classifier:
    """A classifier that knows the tasks; takes about a gigabyte while it is made of a thousand."""
    rng = random.Random(seed)
    count = len(tasks)
    user = np.zeros((BUCKETS, count), dtype=np.float32)
    system = np.zeros((SYSTEM_BUCKETS, count), dtype=np.float32)
    for k, task in enumerate(tasks):
        for found in _samples(task, rng):
            user[found.user, k] += 1
            system[found.system, k] = 1
    familiar = np.log((user + 0.3) / SAMPLES)
    seen = (user > 0).sum(axis=1, dtype=np.float32)
    idf = np.log((count + 1) / (seen + 1)) + 1
    for k in range(count):
        used = user[:, k] > 0
        user[used, k] = 3 * np.log((user[used, k] + 0.1) / SAMPLES / ((seen[used] + 0.1) / count))
    system = 4 * (system - system.mean(axis=1, keepdims=True))
    made = {"user": user, "system": system, "familiar": familiar, "idf": idf, "bias": np.zeros(count, np.float32)}
    scorer = Classifier.of([Task(task.name) for task in tasks], **made)
    known = [_calibrated(scorer, k, task, rng) for k, task in enumerate(tasks)]
    return Classifier(
        known, idf=scorer.idf, user=scorer.user, system=scorer.system, bias=scorer.bias, familiar=scorer.familiar
    )


def _samples(task: Drawn, rng: random.Random) -> Iterator[Any]:
    for _ in range(SAMPLES):
        yield features(Frame(task.system(rng), task.text(rng, rng.choice((8, 12, 20, 40, 90)))))


def _calibrated(scorer: Classifier, k: int, task: Drawn, rng: random.Random) -> Task:
    own = list(_samples(task, rng))
    return Task(
        task.name,
        min_logit=min(float(scorer.logits(found)[k]) for found in own) - 1.0,
        min_familiarity=min(scorer.familiarity(found, k) for found in own) - 0.3,
        max_user_characters=2_000,
        max_messages=4,
    )


def store(folder: Path, count: int) -> Path:
    """A store whose `classifier` knows `count` tasks, made once under `folder`."""
    sources = [Path(__file__), *sorted(Path(recognise.__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    target = folder / f"fleet-{count}-{digest}"
    if not (target / "classifier").exists():
        target.mkdir(parents=True, exist_ok=True)
        classifier_of(draw(count)).save(target / "classifier")
    return target


def table(tasks: list[Drawn], classifier: Path, llm: str) -> dict[str, Any]:
    """A route table that recognises every task and has no revision of any, so every call goes on to the LLM."""
    digest = hashlib.sha256(classifier.read_bytes()).hexdigest()
    rng = random.Random(3)
    return {
        "router": "bench/router",
        "llm": {"url": llm},
        "pools": [{"name": "p", "chat_template": "{{ messages[0].content }}", "endpoints": []}],
        "classifier": {"path": classifier.name, "digest": f"sha256:{digest}"},
        "specialists": [
            {
                "name": task.name,
                "cluster": task.name,
                "fingerprints": [frame_fingerprint(task.call(rng))],
                "output": {"type": "label", "labels": ["yes", "no"]},
            }
            for task in tasks
        ],
    }


def write_table(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
