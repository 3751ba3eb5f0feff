"""Finding tasks is not comparing strings: own system prompts, a shared one, none, and reworded ones.

Real `slmfleet discover` on a log of the demo's calls; no cluster. Prints what it found, missed and took wrongly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from demo import traffic
from demo.cluster import ROOT

from slmfleet.curation.report import score
from slmfleet.recognise import Classifier

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SIZE = traffic.Size({"snips": 900, "banking": 1400, "other": 250}, {"snips": 200, "banking": 200, "other": 100}, 1)
NARROW = ("snips", "banking")


def record(call: Any, answers: dict[str, str]) -> dict[str, Any]:
    """One call as the gateway logs it."""
    from demo.keys import request_key

    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=call.at_seconds)
    message = {"role": "assistant", "content": answers[request_key(call.request["messages"])]}
    return {"id": call.id, "time": at.isoformat(), "conversation": call.conversation, "status": 200, "tier": "llm",
            "request": call.request, "response": {"choices": [{"index": 0, "message": message}]}}


def truth(task: str) -> str | None:
    return task if task in NARROW else None


@pytest.mark.parametrize("setting", traffic.SETTINGS)
def test_both_tasks_are_found_and_recognised(setting: str, tmp_path: Path) -> None:
    made = traffic.build(SIZE, setting, 3)
    answers = {row["key"]: row["content"] for row in made.answers}
    learned = [call for call in made.calls if call.phase == "train"]
    later = [call for call in made.calls if call.phase == "later"]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(record(call, answers)) + "\n" for call in learned), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "slmfleet.cli", "discover", "--records", str(log), "--out", str(tmp_path / "out"),
         "--min-share", "0.05"],
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(each) for each in (tmp_path / "out" / "assignments.jsonl").read_text("utf-8").splitlines()]
    found = score({call.id: truth(call.task) for call in learned}, {each["id"]: each["cluster"] for each in lines})
    result = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    classifier = Classifier.load(tmp_path / "out" / "classifier.npz", result["classifier"]["digest"])
    taken = {call.id: classifier.classify(call.request).label for call in later}
    routed = score({call.id: truth(call.task) for call in later}, taken)
    print(f"\n{setting}: discovery on {len(learned)} calls: {found.tasks_found} of {found.tasks_sent} tasks in "
          f"{found.clusters} clusters, purity {found.purity:.3f}, missed {found.missed:.1%}, "
          f"foreign {found.foreign:.1%}; routing of {len(later)} later calls: purity {routed.purity:.3f}, "
          f"missed {routed.missed:.1%}, foreign {routed.foreign:.1%} of {routed.foreign_calls}")
    assert found.tasks_found == 2
    assert found.purity >= 0.97
    assert found.missed <= 0.05
    assert found.foreign <= 0.05
    assert routed.purity >= 0.97
    assert routed.missed <= 0.2
    assert routed.foreign <= 0.05
