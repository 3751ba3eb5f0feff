"""What goes wrong ends in a condition with a reason and a message that says what to do, and no call is lost.

Runs on the cluster that test_line.py left, so `make test-long` runs that one too: two promoted specialists.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import look
import pytest
import yaml
from demo import loop, sending
from demo.cluster import ROOT, until
from demo.steps import Run

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]


def reason(line: Run, kind: str, name: str, type: str) -> str:
    return str(look.condition(line, kind, name, type).get("reason"))


def wish(line: Run, name: str, **changes: Any) -> dict[str, Any]:
    """A Specialist of another name for the seven-intent task."""
    found = yaml.safe_load(loop.specialist(line, "voice"))
    found["metadata"]["name"] = name
    found["spec"] |= changes
    return dict(found)


def test_a_training_job_without_enough_memory_says_so(line: Run) -> None:
    starved = wish(line, "starved")
    starved["spec"]["training"] |= {"resources": {"cpu": "100m", "memory": "256Mi"}, "backoffLimit": 0, "seed": 5}
    line.cluster.apply(json.dumps(starved))
    until("the reason", 240, lambda: reason(line, "specialist", "starved", "Trained") == "OutOfMemory", every=1)
    said = look.condition(line, "specialist", "starved", "Trained")["message"]
    assert "raise the memory" in said
    assert look.condition(line, "specialist", "starved", "Stalled")["status"] == "True"
    line.cluster.kubectl("delete", "specialist", "starved")


def test_too_few_examples_are_refused_with_the_numbers(line: Run) -> None:
    line.cluster.apply(json.dumps(wish(line, "thin", dataset={"minimumExamples": 1_000_000})))
    until("the reason", 180, lambda: reason(line, "specialist", "thin", "DatasetReady") == "TooFewExamples", every=1)
    assert "1000000" in look.condition(line, "specialist", "thin", "DatasetReady")["message"].replace(",", "")
    line.cluster.kubectl("delete", "specialist", "thin")


def test_an_adapter_that_is_not_what_was_asked_for_is_refused_by_the_pool(line: Run) -> None:
    stable = look.status(line, "specialist", "voice")["stable"]
    wrong = "sha256:" + "0" * 64
    line.cluster.apply(json.dumps(wish(line, "forged", base={"name": "tiny"},
                                       artifact=f"file:///{stable['path']}@{wrong}")))
    until("the reason", 180, lambda: reason(line, "basemodel", "tiny", "AdaptersPlaced") == "AdapterRefused", every=1)
    said = look.condition(line, "basemodel", "tiny", "AdaptersPlaced")["message"]
    assert "DigestMismatch" in said
    assert look.status(line, "specialist", "forged")["weightPercent"] == 0
    line.cluster.kubectl("delete", "specialist", "forged")


def test_a_pool_that_never_gets_ready_keeps_the_calls_where_they_were(line: Run) -> None:
    stable = look.status(line, "specialist", "voice")["stable"]
    broken = {"apiVersion": "slmfleet.dev/v1alpha1", "kind": "BaseModel", "metadata": {"name": "broken"},
              "spec": {"source": {"storePath": "bases/not-there"}, "parameters": 1000, "contextTokens": 512,
                       "licence": "MIT", "memory": "1Gi", "pool": {"resources": {"cpu": "50m", "memory": "1Gi"}}}}
    line.cluster.apply(json.dumps(broken))
    line.cluster.apply(json.dumps(wish(line, "stranded", base={"name": "broken"},
                                       artifact=f"file:///{stable['path']}@{stable['artifact']}")))
    until("the reason", 240, lambda: reason(line, "basemodel", "broken", "PoolAvailable") == "PodFailing", every=2)
    sending.send(line, "stranded", "--phase", "later", "--round", "3", "--tasks", "snips", "--limit", "40")
    assert look.errors(look.results(line, "stranded")) == []
    line.cluster.kubectl("delete", "specialist/stranded", "basemodel/broken")


def test_a_corrupt_segment_is_set_aside_and_the_rest_is_used(line: Run) -> None:
    folder = next((line.store / "usage" / "fleet").iterdir())
    (folder / "damaged.seg").write_bytes(b"not a segment at all")
    whole = next(path for path in sorted(folder.glob("*.seg")) if path.name != "damaged.seg")
    cut = folder / "cut.seg"
    cut.write_bytes(whole.read_bytes()[:-20])
    for each in (folder / "damaged.seg", cut):
        each.chmod(0o644)
    line.cluster.apply(json.dumps(wish(line, "scarred", dataset={"minimumExamples": 200, "heldoutPercent": 25})))
    until("the dataset", 180, every=1,
          look=lambda: look.condition(line, "specialist", "scarred", "DatasetReady").get("status") == "True")
    assert look.condition(line, "specialist", "scarred", "DatasetReady")["reason"] == "DatasetStored"
    line.cluster.kubectl("delete", "specialist", "scarred")


def test_a_store_that_cannot_be_written_is_named_and_no_record_is_lost(line: Run) -> None:
    log = line.store / "usage" / "fleet"
    shut = [log, *(day for day in log.iterdir() if day.is_dir())]
    for folder in shut:
        folder.chmod(0o555)
    try:
        sending.send(line, "shut", "--phase", "later", "--round", "3", "--limit", "200")
        until("the reason", 90, lambda: reason(line, "router", "fleet", "CaptureHealthy") == "StoreUnwritable", every=1)
        held = look.signals(line)["capture"]
    finally:
        for folder in shut:
            folder.chmod(0o755)
    assert look.errors(look.results(line, "shut")) == []
    until("the records are written", 90, every=1,
          look=lambda: look.signals(line)["capture"]["records"] >= held["records"] + 200)
    assert look.signals(line)["capture"]["dropped"] == held["dropped"] == 0
    until("the condition", 60, lambda: reason(line, "router", "fleet", "CaptureHealthy") == "Capturing", every=1)


def test_an_llm_that_is_down_is_named_and_specialists_go_on(line: Run) -> None:
    until("a warm pool", 180, lambda: _warm(line), every=1)
    line.cluster.kubectl("scale", "deployment/replay-llm", "--replicas=0")
    try:
        until("no LLM", 60, lambda: not line.cluster.list("pods", "app=replay-llm"), every=1)
        command = sending.agent_command(line, "down", "--phase", "later", "--round", "3", "--limit", "200")
        subprocess.run(command, env=sending.agent_env(), cwd=ROOT, check=False)
        until("the condition", 60, lambda: reason(line, "router", "fleet", "LlmAnswering") == "LlmFailing", every=1)
    finally:
        line.cluster.kubectl("scale", "deployment/replay-llm", "--replicas=1")
    rows = look.results(line, "down")
    served = [row for row in rows if row["tier"] == "specialist"]
    assert served and look.errors(served) == []
    until("the LLM is back", 180, lambda: reason(line, "router", "fleet", "LlmAnswering") == "Answering", every=2)


def _warm(line: Run) -> bool:
    sending.send(line, "warm", "--phase", "later", "--round", "3", "--tasks", "snips", "--limit", "2")
    return bool(look.status(line, "basemodel", "tiny").get("readyReplicas", 0) >= 1)
