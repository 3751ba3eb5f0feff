"""The system prompts of the two narrow agent calls, in the four ways that agents in the field would write them.

`own`: each task has its own. `shared`: both have the same. `none`: there is none. `reworded`: every conversation takes
one of several wordings, as prompts that are edited from release to release do. Finding tasks by comparing these strings
works for the first only.
"""

from __future__ import annotations

import random

SETTINGS = ("own", "shared", "none", "reworded")

_OWN = {
    "snips": 'Name the intent of the voice command. Answer with strict JSON: {"intent": NAME}',
    "banking": 'Name the topic of the bank customer\'s question. Answer with strict JSON: {"intent": NAME}',
}
_SHARED = 'Classify the user\'s message. Answer with strict JSON: {"intent": NAME}'
_REWORDED = {
    "snips": (
        _OWN["snips"],
        'You are the front door of a voice assistant. Which intent does this command have? Reply as {"intent": NAME}.',
        'Decide what the speaker wants the assistant to do and return only JSON of the form {"intent": NAME}',
        'Intent detection for spoken requests. Output: one JSON object, {"intent": NAME}, nothing else.',
        'Map the utterance below to one of the assistant\'s skills. JSON only: {"intent": NAME}',
        'What skill should handle this request? Respond in JSON, e.g. {"intent": NAME}',
    ),
    "banking": (
        _OWN["banking"],
        'You triage messages for a bank\'s support desk. Reply with the topic as {"intent": NAME}.',
        'Read what the customer of the bank asks and give its category. Return only JSON: {"intent": NAME}',
        'Support ticket routing, retail banking. Output: one JSON object, {"intent": NAME}, nothing else.',
        'Which help page would answer this customer? JSON only: {"intent": NAME}',
        'Sort the account holder\'s message into its topic. Respond in JSON, e.g. {"intent": NAME}',
    ),
}


def system_prompt(setting: str, task: str, draw: random.Random) -> str | None:
    """The system prompt of one conversation; the draw matters for `reworded` only."""
    if setting == "own":
        return _OWN[task]
    if setting == "shared":
        return _SHARED
    if setting == "none":
        return None
    if setting == "reworded":
        return draw.choice(_REWORDED[task])
    raise ValueError(f"system prompts {setting!r}: choose one of {', '.join(SETTINGS)}")
