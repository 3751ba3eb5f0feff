"""Two weeks of an agent's calls, for `make demo-again`: in the second a task has drifted and another one is new.

Week 1 has the voice assistant with five of SNIPS' intents, and other traffic. In week 2 its users ask for two more
intents under the very same prompt, half of its calls, and a bank's support desk has gone live. What was never sent
before is kept for the rollouts (one round each) and for a last round, on which nothing has learned.

The base model's text is that of the earlier calls of both weeks: it must know the words of a task to learn it later.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo import traffic
from demo.traffic import Conversation, Traffic, draw_for

NEW_INTENTS = ("SearchCreativeWork", "SearchScreeningEvent")
SETTING = "own"
WEEK1, WEEK2 = ("train", 1), ("train", 2)
ROLLOUT1, ROLLOUT2, LAST = ("later", 1), ("later", 2), ("later", 3)
PARTS = (WEEK1, ROLLOUT1, WEEK2, ROLLOUT2, LAST)
KNOWN = {WEEK1: 3000, ROLLOUT1: 500, WEEK2: 1000, ROLLOUT2: 300, LAST: 300}  # calls of the five intents
ADDED = {WEEK2: 1000, ROLLOUT2: 250, LAST: 300}  # of the two
BANKING = {WEEK2: 4000, ROLLOUT2: 500, LAST: 500}
# The gate of a retrained Specialist judges on the latest tenth of what the LLM answered in both weeks: of the voice
# task that is about the second half of week 2.
BASE_LEARNS = {(*WEEK2, "snips"): 0.4}
OTHER = {WEEK1: 600, ROLLOUT1: 60, WEEK2: 200, ROLLOUT2: 60, LAST: 100}

Part = tuple[str, int]


def phases(seed: int) -> list[tuple[str, int, list[Conversation]]]:
    """(phase, round, its conversations), in the order in which they are sent."""
    parts: dict[Part, list[Conversation]] = {part: [] for part in PARTS}
    voice = list(traffic.labelled("snips"))
    draw_for(seed, "snips", "order").shuffle(voice)
    known = [row for row in voice if row[1] not in NEW_INTENTS]
    added = [row for row in voice if row[1] in NEW_INTENTS]
    bank = list(traffic.labelled("banking77"))
    draw_for(seed, "banking", "order").shuffle(bank)
    taken = {"known": 0, "added": 0, "bank": 0}

    def take(name: str, rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
        start = taken[name]
        taken[name] += count
        return rows[start : start + count]

    for part in PARTS:
        rows = take("known", known, KNOWN[part]) + take("added", added, ADDED.get(part, 0))
        draw_for(seed, "mix", *part).shuffle(rows)
        parts[part] += narrow("snips", rows, seed, part)
        parts[part] += narrow("banking", take("bank", bank, BANKING.get(part, 0)), seed, part)
        parts[part] += others(seed, part)
    return [(phase, number, parts[phase, number]) for phase, number in PARTS]


def narrow(task: str, rows: list[tuple[str, str]], seed: int, part: Part) -> Iterator[Conversation]:
    """Calls of one task, with the stated share of wrong answers among the labels that there are by then."""
    if not rows:
        return
    wrong = traffic.WRONG_SHARE[task]
    labels = traffic.recorded_labels(rows, wrong, traffic.word_counts(rows), draw_for(seed, task, "wrong", *part))
    yield from traffic.narrow(task, rows, labels, SETTING, draw_for(seed, task, "turns", *part))


def others(seed: int, part: Part) -> list[Conversation]:
    """Traffic that no specialist should take: its own groups of conversations for each phase."""
    chosen: list[Conversation] = []
    for task, conversations in (("metagpt", list(traffic.metagpt())), ("agbenchmark", list(traffic.agbenchmark()))):
        draw: random.Random = draw_for(seed, "other", task)
        draw.shuffle(conversations)
        train, later = traffic.split_other(conversations, draw)
        side = train if part[0] == "train" else later
        draw_for(seed, "other", task, *part).shuffle(side)
        chosen += traffic.first_calls(side, min(traffic.count(side), OTHER[part] // 2))
    return chosen


def build(seed: int) -> Traffic:
    """Both weeks."""
    return traffic.assembled(phases(seed), seed, time_shares=BASE_LEARNS)


def write(out: Path, seed: int) -> dict[str, Any]:
    """Make it and write it; returns the manifest."""
    return traffic.write_files(out, build(seed), {"size": "weeks", "system_prompt": SETTING, "seed": seed})
