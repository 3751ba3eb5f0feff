"""Small generated logs: two narrow tasks in two registers, and broad calls. Seeded, no data set behind them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from slmfleet.curation.sources import Log
from slmfleet.wire.records import UsageRecord

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
HOME = {
    "light_on": "turn on the {x} light|switch on the lamp in the {x}|lights on in the {x} now",
    "light_off": "turn off the {x} light|switch off the lamp in the {x}|lights off in the {x} now",
    "heat_up": "make the {x} warmer by {n}|set the {x} to {n} degrees|heat the {x} to {n}",
    "blind_down": "close the blinds in the {x}|put down the shutters of the {x}|lower the {x} blinds by {n}",
    "radio_play": "play the news in the {x}|start the radio in the {x}|put on station {n} in the {x}",
    "timer_set": "set a timer for {n} minutes in the {x}|start a {n} minute timer|wake the {x} in {n} minutes",
    "camera_show": "show the camera of the {x}|let me see the {x} on screen {n}|stream the {x} camera",
    "door_lock": "lock the {x} door|bolt the door of the {x}|secure the {x} door in {n} minutes",
}
SHOP = {
    "Where_is_it": "I ordered a {y} {n} days ago, where is it?|My {y} is late, can you check?",
    "Refund": "I'm not happy with my {y}. Could I get my money back?|Why haven't I got my refund for the {y} yet?",
    "Exchange": "Hello, I'd like to swap my {y} for a bigger one, please.|Is it possible that I exchange the {y}?",
    "Broken": "My {y} arrived and it's broken! What should I do?|The {y} I bought stopped working after {n} days.",
    "Address": "I've moved, so how do I change where you send my {y}?|Can you send my {y} to my office instead?",
    "Cancel": "I think I made a mistake, I don't want the {y} any more.|Can I still cancel my {y}, please?",
    "Invoice": "I need an invoice for the {y} that I bought, please.|Could you send me the receipt for my {y}?",
    "Voucher": "I've got a voucher of {n} euros, but it fails for my {y}.|Why doesn't my code work on the {y}?",
}
ROOMS = ["kitchen", "hall", "bedroom", "cellar", "garage", "office", "attic", "bath"]
GOODS = ["jacket", "kettle", "desk", "backpack", "blender", "carpet", "tent", "watch"]


def utterance(forms: dict[str, str], label: str, rng: random.Random) -> str:
    form = rng.choice(forms[label].split("|"))
    return form.format(x=rng.choice(ROOMS), y=rng.choice(GOODS), n=rng.randrange(2, 60))


def record(number: int, messages: list[dict[str, Any]], answer: str, **fields: Any) -> dict[str, Any]:
    given = {
        "id": f"r{number:05d}",
        "time": (START + timedelta(seconds=7 * number)).isoformat(),
        "conversation": f"c{number // 3:05d}",
        "tier": "llm",
        "request": {"model": "big", "messages": messages},
        "response": {
            "model": "big",
            "choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
        },
    }
    return given | fields


def mixed(count: int = 120, *, system: str | None = None, seed: int = 0, broad: int = 60) -> tuple[Log, dict[str, Any]]:
    """`count` calls of each task and `broad` free ones; the truth beside them."""
    rng = random.Random(seed)
    kinds = ["home"] * count + ["shop"] * count + [None] * broad
    rng.shuffle(kinds)
    lines, truth = [], {}
    for number, kind in enumerate(kinds):
        if kind is None:
            text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(80, 160)))
            answer = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(60, 120)))
        else:
            forms = HOME if kind == "home" else SHOP
            label = rng.choice(sorted(forms))
            text, answer = utterance(forms, label, rng), json.dumps({"intent": label})
        messages = [{"role": "system", "content": system}] if system and kind else []
        lines.append(record(number, [*messages, {"role": "user", "content": text}], answer))
        truth[f"r{number:05d}"] = kind
    return log_of(lines), truth


def log_of(lines: list[dict[str, Any]]) -> Log:
    return Log(records=[UsageRecord.model_validate(x) for x in lines], digest="sha256:" + "0" * 64)


_WORDS = (
    "architecture component design review module schema pipeline requirement competitor analysis draft paragraph "
    "outline summary section argument evidence method result table figure appendix server client protocol latency "
    "thread queue plan step goal tool observation thought action final write explain compare improve refactor "
    "document"
)
WORDS = _WORDS.split()


def lines_of(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(r) + "\n" for r in records)
