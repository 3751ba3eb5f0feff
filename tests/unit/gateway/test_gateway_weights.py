"""Many route tables in a row, under load: no call fails, and each conversation is in the arm its table says."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from gateway_fakes import Answer, Rig, task

from slmfleet.gateway.arms import bucket

CALLERS = 4
SALT = "s"
REVISIONS = {"stable": "rev1", "candidate": "rev2"}


def weight_of(version: int) -> int:
    """Up in steps of 7, back to 0 at 105, and so on: every weight comes from below and from above."""
    return min(100, 7 * (version % 16))


def with_weight(content: dict[str, Any], version: int) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(content))
    copy["version"] = version
    copy["pools"][0]["max_in_flight"] = 100
    candidate = {"name": "rev2", "adapter": "intents-2", "pool": "tiny"}
    copy["specialists"][0] |= {"candidate": candidate, "weight_percent": weight_of(version), "salt": SALT}
    return copy


async def call(rig: Rig, caller: Any, conversation: str) -> Answer:
    body = json.dumps(task()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-conversation-id: {conversation}\r\n"
    caller.send(head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    answer: Answer = await caller.answer()
    return answer


@pytest.mark.parametrize("changes", [100, pytest.param(1000, marks=pytest.mark.long)])
async def test_changes_under_load_fail_no_call_and_move_no_conversation_unasked(rig: Rig, changes: int) -> None:
    await rig.use(with_weight(rig.content, 2))
    done = asyncio.Event()
    wrong: list[str] = []
    calls = 0

    async def talk(number: int) -> None:
        nonlocal calls
        caller = await rig.connect()
        for turn in itertools.count():
            if done.is_set():
                break
            conversation = f"c{number}-{turn % 20}"
            first = rig.gateway.counters.table_version
            answer = await call(rig, caller, conversation)
            last = rig.gateway.counters.table_version
            calls += 1
            place = bucket(SALT, conversation)
            arms = {"candidate" if place < weight_of(v) else "stable" for v in range(first, last + 1)}
            route = answer.route
            fine = answer.status == 200 and route["tier"] == "specialist" and route["arm"] in arms
            if not fine or route["revision"] != REVISIONS[route["arm"]]:
                wrong.append(f"{conversation} {answer.status} {route} but {arms}")
        caller.close()

    talking = [asyncio.create_task(talk(number)) for number in range(CALLERS)]
    before = {str(endpoint["url"]) for endpoint in rig.content["pools"][0]["endpoints"]}
    for version in range(3, changes + 3):
        await rig.use(with_weight(rig.content, version))
    done.set()
    await asyncio.gather(*talking)
    assert wrong == []
    assert calls >= changes / 10
    assert set(rig.gateway.watcher.servers) == before
    arms = rig.signals.specialists["intents"].arms
    assert arms["rev1"].served + arms["rev2"].served == calls
    assert arms["rev1"].errors + arms["rev2"].errors == 0
